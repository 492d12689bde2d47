"""Inference-time compute: strategies that sample, search and vote over branches of one prompt."""

from __future__ import annotations

from updraft.strategies.base import Strategy
from updraft.strategies.branches import Branch, Forks
from updraft.strategies.places import EnginePlaces, Places
from updraft.strategies.problem import Alternative, Budget, Outcome, Problem, Progress, Sample, Spent
from updraft.strategies.registry import STRATEGIES, parse_strategy
from updraft.strategies.solve import solve
from updraft.strategies.workspace import Workspace

__all__ = [
    "STRATEGIES",
    "Alternative",
    "Branch",
    "Budget",
    "EnginePlaces",
    "Forks",
    "Outcome",
    "Places",
    "Problem",
    "Progress",
    "Sample",
    "Spent",
    "Strategy",
    "Workspace",
    "parse_strategy",
    "solve",
]
