"""What sharing passes by overlap of experts would be worth: the runs of a trace, regrouped and simulated."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from updraft_cloud.experts.costs import Costs
from updraft_cloud.experts.policies.base import Floats, Ints
from updraft_cloud.experts.policies.forecast import TokenTable, any_of
from updraft_cloud.experts.policies.registry import make_policy
from updraft_cloud.experts.replay import Replay, union_sizes
from updraft_cloud.experts.simulate import simulate
from updraft_cloud.experts.together import choose_together
from updraft_cloud.experts.trace import RouteTrace

__all__ = ["TraceRun", "compare_groupings", "regroup", "routed_chances", "runs_of", "table_chances"]


Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class TraceRun:
    """Consecutive rows of one sequence in one pass."""

    sequence: int
    rows: Ints


def runs_of(trace: RouteTrace) -> list[TraceRun]:
    """The runs of a trace, in order of arrival."""
    passes, sequences = trace.row_passes, trace.sequences
    cuts = np.nonzero((np.diff(passes) != 0) | (np.diff(sequences) != 0))[0] + 1
    parts = np.split(np.arange(len(trace)), cuts)
    return [TraceRun(int(sequences[rows[0]]), rows) for rows in parts]


def routed_chances(trace: RouteTrace) -> Callable[[TraceRun], Floats]:
    """What a predictor that is always right would say of a run, for a bound."""
    keys = trace.shape.layers * trace.shape.experts
    first = np.arange(trace.shape.layers)[:, None] * trace.shape.experts

    def chances(run: TraceRun) -> Floats:
        found = np.zeros(keys, np.float32)
        found[(trace.routes[run.rows].astype(np.int64) + first).ravel()] = 1.0
        return found

    return chances


def regroup(
    trace: RouteTrace, most: int, waiting: int, chances: Callable[[TraceRun], Floats] | None = None
) -> RouteTrace:
    """The trace as if its runs had shared passes otherwise.

    Each sequence has one run at a time; those of the sequences that have waited longest are looked at.

    Args:
        most: tokens of a pass.
        waiting: runs that wait at once, at most.
        chances: what is foretold of a run; None takes them in order of arrival.
    """
    queues: dict[int, deque[TraceRun]] = {}
    for run in runs_of(trace):
        queues.setdefault(run.sequence, deque()).append(run)
    order = deque(queues)
    found: list[list[TraceRun]] = []
    while order:
        sequences = [order[place] for place in range(min(waiting, len(order)))]
        runs = [queues[sequence][0] for sequence in sequences]
        sizes = [len(run.rows) for run in runs]
        if chances is None:
            fits = np.cumsum(sizes) <= most
            places = list(range(max(1, int(fits.sum()))))
        else:
            places = choose_together(np.stack([chances(run) for run in runs]), sizes, most)
        found.append([runs[place] for place in places])
        for place in places:
            sequence = sequences[place]
            order.remove(sequence)
            queues[sequence].popleft()
            if queues[sequence]:
                order.append(sequence)
    rows = np.concatenate([run.rows for runs in found for run in runs])
    lengths = [sum(len(run.rows) for run in runs) for runs in found]
    return trace.taken(rows, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def compare_groupings(trace: RouteTrace, policy: str, slots: int, costs: Costs, most: int, waiting: int) -> Rows:
    """What sharing passes by overlap is worth: in order of arrival, by a table of tokens, and by knowing the routes.

    The table learns from the first half of the trace; the second is regrouped.

    Args:
        policy: by name, under which bytes are moved.
        most, waiting: see `regroup`.
    """
    half = max(1, trace.pass_count // 2)
    table = TokenTable(trace.shape)
    Replay(trace.part(0, half)).forecasts(table)
    rest = trace.part(half, trace.pass_count) if half < trace.pass_count else trace
    ways = {"arrival": None, "tokens": table_chances(rest, table.chances), "routes known": routed_chances(rest)}
    rows = []
    for name, chances in ways.items():
        grouped = regroup(rest, most, waiting, chances)
        result = simulate(Replay(grouped), make_policy(policy, trace.shape, slots), slots, costs)
        rows.append(
            {
                "grouping": name,
                "passes": grouped.pass_count,
                "experts_per_pass": float(union_sizes(grouped).mean()),
                "bytes_moved": result.statistics.bytes_moved,
                "seconds": result.seconds,
            }
        )
    return rows


def table_chances(trace: RouteTrace, table: Callable[[Ints], Floats]) -> Callable[[TraceRun], Floats]:
    """What a predictor of single tokens says of a run; `table` gives shape (tokens, keys)."""
    return lambda run: any_of(table(trace.tokens[run.rows]))
