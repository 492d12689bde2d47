"""Strategies in the engine's process: answers that are sampled, searched and voted for."""

from __future__ import annotations

from updraft_cloud.solving.solver import Solver
from updraft_cloud.solving.verifiers import make_verifier, open_resources, verifier_names

__all__ = ["Solver", "make_verifier", "open_resources", "verifier_names"]
