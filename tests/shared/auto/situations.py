"""Situations and outcomes, for tests of the mode `auto`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from updraft.auto.context import Situation
from updraft.auto.history import Record
from updraft.auto.reward import Outcome

__all__ = ["outcome", "record", "situation"]


def situation(**given: Any) -> Situation:
    usual = Situation(
        edge_s=0.006,
        cloud_s=0.008,
        round_trip_s=0.02,
        throughput=20_000.0,
        agreement=0.7,
        load=0.3,
        battery=False,
        prompt_tokens=40,
        tokens=64,
        sampled=False,
        chat=True,
        digits=0.0,
        marks=0.1,
    )
    return replace(usual, **given)


def outcome(**given: Any) -> Outcome:
    usual = Outcome(
        tokens=64,
        seconds=0.8,
        unverified=0,
        probability=0.0,
        tolerated=0,
        cloud_tokens=20,
        cloud_passes=20,
        degraded=False,
    )
    return replace(usual, **given)


def record(arm: str = "draft", **given: Any) -> Record:
    usual: dict[str, Any] = {"version": 1, "time": 1.0, "pair": "p", "goal": "balanced", "arm": arm}
    usual |= {"propensity": 0.9, "random": False, "expected": {"edge": (0.6, 0.1), "draft": (0.7, 0.1)}, "reward": 0.75}
    return Record(**{**usual, "situation": situation(), "outcome": outcome(), **given})
