"""The store: the bits of resident experts under any budget, and books that are right whatever fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.moe_source import RandomMoe
from updraft.errors import ConfigError, EngineFailure
from updraft_cloud.experts.carriers import ThrottledCarrier
from updraft_cloud.experts.costs import Costs, Line
from updraft_cloud.experts.host import HostExperts
from updraft_cloud.experts.policies.registry import POLICIES, make_policy
from updraft_cloud.experts.recorder import RecordedRun, RouteRecorder
from updraft_cloud.experts.replay import Replay
from updraft_cloud.experts.simulate import simulate
from updraft_cloud.experts.store import OffloadedExperts
from updraft_cloud.experts.trace import Accepted, RowKind

torch = pytest.importorskip("torch")

PLAIN = [name for name, kind in POLICIES.items() if kind.forecast != "trained"]
PASSES = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10], [1, 2], [3], [11, 12, 13, 14]]

Open = Callable[..., OffloadedExperts]


@pytest.fixture(scope="module")
def moe() -> RandomMoe:
    return RandomMoe()


@pytest.fixture(scope="module")
def resident(moe: RandomMoe) -> list[Any]:
    """What a model with all its experts at hand computes."""
    return [moe.forward(HostExperts(moe), tokens) for tokens in PASSES]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens stores, and at the end finds every one of them in order."""
    stores: list[OffloadedExperts] = []

    def make(source: RandomMoe, policy: str = "draft", slots: int = 4, carrier: Any = None, **options: Any) -> Any:
        budget = slots * source.shape.expert_bytes
        own = carrier or ThrottledCarrier()
        store = OffloadedExperts(source, lambda s, n: make_policy(policy, s, n), budget, own, **options)
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.check_integrity(deep=True)
        assert store.statistics.most_bytes <= store.slots * store.statistics.expert_bytes
        store.close()
        store.close()


@pytest.mark.parametrize("policy", PLAIN)
@pytest.mark.parametrize("slots", [2, 5, 13, 24])
def test_bits_are_those_of_resident_experts(
    opened: Open, moe: RandomMoe, resident: list[Any], policy: str, slots: int
) -> None:
    store = opened(moe, policy, slots)
    for number, tokens in enumerate(PASSES):
        if number + 1 < len(PASSES):
            store.expect(PASSES[number + 1])
        assert torch.equal(moe.forward(store, tokens), resident[number])
        store.check_integrity(deep=True)
    counts = store.statistics
    assert counts.loaded >= counts.misses > 0
    assert counts.failures == 0


def test_demand_loading_is_what_the_simulation_says(opened: Open, moe: RandomMoe) -> None:
    recorder = RouteRecorder(HostExperts(moe), moe.shape)
    for tokens in PASSES * 3:
        moe.forward(recorder, tokens)
    replay = Replay(recorder.trace(model="random", fingerprint="00"))
    for policy in ("lru", "lru-layer", "lfu", "layers", "expected"):
        store = opened(moe, policy, 9)
        for tokens in PASSES * 3:
            moe.forward(store, tokens)
        told = simulate(replay, make_policy(policy, moe.shape, 9), 9, Costs(1.0, Line(0.1))).statistics
        own = store.statistics
        assert (own.hits, own.misses, own.loaded) == (told.hits, told.misses, told.loaded), policy
        assert own.late == own.prefetched == 0


def test_what_is_expected_comes_before_the_pass(opened: Open, moe: RandomMoe) -> None:
    store = opened(moe, "draft", 8)  # one token needs 6, so two tokens take turns in them
    for _ in range(4):
        moe.forward(store, [7])
        moe.forward(store, [9])
    before = store.statistics.prefetched
    store.expect([7])
    deadline = time.monotonic() + 5.0
    while store.statistics.prefetched == before and time.monotonic() < deadline:
        time.sleep(0.001)
    assert store.statistics.prefetched > before
    useful = store.statistics.useful
    moe.forward(store, [7])
    assert store.statistics.useful > useful


def test_a_budget_below_one_tokens_experts_is_refused(moe: RandomMoe) -> None:
    least = moe.shape.active * moe.shape.expert_bytes
    with pytest.raises(ConfigError) as refused:
        OffloadedExperts(moe, lambda s, n: make_policy("lru", s, n), least - 1, ThrottledCarrier())
    assert str(least) in refused.value.remedy


@pytest.mark.parametrize("policy", ["lru", "draft", "look-ahead"])
def test_a_copy_that_fails_fails_the_pass_and_nothing_else(opened: Open, resident: list[Any], policy: str) -> None:
    source = RandomMoe()
    store = opened(source, policy, 6)
    assert torch.equal(source.forward(store, PASSES[0]), resident[0])
    source.broken = {(layer, expert) for layer in range(3) for expert in range(8)}
    failed = 0
    for tokens in (PASSES[2], PASSES[5], PASSES[2]):
        with pytest.raises(EngineFailure, match="disk is gone"):
            source.forward(store, tokens)
        failed += 1
        store.check_integrity()
    source.broken = set()
    for tokens, want in zip(PASSES, resident, strict=True):
        assert torch.equal(source.forward(store, tokens), want)
    assert store.statistics.failures >= failed


