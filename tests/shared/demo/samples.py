"""Answers and reports made by hand."""

from __future__ import annotations

from typing import Any

from updraft.demo.report import DemoReport, Outage, Tier, WayFigures
from updraft.generation import Completion, Statistics, TokenEvent
from updraft.modes import Origin

__all__ = ["completion", "event", "outage", "report", "tier", "way_figures"]


def completion(text: str = "a b", *, mode: str = "draft", degraded: bool = False, **counts: Any) -> Completion:
    reason = "cloud_unavailable" if degraded else None
    return Completion(text, [], "length", mode, "updraft", 7, degraded, reason, Statistics(**counts))


def event(text: str, origin: Origin = Origin.EDGE, *, verified: bool = True) -> TokenEvent:
    return TokenEvent(0, 1, text, -1.0, 1.0, 1.0, origin, verified, 0.5)


def tier(model: str = "smollm2", address: str | None = None, cores: tuple[int, ...] | None = (0,)) -> Tier:
    return Tier(model, "Q4_0", 30, 90_000_000, 123, cores, 1, address)


def way_figures(mode: str = "draft", temperature: float = 0.0, **changes: Any) -> WayFigures:
    values: dict[str, Any] = {
        "prompts": 6,
        "tokens": 288,
        "tokens_per_second": 31.4,
        "cloud_passes_per_token": 0.355,
        "cloud_positions_per_token": 2.16,
        "cloud_share": 0.36,
        "bytes_up_per_token": 18.04,
        "bytes_down_per_token": 23.3,
        "first_token_seconds": 0.3,
        "same_text": 6,
        "degraded": 0,
    }
    return WayFigures(mode, temperature, **(values | changes))


def outage(**changes: Any) -> Outage:
    values: dict[str, Any] = {
        "killed_after": 16,
        "tokens": 48,
        "alone": 30,
        "completed": True,
        "degraded": True,
        "reason": "cloud_unavailable",
        "longest_pause_seconds": 0.8,
        "restart_seconds": 0.7,
        "next_tokens": 37,
        "next_cloud_passes": 17,
        "next_degraded": False,
    }
    return Outage(**(values | changes))


def report(*ways: WayFigures, **changes: Any) -> DemoReport:
    rows = ways or (way_figures("cloud"), way_figures("draft"))
    return DemoReport(tier("small"), tier("large", "127.0.0.1:1"), True, 48, 7, rows, outage(**changes))
