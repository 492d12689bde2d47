"""Measures what this machine takes to bring an expert to the device, and to compute it there and on the host."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Final

from updraft.engine.experts import ExpertSource
from updraft_cloud.experts.carriers import Carrier
from updraft_cloud.experts.costs import Costs, Line
from updraft_cloud.experts.host_weights import HostWeights

__all__ = ["measure_costs"]

_TOKENS: Final = (1, 16)
_ROUNDS: Final = 5


def measure_costs(
    source: ExpertSource, carrier: Carrier, *, host: bool = True, host_slowdown: float = 1.0, pinned_bytes: int = 0
) -> Costs:
    """Medians of a few rounds on the first expert; lines through 1 and 16 tokens.

    Args:
        host: whether the host may compute, too.
        host_slowdown: see `HostExperts`.
    """
    import torch

    def wait() -> None:
        if source.device.type == "cuda":
            torch.cuda.synchronize(source.device)

    held = HostWeights(source, pinned_bytes)
    weights = held.fetch(0)
    slot = {name: torch.empty_like(values, device=source.device) for name, values in weights.items()}
    copy = _seconds(lambda: carrier.carry(weights, 0, slot), wait)
    points: dict[str, list[float]] = {"device": [], "host": []}
    for tokens in _TOKENS:
        rows = source.embed(torch.zeros(tokens, dtype=torch.int64, device=source.device))
        points["device"].append(_seconds(partial(source.apply, slot, rows), wait))
        points["host"].append(host_slowdown * _seconds(partial(source.apply, held.stored(0), rows.cpu()), wait))
    return Costs(copy, _line(points["device"]), _line(points["host"]) if host else None)


def _seconds(work: Callable[[], object], wait: Callable[[], None]) -> float:
    times = []
    work()
    for _ in range(_ROUNDS):
        wait()
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return median(times)


def _line(points: list[float]) -> Line:
    first, last = _TOKENS
    each = max(0.0, (points[1] - points[0]) / (last - first))
    return Line(max(points[0] - each, 1e-9), each)
