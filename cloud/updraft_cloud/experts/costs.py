"""What moving and computing experts costs, and the choice between the two (Fiddler, arXiv 2402.07033)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Costs", "Line", "host_share"]


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds as a function of tokens: `base + each x tokens`."""

    base: float
    each: float = 0.0

    def __call__(self, tokens: int) -> float:
        return self.base + self.each * tokens


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds.

    Attributes:
        copy: of bringing one expert to the device.
        device: of computing one expert there.
        host: of computing one on the host instead; None where that is not to be done.
        dense: of one layer without its experts.
    """

    copy: float
    device: Line
    host: Line | None = None
    dense: Line = Line(0.0)

    @classmethod
    def of_link(cls, expert_bytes: int, bytes_per_s: float, latency_s: float = 2e-5) -> Costs:
        """Of a link, with the other costs in a usual proportion to its copies.

        On a GPU an expert's weights are read from its own memory in a fiftieth of the time that PCIe takes, and the
        dense part of a layer takes about as long as four experts.
        """
        copy = expert_bytes / bytes_per_s + latency_s
        return cls(copy, Line(copy / 50, copy / 2000), None, Line(copy / 12, copy / 500))


def host_share(counts: Sequence[int], costs: Costs, waiting_s: float = 0.0) -> list[bool]:
    """Which absent experts to compute on the host: those with which the layer is through earliest.

    Host and link work at the same time. Experts with few tokens go to the host first; Fiddler instead minimises the sum
    of both times over all 2^n assignments.

    Args:
        counts: tokens of each absent expert.
        waiting_s: time for which the link is taken before it can bring the first.
    """
    chosen = [False] * len(counts)
    if costs.host is None or not counts:
        return chosen
    order = sorted(range(len(counts)), key=counts.__getitem__)
    on_host = 0.0
    loads = len(counts)
    best = waiting_s + loads * costs.copy + costs.device(max(counts))
    for place, number in enumerate(order):
        on_host += costs.host(counts[number])
        left = loads - place - 1
        on_link = waiting_s + left * costs.copy + costs.device(counts[order[-1]]) if left else 0.0
        if max(on_host, on_link) >= best:
            break
        best = max(on_host, on_link)
        chosen[number] = True
    return chosen
