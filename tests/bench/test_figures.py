"""Rates, spreads and sums of observed answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bench.figures import Observed, Spread, observe, percentile, rate, same_answers, summary, whole_rate
from tests.bench.answers import answer
from tests.fakes.engine import HashEngine
from tests.fakes.tiers import running_agent
from updraft.generation import Completion, GenerationRequest, TokenEvent


def test_a_spread_is_a_median_between_its_extremes() -> None:
    assert Spread.of([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)
    assert str(Spread.of([0.94, 1.25])) == "1.09 (0.94 to 1.25)"


def test_percentiles_are_interpolated() -> None:
    values = [float(value) for value in range(101)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [0.0, 50.0, 99.0, 100.0]
    assert percentile([1.0, 2.0], 0.5) == 1.5
    assert percentile([], 0.5) == 0.0


def test_rates_leave_out_the_first_token_or_count_all() -> None:
    arrivals = [[2.0, 3.0, 4.0], [10.0, 12.0], [5.0], []]
    assert rate(arrivals) == pytest.approx(3 / 4)  # three tokens after a first one, in 2 + 2 seconds
    assert whole_rate(arrivals) == pytest.approx(6 / 21)
    assert rate([[1.0]]) == rate([]) == whole_rate([[]]) == 0.0


def test_gaps_are_between_neighbours() -> None:
    assert answer([1, 2, 3, 4], [1.0, 1.5, 1.5, 3.0]).gaps == [0.5, 0.0, 1.5]


def test_answers_are_the_same_only_in_tokens_and_text() -> None:
    reference = [answer([1, 2]), answer([3, 4]), answer([5, 6])]
    others = [answer([1, 2]), answer([3, 9]), answer([5, 6], text="other")]
    assert same_answers(reference, reference) == 3
    assert same_answers(others, reference) == 1
    with pytest.raises(ValueError):
        same_answers(reference[:2], reference)


def test_a_summary_is_weighted_by_tokens() -> None:
    answers = [
        answer([1, 2, 3], [0.5, 0.6, 0.6], cloud_passes=3, cloud_tokens=3, bytes_up=30, drafted=2, accepted=1),
        answer([1], [0.1], cloud_passes=0, bytes_up=2, drafted=2, accepted=2, degraded=True, reopened=2),
    ]
    found = summary(answers)
    assert found["answers"] == 2 and found["tokens"] == 4
    assert found["cloud_passes_per_token"] == 0.75 and found["cloud_share"] == 0.75
    assert found["bytes_up_per_token"] == 8.0
    assert found["accepted_share"] == 0.75
    assert found["first_token_ms"] == pytest.approx(300.0)
    assert found["tokens_per_second"] == pytest.approx(20.0)
    assert found["gap_max_ms"] == pytest.approx(100.0)
    assert (found["degraded"], found["reopened"]) == (1, 2)


async def test_an_observer_sees_every_token_in_order() -> None:
    async with running_agent(HashEngine(), None) as agent:
        seen = await observe(agent, GenerationRequest(prompt="hello", max_tokens=20, ignore_end=True))
    assert len(seen.arrivals) == len(seen.completion.token_ids) == 20
    assert list(seen.arrivals) == sorted(seen.arrivals) and seen.arrivals[0] > 0.0


async def test_an_answer_without_its_end_is_an_error() -> None:
    class Silent:
        async def generate(self, _request: GenerationRequest) -> AsyncIterator[TokenEvent | Completion]:
            nothing: tuple[TokenEvent, ...] = ()
            for event in nothing:
                yield event

    with pytest.raises(RuntimeError, match="completion"):
        await observe(Silent(), GenerationRequest(prompt="hello"))


def test_nothing_observed_has_no_gaps() -> None:
    assert Observed(answer([]).completion, ()).gaps == []