class Gated(ThrottledCarrier):
    """Holds every copy until a test lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.carried: list[int] = []

    def carry(self, weights: Any, slot: int, into: Any) -> None:
        assert self.gate.wait(10.0)
        super().carry(weights, slot, into)
        self.carried.append(slot)


def test_a_store_that_is_closed_in_mid_pass_fails_the_pass(moe: RandomMoe) -> None:
    carrier = Gated()
    store = OffloadedExperts(moe, lambda s, n: make_policy("lru", s, n), 1 << 20, carrier)
    failures: list[Exception] = []

    def run() -> None:
        try:
            moe.forward(store, [1])
        except EngineFailure as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    closer = threading.Thread(target=store.close)
    closer.start()
    carrier.gate.set()
    thread.join(10.0)
    closer.join(10.0)
    assert not thread.is_alive() and not closer.is_alive()
    with pytest.raises(EngineFailure, match="closed"):
        store.begin(torch.tensor([1]))


def test_a_throttled_link_takes_its_time(moe: RandomMoe) -> None:
    slow = ThrottledCarrier(bytes_per_s=moe.shape.expert_bytes / 0.02)
    weights = moe.weights(0, 0)
    into = {name: torch.empty_like(values) for name, values in weights.items()}
    start = time.perf_counter()
    slow.carry(weights, 0, into)
    assert time.perf_counter() - start >= 0.02
    assert all(torch.equal(into[name], values) for name, values in weights.items())


def test_the_host_computes_what_it_computes_sooner(opened: Open, moe: RandomMoe, resident: list[Any]) -> None:
    costs = Costs(copy=1.0, device=Line(0.1), host=Line(0.2))
    store = opened(moe, "expected", 6, costs=costs)
    for tokens, want in zip(PASSES, resident, strict=True):
        assert torch.equal(moe.forward(store, tokens), want)
    assert store.statistics.on_host > 0
    assert store.statistics.on_host + store.statistics.loaded == store.statistics.misses


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_passes_under_any_policy(data: st.DataObject) -> None:
    source = RandomMoe(layers=2, experts=5, active=2, width=8, hidden=8, seed=data.draw(st.integers(0, 3)))
    slots, name = data.draw(st.integers(2, 11)), data.draw(st.sampled_from(PLAIN))
    store = OffloadedExperts(
        source, lambda s, n: make_policy(name, s, n), slots * source.shape.expert_bytes, ThrottledCarrier()
    )
    try:
        for _ in range(data.draw(st.integers(1, 5))):
            tokens = data.draw(st.lists(st.integers(0, 63), min_size=1, max_size=6))
            if data.draw(st.booleans()):
                store.expect(data.draw(st.lists(st.integers(0, 63), max_size=4)))
            source.broken = {(1, 3)} if data.draw(st.booleans()) else set()
            try:
                result = source.forward(store, tokens)
            except EngineFailure:
                assert source.broken
                continue
            finally:
                store.check_integrity()
            source.broken = set()
            assert torch.equal(result, source.forward(HostExperts(source), tokens))
        source.broken = set()
        store.check_integrity(deep=True)
    finally:
        store.close()


def test_integrity_finds_damage(opened: Open, moe: RandomMoe) -> None:
    store = OffloadedExperts(moe, lambda s, n: make_policy("lru", s, n), 1 << 20, ThrottledCarrier())
    moe.forward(store, [1])
    key = next(key for key in range(24) if store._book.ready(key))
    store._tensors[store._book.slot(key)]["up"][0, 0] += 1.0
    store.check_integrity()
    with pytest.raises(EngineFailure, match=f"expert {key}"):
        store.check_integrity(deep=True)
    store._budget = 1
    with pytest.raises(EngineFailure, match="of a budget of 1"):
        store.check_integrity()
    store.close()


def test_numbers_are_ready_for_metrics(opened: Open, moe: RandomMoe) -> None:
    store = opened(moe, "lru", 4)
    moe.forward(store, [1, 2])
    numbers = store.statistics.metrics()
    assert numbers["hits_total"] + numbers["misses_total"] == store.statistics.needed
    assert numbers["moved_bytes_total"] == numbers["loads_total"] * moe.shape.expert_bytes
    assert numbers["device_bytes_max"] == 4 * moe.shape.expert_bytes
    assert 0.0 <= store.statistics.hit_rate <= 1.0


def test_a_recorder_keeps_what_went_through_it(moe: RandomMoe, resident: list[Any]) -> None:
    recorder = RouteRecorder(HostExperts(moe), moe.shape, moe)
    kinds = [RowKind.WRITTEN, RowKind.DRAFTED, RowKind.DRAFTED]
    recorder.describe([RecordedRun(5, 10, kinds)])
    assert torch.equal(moe.forward(recorder, PASSES[0]), resident[0])
    recorder.judged(5, 1)
    moe.forward(recorder, PASSES[1])
    trace = recorder.trace(model="random", fingerprint="ab", note={"why": "test"})
    assert trace.tokens.tolist() == [1, 2, 3, 4]
    assert trace.sequences.tolist() == [5, 5, 5, 0]
    assert trace.positions.tolist() == [10, 11, 12, 13]
    assert trace.accepted.tolist() == [Accepted.UNKNOWN, Accepted.YES, Accepted.NO, Accepted.UNKNOWN]
    assert trace.passes.tolist() == [0, 3, 4]
    states = torch.nn.functional.rms_norm(moe.embed(torch.tensor([1])), (16,))
    assert trace.routes[0, 0].tolist() == moe.route(0, states)[0][0].tolist()
    assert trace.ahead is not None
    assert trace.ahead[0, 1].tolist() == moe.route(1, states)[0][0].tolist()
    assert np.allclose(trace.weights.astype(np.float32).sum(-1), 1.0, atol=1e-2)


def test_a_pass_that_fails_is_not_recorded() -> None:
    source = RandomMoe()
    recorder = RouteRecorder(HostExperts(source), source.shape)
    source.broken = {(2, expert) for expert in range(8)}
    with pytest.raises(OSError):
        source.forward(recorder, [1])
    source.broken = set()
    source.forward(recorder, [2])
    assert recorder.trace(model="m", fingerprint="f").tokens.tolist() == [2]
