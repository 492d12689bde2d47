"""The simulation: figures that can be reckoned by hand, and bounds that nothing breaks."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.routing import Routing, make_trace
from updraft.errors import ConfigError, UnknownName
from updraft_cloud.experts.costs import Costs, Line, host_share
from updraft_cloud.experts.evaluation import Sweep, rows_of, slots_of, sweep
from updraft_cloud.experts.policies import NoForecast, Policy
from updraft_cloud.experts.policies.registry import POLICIES, clairvoyant, make_policy
from updraft_cloud.experts.policies.replacement import Recency
from updraft_cloud.experts.replay import Replay
from updraft_cloud.experts.simulate import Simulated, simulate
from updraft_cloud.experts.trace import RouteTrace

COSTS = Costs(copy=1.0, device=Line(0.1), dense=Line(0.5))
ROUTING = Routing(layers=3, experts=8, active=2, vocabulary=40, sessions=3, draft=3)


def trace_of(choices: list[list[int]], active: int = 1) -> RouteTrace:
    """One token a pass; `choices[pass][layer]`."""
    passes, layers = len(choices), len(choices[0])
    base = make_trace(passes, Routing(layers=layers, experts=8, active=active, vocabulary=9, draft=1, together=1))
    rows = base.taken(np.arange(passes), np.arange(passes + 1, dtype=np.int64))
    return replace(rows, routes=np.array(choices, np.uint8)[:, :, None], ahead=None)


def plain(replay: Replay, slots: int, costs: Costs = COSTS) -> Simulated:
    return simulate(replay, Policy("lru", Recency(replay.shape), NoForecast()), slots, costs)


def test_time_is_what_it_is_by_hand() -> None:
    replay = Replay(trace_of([[0], [0], [1]]))
    result = plain(replay, 1)
    counts = result.statistics
    assert (counts.hits, counts.misses, counts.loaded, counts.evictions) == (1, 2, 2, 1)
    assert result.seconds == pytest.approx(3 * 0.6 + 2.0)
    assert counts.stall_s == pytest.approx(2.0)
    assert result.compute_s == pytest.approx(1.8)
    assert sum(result.layer_stall_s) == counts.stall_s
    assert result.row()["bytes_moved"] == 2 * replay.shape.expert_bytes


def test_more_experts_than_slots_are_worked_through_in_groups() -> None:
    trace = make_trace(8, replace(ROUTING, sessions=2, draft=4))
    replay = Replay(trace)
    result = plain(replay, 1)
    needed = sum(len(keys) for keys in replay.events)
    assert result.statistics.loaded == result.statistics.misses == needed
    # One slot: an expert can only come when the one before it is computed.
    dense = COSTS.dense.base * replay.shape.layers * trace.pass_count
    assert result.seconds == pytest.approx(dense + needed * 1.1)


def test_a_useless_prefetch_delays_what_is_needed() -> None:
    """The oracle of one trace misleads on another that is the same to its second pass."""
    honest, other = trace_of([[0, 1], [2, 3]]), trace_of([[0, 1], [4, 5]])
    slots = 4
    misled = clairvoyant("oracle", Replay(other), slots)
    calm = simulate(Replay(honest), Policy("lru", Recency(honest.shape), NoForecast()), slots, COSTS)
    wrong = simulate(Replay(honest), Policy("lru", Recency(honest.shape), misled.forecaster), slots, COSTS)
    assert wrong.statistics.prefetched > 0
    assert wrong.statistics.loaded > calm.statistics.loaded
    assert wrong.statistics.stall_s > 0.0


def test_a_right_prefetch_hides_a_copy_behind_computing() -> None:
    replay = Replay(trace_of([[0, 1, 2]] * 2 + [[3, 4, 5]]))
    slow = replace(COSTS, dense=Line(5.0))
    oracle = simulate(replay, clairvoyant("oracle", replay, 6), 6, slow)
    belady = simulate(replay, clairvoyant("belady", replay, 6), 6, slow)
    assert oracle.statistics.stall_s == pytest.approx(0.0)  # even the first comes while the dense part is computed
    assert belady.statistics.stall_s == pytest.approx(6.0)


def test_the_host_takes_what_it_computes_sooner() -> None:
    costs = replace(COSTS, host=Line(0.3, 0.3))
    assert host_share([1], costs) == [True]
    assert host_share([9], costs) == [False]
    assert host_share([1, 1, 1, 1], costs) == [True, True, True, False]  # 1.8 s on the host, 1.1 s on the link
    assert host_share([1, 50], costs) == [True, False]
    assert host_share([2], COSTS) == [False]
    replay = Replay(make_trace(40, ROUTING))
    assert plain(replay, 6, costs).seconds < plain(replay, 6).seconds
    assert plain(replay, 6, costs).statistics.on_host > 0


@settings(max_examples=30, deadline=None)
@given(
    events=st.lists(st.sets(st.integers(0, 4), min_size=1, max_size=2), min_size=1, max_size=6), slots=st.integers(2, 3)
)
def test_belady_loads_as_few_as_any_choice_of_victims(events: list[set[int]], slots: int) -> None:
    """Against all ways of demand loading, by brute force."""
    states = {frozenset[int](): 0}
    for needed in events:
        after: dict[frozenset[int], int] = {}
        for held, loads in states.items():
            absent = needed - held
            spare = held - needed
            for kept in itertools.combinations(sorted(spare), min(len(spare), slots - len(needed))):
                state = frozenset(needed | set(kept))
                after[state] = min(after.get(state, 10**9), loads + len(absent))
        states = after
    rows = [sorted(needed) for needed in events]
    trace = trace_of([[row[0]] for row in rows for _ in range(2)])
    routes = np.array([value for row in rows for value in (row[0], row[-1])], np.uint8)[:, None, None]
    trace = replace(trace, routes=routes, passes=np.arange(0, 2 * len(rows) + 1, 2, dtype=np.int64))
    replay = Replay(trace)
    assert simulate(replay, clairvoyant("belady", replay, slots), slots, COSTS).statistics.loaded == min(
        states.values()
    )


@pytest.mark.parametrize("share", [0.15, 0.4, 0.8])
def test_nothing_beats_the_bounds(share: float) -> None:
    replay = Replay(make_trace(150, ROUTING))
    rows = rows_of(sweep(replay, COSTS, Sweep(shares=(share,))), replay.shape)
    assert {row["policy"] for row in rows} >= {"lru", "draft", "belady", "oracle"}
    for row in rows:
        assert row["loads_vs_belady"] >= 1.0 - 1e-9 or row["on_host"]
        assert row["least_seconds"] <= row["seconds"] + 1e-9
        assert 0.0 <= row["hit_rate"] <= 1.0 and row["stall_s"] >= -1e-9
        assert row["prefetched"] <= row["loads"]


@pytest.mark.parametrize("name", [name for name, kind in POLICIES.items() if kind.forecast != "trained"])
def test_with_room_for_all_everything_is_loaded_once(name: str) -> None:
    replay = Replay(make_trace(100, ROUTING))
    slots = slots_of(replay.shape, 1.0)
    result = simulate(replay, make_policy(name, replay.shape, slots), slots, COSTS)
    distinct = len(np.unique(np.concatenate(replay.events)))
    assert distinct <= result.statistics.loaded <= slots
    assert result.statistics.evictions == 0


def test_forecasts_made_once_are_those_of_each_budget() -> None:
    replay = Replay(make_trace(120, ROUTING))
    shares = (0.3, 0.6)
    swept = {(one.policy, one.slots): one for one in sweep(replay, COSTS, Sweep(("draft", "affinity"), shares))}
    for name, share in itertools.product(("draft", "affinity"), shares):
        slots = slots_of(replay.shape, share)
        alone = simulate(replay, make_policy(name, replay.shape, slots), slots, COSTS)
        assert alone.row() == swept[name, slots].row()


def test_predictions_pay_on_traffic_that_can_be_predicted() -> None:
    """Tokens that alone decide what is chosen: what the tokens chose before beats age, in loads and in time."""
    sure = replace(ROUTING, token=6.0, affinity=0.0, noise=0.0, skew=0.0, vocabulary=30, experts=16)
    replay = Replay(make_trace(600, sure))
    rows = {row["policy"]: row for row in rows_of(sweep(replay, COSTS, Sweep(("draft",), (0.5,))), replay.shape)}
    assert rows["draft"]["loads_vs_lru"] < 0.8
    assert rows["draft"]["time_vs_lru"] < 0.8


def test_what_cannot_be_simulated_is_refused() -> None:
    replay = Replay(make_trace(10, ROUTING))
    with pytest.raises(UnknownName, match="hope"):
        sweep(replay, COSTS, Sweep(("hope",)))
    with pytest.raises(ConfigError, match="trained predictor"):
        sweep(replay, COSTS, Sweep(("trained",)))
    with pytest.raises(ConfigError, match="above 0"):
        Sweep(shares=(0.0,))


def test_tokens_of_waiting_sessions_are_known_a_pass_ahead() -> None:
    trace = make_trace(60, replace(ROUTING, sessions=4, together=2))
    replay = Replay(trace)
    assert all(len(known) == len(own) for known, own in zip(replay.known[1:], replay.tokens[1:], strict=True))
    crowded = Replay(make_trace(60, replace(ROUTING, sessions=2, together=2)))
    assert not any(len(known) for known in crowded.known[1:])
