"""Samples that vote: what wins, and when it is settled."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.samples import sample, scripted
from updraft.routing.votes import count, path_weights
from updraft.strategies import Outcome
from updraft.strategies.rpc import RPC
from updraft.strategies.self_consistency import SelfConsistency
from updraft.strategies.voting import Voting, overtaken

answers = st.lists(st.sampled_from("abc"), min_size=1, max_size=24)


async def run(strategy: Voting, given: Sequence[str | None]) -> Outcome:
    return await strategy.solve(scripted([sample(answer) for answer in given]))


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 1)), min_size=1), st.randoms(use_true_random=False))
def test_a_vote_does_not_depend_on_the_order(votes: list[tuple[str, float]], random: object) -> None:
    shuffled = votes[::2] + votes[1::2]
    weights = [
        {option.answer: option.weight for option in count(*zip(*order, strict=True))} for order in (votes, shuffled)
    ]
    assert weights[0] == weights[1]


@given(answers, st.integers(0, 24))
def test_an_answer_that_cannot_be_overtaken_wins_whatever_comes(votes: list[str], seen: int) -> None:
    seen = min(seen, len(votes))
    before = count(votes[:seen], [1.0] * seen)
    if not overtaken(before, len(votes) - seen):
        final = count(votes, [1.0] * len(votes))
        assert not before or final[0].answer == before[0].answer


@given(answers, st.integers(0, 3))
def test_one_that_can_be_overtaken_is(votes: list[str], left: int) -> None:
    before = count(votes, [1.0] * len(votes))
    if overtaken(before, left):
        ends = [[*votes, *[rival] * left] for rival in "abcx"]
        assert any(count(end, [1.0] * len(end))[0].answer != before[0].answer for end in ends)


@given(answers, st.integers(1, 5))
async def test_stopping_when_it_is_certain_changes_no_answer(votes: list[str], wave: int) -> None:
    whole = await run(SelfConsistency(), votes)
    early = await run(SelfConsistency(confidence=1.0, wave=wave), votes)
    assert early.sample.answer == whole.sample.answer
    assert whole.ended == "done"
    assert early.spent.samples <= whole.spent.samples


async def test_a_certain_vote_stops() -> None:
    work = scripted([sample("a")] * 16)
    outcome = await SelfConsistency(confidence=1.0, wave=4).solve(work)
    assert work.waves == [4, 4]
    assert (outcome.ended, outcome.confidence, outcome.spent.samples) == ("confident", 1.0, 8)


async def test_a_sure_vote_stops_sooner() -> None:
    work = scripted([sample("a")] * 16)
    outcome = await SelfConsistency(confidence=0.95, wave=2).solve(work)
    assert work.waves == [2, 2]  # P(Beta(5, 1) > 1/2) is 0.97
    assert outcome.ended == "confident"
    mixed = scripted([sample(answer) for answer in "abababababababab"])
    assert (await SelfConsistency(confidence=0.95, wave=2).solve(mixed)).ended == "samples"


async def test_a_vote_stops_where_samples_do_not_pay() -> None:
    unanimous = scripted([sample("a", tokens=100)] * 32)
    outcome = await SelfConsistency(price=0.01, wave=2).solve(unanimous)
    assert outcome.ended == "saturated"
    assert outcome.spent.samples <= 8
    cheap = scripted([sample("a", tokens=1)] * 32)
    assert (await SelfConsistency(price=0.01, wave=2).solve(cheap)).spent.samples > outcome.spent.samples


async def test_answers_that_came_with_the_request_vote_and_may_settle_it() -> None:
    work = scripted([sample("a")] * 4, given=[sample("b")] * 6)
    outcome = await SelfConsistency(confidence=1.0).solve(work)
    assert (outcome.sample.answer, work.waves) == ("b", [])
    assert outcome.spent.samples == 0


@pytest.mark.parametrize("strategy", [SelfConsistency(), SelfConsistency(confidence=0.9), RPC(), RPC(price=0.1)])
async def test_what_cannot_be_read_is_counted_and_does_not_vote(strategy: Voting) -> None:
    outcome = await run(strategy, [None, None, "a", None])
    assert (outcome.sample.answer, outcome.unparsed) == ("a", 3)
    assert outcome.confidence == pytest.approx(math.exp(-0.1))  # a vote of one is as sure as its tokens
    nothing = await run(strategy, [None, None])
    assert (nothing.unparsed, nothing.confidence, nothing.alternatives) == (2, 0.0, ())


async def test_no_time_at_all_gives_an_empty_answer() -> None:
    outcome = await SelfConsistency().solve(scripted([sample("a")], seconds=1e-9))
    assert (outcome.sample.text, outcome.sample.finished, outcome.ended) == ("", False, "time")


async def test_a_new_leader_is_told() -> None:
    work = scripted([sample(answer) for answer in "abbb"])
    await SelfConsistency(confidence=0.999, wave=1).solve(work)
    assert [progress.text for progress in work.progress if progress.kind == "answer"] == ["a", "b"]


def paths(*votes: tuple[str, float]) -> list:  # type: ignore[type-arg]
    return [sample(answer, logprob=math.log(p), text=f"{answer}{n}") for n, (answer, p) in enumerate(votes)]


async def test_rpc_weighs_by_probability_and_prunes() -> None:
    votes = paths(("a", 0.9), ("b", 0.35), ("b", 0.3), ("b", 0.32))
    pruned = await RPC().solve(scripted(votes))
    assert (pruned.sample.answer, pruned.alternatives[0].weight) == ("a", 1.0)
    assert pruned.confidence == pytest.approx(0.9)  # a vote of one is as sure as its tokens
    plain = await RPC(prune=False).solve(scripted(votes))
    assert plain.sample.answer == "b"
    assert plain.confidence == pytest.approx(0.97 / 1.87)
    assert [alternative.samples for alternative in pruned.alternatives] == [1, 3]  # pruned ones are still told of


async def test_rpc_counts_identical_samples_once() -> None:
    same = [sample("b", logprob=math.log(0.4), text="b")] * 3
    outcome = await RPC(prune=False).solve(scripted([*paths(("a", 0.5)), *same]))
    assert outcome.sample.answer == "a"
    assert outcome.confidence == pytest.approx(0.5 / 0.9)


async def test_a_pruned_path_leaves_one_of_the_same_text_standing() -> None:
    twice = [sample("a", logprob=math.log(p), text="a") for p in (0.1, 0.8)]
    outcome = await RPC().solve(scripted([*twice, *paths(("b", 0.7), ("b", 0.2))]))
    assert outcome.sample.answer == "a"
    assert outcome.confidence == pytest.approx(0.8 / 1.5)


async def test_rpc_of_many_samples_keeps_the_probable_ones() -> None:
    high = [("a", 0.7 + 0.01 * n) for n in range(10)]
    low = [("b", 0.3 + 0.004 * n) for n in range(30)]
    assert (await RPC(prune=False).solve(scripted(paths(*high, *low)))).sample.answer == "b"
    outcome = await RPC().solve(scripted(paths(*high, *low)))
    assert (outcome.sample.answer, outcome.confidence) == ("a", 1.0)


async def test_rpc_stops_early() -> None:
    votes = paths(*[("a", 0.5 + 0.001 * n) for n in range(32)])
    outcome = await RPC(confidence=0.95, wave=4, prune=False).solve(scripted(votes))
    assert (outcome.ended, outcome.spent.samples) == ("confident", 4)
    assert (await RPC(confidence=1.0, wave=4).solve(scripted(votes))).ended == "samples"


@given(st.lists(st.tuples(st.sampled_from(["x", "y", "z"]), st.floats(-5, 0)), min_size=1, max_size=9))
def test_of_identical_paths_one_weighs_as_much_as_the_heaviest(given: list[tuple[str, float]]) -> None:
    texts, logprobs = zip(*given, strict=True)
    weights = path_weights(texts, logprobs)
    for text in set(texts):
        mine = [
            (weight, math.exp(p)) for weight, other, p in zip(weights, texts, logprobs, strict=True) if other == text
        ]
        assert math.fsum(weight for weight, _ in mine) == max(p for _, p in mine)
