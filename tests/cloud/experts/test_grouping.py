"""What regrouping the runs of a trace is worth: fewer experts a pass than in order of arrival."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.fakes.routing import Routing, make_trace
from updraft_cloud.experts.costs import Costs
from updraft_cloud.experts.grouping import (
    compare_groupings,
    regroup,
    routed_chances,
    runs_of,
    table_chances,
)
from updraft_cloud.experts.replay import union_sizes


def test_grouping_by_overlap_needs_fewer_experts_a_pass() -> None:
    """Sessions that talk of different things: two kinds of tokens with experts of their own."""
    trace = make_trace(800, Routing(layers=2, experts=16, active=2, vocabulary=60, sessions=8, together=2, noise=0.0))
    half = (trace.routes // 2 + 8 * (trace.sequences % 2)[:, None, None]).astype(np.uint8)
    distinct = np.where(
        half[..., :1] == half[..., 1:], (half[..., 1:] // 8) * 8 + (half[..., 1:] + 1) % 8, half[..., 1:]
    )
    trace = replace(trace, routes=np.concatenate([half[..., :1], distinct], axis=2), ahead=None)
    size = 4 * len(runs_of(trace)[0].rows)
    arrival = regroup(trace, size, 8)
    grouped = regroup(trace, size, 8, routed_chances(trace))
    assert len(grouped) == len(arrival) == len(trace)
    assert union_sizes(grouped).mean() < 0.85 * union_sizes(arrival).mean()
    for one in (arrival, grouped):
        assert np.bincount(one.row_passes).max() <= size
        for sequence in range(8):  # in each sequence the order is that of arrival
            rows = one.sequences == sequence
            assert np.array_equal(one.tokens[rows], trace.tokens[trace.sequences == sequence])


def test_groupings_are_compared_on_what_the_table_has_not_seen() -> None:
    trace = make_trace(500, Routing(layers=2, experts=16, active=2, vocabulary=40, sessions=6, draft=3, noise=0.1))
    costs = Costs.of_link(trace.shape.expert_bytes, 1e9)
    rows = {row["grouping"]: row for row in compare_groupings(trace, "lru-layer", 16, costs, most=9, waiting=6)}
    assert list(rows) == ["arrival", "tokens", "routes known"]
    assert rows["routes known"]["experts_per_pass"] < rows["arrival"]["experts_per_pass"]
    assert rows["tokens"]["experts_per_pass"] < rows["arrival"]["experts_per_pass"]


def test_a_table_of_single_tokens_speaks_for_runs() -> None:
    trace = make_trace(40, Routing(layers=1, experts=4, active=1, vocabulary=5))
    chances = table_chances(trace, lambda tokens: np.full((len(tokens), 4), 0.5, np.float32))
    run = runs_of(trace)[0]
    assert np.allclose(chances(run), 1 - 0.5 ** len(run.rows))
