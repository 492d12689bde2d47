"""Token buckets: what passes in a time is bounded, nobody waits longer than needed, and none is kept for nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import Clock
from updraft_cloud.admission.buckets import Bucket, Buckets

STEPS = st.lists(st.tuples(st.floats(0, 20), st.floats(0, 60)), min_size=1, max_size=60)


@given(rate=st.floats(0.1, 50), burst=st.floats(1, 40), steps=STEPS)
def test_never_more_passes_than_the_rate_and_one_burst(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    clock = Clock()
    bucket = Bucket(rate, burst, clock=clock)
    passed: list[tuple[float, float]] = []
    for pause, amount in steps:
        clock.move(pause)
        passed.append((clock.now + bucket.take(amount), amount))
    excess = max(0.0, max(amount for _, amount in passed) - burst)
    for moment, _ in passed:
        total = sum(amount for when, amount in passed if when <= moment)
        assert total <= rate * moment + burst + excess + 1e-6


@given(rate=st.floats(0.1, 50), burst=st.floats(1, 40), amounts=st.lists(st.floats(0.1, 40), min_size=1, max_size=30))
def test_whoever_waits_goes_in_the_order_in_which_they_came(rate: float, burst: float, amounts: list[float]) -> None:
    bucket = Bucket(rate, max(burst, *amounts, 0.0), clock=Clock())
    waits = [bucket.take(amount) for amount in amounts]
    assert waits == sorted(waits)


def test_nobody_waits_while_there_is_enough() -> None:
    clock = Clock()
    bucket = Bucket(10, 20, clock=clock)
    assert [bucket.take(amount) for amount in (5, 15)] == [0, 0]
    assert bucket.wait(5) == pytest.approx(0.5)
    clock.move(0.5)
    assert bucket.take(5) == pytest.approx(0)
    clock.move(1000)
    assert bucket.take(20) == 0
    assert bucket.take(1) == pytest.approx(0.1)


def test_more_than_a_burst_passes_once_the_bucket_is_full_and_is_paid_off_then() -> None:
    clock = Clock()
    bucket = Bucket(10, 20, clock=clock)
    assert bucket.take(100) == 0
    assert bucket.wait(1) == pytest.approx(8.1)
    clock.move(8)
    assert bucket.take(50) == pytest.approx(2)


def test_tenants_have_buckets_of_their_own() -> None:
    buckets = Buckets(1, 5, clock=Clock())
    assert buckets.take("a", 5) == 0
    assert buckets.wait("a", 1) == 1
    assert buckets.wait("b", 5) == 0


def test_without_a_rate_nothing_waits_and_nothing_is_kept() -> None:
    buckets = Buckets(None, 0)
    assert buckets.take("a", 1e9) == buckets.wait("a", 1e9) == 0
    assert len(buckets) == 0


def test_full_buckets_are_forgotten() -> None:
    clock = Clock()
    buckets = Buckets(1, 5, clock=clock, most=100)
    for number in range(1000):
        buckets.take(str(number), 1)
        clock.move(0.1)
        assert len(buckets) <= 100
    buckets.take("debtor", 50)
    for number in range(300):
        buckets.take(str(number), 1)
        clock.move(0.1)
    assert buckets.wait("debtor", 1) > 0
