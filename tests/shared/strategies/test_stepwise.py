"""What all step-wise searches promise: they end, they are told apart by seed alone, and they leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.scripted_engine import ScriptedEngine, tree
from tests.fakes.verifiers import RuleVerifier
from tests.shared.strategies.solving import WARM, running, steps_of, work_on
from updraft.engine import open_engine
from updraft.errors import ConfigError, EngineFailure
from updraft.sampling import SamplingParams
from updraft.strategies import STRATEGIES, Budget, Forks, Outcome, Problem, Progress, Sample, parse_strategy, solve
from updraft.strategies.particle_filtering import ParticleFiltering
from updraft.strategies.stepwise import Candidate, Stepwise, decide
from updraft.strategies.workspace import Workspace
from updraft.verifiers import Claim, Judgement

NAMES = [name for name, kind in STRATEGIES.items() if issubclass(kind, Stepwise)]
each = pytest.mark.parametrize("name", NAMES)


def letters(claim: Claim) -> float:
    """Answers with many letters a are good."""
    found = steps_of(claim.text)
    return 0.1 + 0.8 * found.count("a") / max(1, len(found))


def key(outcome: Outcome) -> tuple[object, ...]:
    return outcome.sample, outcome.confidence, outcome.alternatives, outcome.ended, outcome.spent.tokens


def test_all_four_are_there() -> None:
    assert set(NAMES) == {"particle-filtering", "particle-gibbs", "a-star", "beam-search"}


@each
async def test_a_search_follows_its_verifier(name: str) -> None:
    notes: list[Progress] = []
    engine = ScriptedEngine(tree(4, 5))
    outcome = await work_on(engine, parse_strategy(name), RuleVerifier(letters), budget=Budget(samples=16), notes=notes)
    assert steps_of(outcome.sample.text).count("a") >= 3  # 1.25 are expected by chance
    assert outcome.sample.finished and outcome.verified and outcome.ended == "done" and not outcome.complaints
    assert 0 < outcome.confidence <= 1 and outcome.unparsed == 0
    assert outcome.spent.tokens <= 16 * 11
    assert {"step", "score", "sample", "answer"} <= {note.kind for note in notes}


@each
async def test_the_seed_says_it_all(name: str) -> None:
    found = []
    for seed, sequences in ((1, 3), (1, 32), (2, 8)):
        engine = ScriptedEngine(tree(4, 4), sequences=sequences)
        sampling = SamplingParams(temperature=1.0, seed=seed)
        found.append(key(await work_on(engine, parse_strategy(name), RuleVerifier(letters), sampling=sampling)))
    assert found[0] == found[1] != found[2]


@each
async def test_a_greedy_request_is_searched_too(name: str) -> None:
    def first_is_d(text: str) -> Mapping[str, float]:
        return {"d": 1.1, "a": 1.0} if text.endswith(">") else tree(4, 4)(text)

    engine = ScriptedEngine(first_is_d)
    outcome = await work_on(
        engine,
        parse_strategy(name),
        RuleVerifier(letters),
        sampling=SamplingParams(temperature=0.0, seed=1),
        budget=Budget(samples=16),
    )
    assert outcome.sample.text.startswith("a")


@each
async def test_one_sample_is_the_answer_that_would_be_written_without(name: str) -> None:
    engine = ScriptedEngine(tree(4, 3))
    plain = await work_on(engine, parse_strategy("self-consistency"), budget=Budget(samples=1))
    one = await work_on(engine, parse_strategy(name), RuleVerifier(letters), budget=Budget(samples=1))
    assert one.sample.tokens == plain.sample.tokens and one.spent.tokens == plain.spent.tokens


@each
@pytest.mark.parametrize("fail_after", [1, 3])
async def test_a_verifier_that_fails_leaves_the_answer_unverified(name: str, fail_after: int) -> None:
    verifier = RuleVerifier(letters, fail_after=fail_after)
    outcome = await work_on(ScriptedEngine(tree(4, 5)), parse_strategy(name), verifier)
    assert outcome.sample.finished and outcome.sample.answer
    assert outcome.verified is None and outcome.complaints == ("rule failed: RuntimeError",)
    assert verifier.calls == fail_after  # it is asked no more


@each
async def test_scores_that_are_missing_now_and_then_do_no_harm(name: str) -> None:
    def rule(claim: Claim) -> float | None:
        return None if claim.text.endswith("b\n") else letters(claim)

    outcome = await work_on(ScriptedEngine(tree(3, 5)), parse_strategy(name), RuleVerifier(rule))
    assert outcome.sample.finished and outcome.sample.answer


@each
@pytest.mark.parametrize("score", [0.0, 1.0, float("nan")])
async def test_scores_at_the_ends_and_nonsense(name: str, score: float) -> None:
    outcome = await work_on(ScriptedEngine(tree(3, 3)), parse_strategy(name), RuleVerifier(lambda claim: score))
    assert outcome.sample.finished
    assert outcome.verified is (None if score != score else score == 1.0)


@each
async def test_calls_are_bounded(name: str) -> None:
    verifier = RuleVerifier(letters)
    outcome = await work_on(
        ScriptedEngine(tree(4, 5)), parse_strategy(name), verifier, budget=Budget(samples=8, calls=9)
    )
    assert len(verifier.claims) == outcome.spent.verifier_calls <= 9
    assert outcome.ended == "calls" and outcome.sample.finished


@each
@pytest.mark.parametrize("tokens", [1, 7, 24, 60])
async def test_tokens_are_bounded_and_an_answer_comes_first(name: str, tokens: int) -> None:
    budget = Budget(samples=8, tokens=tokens)
    outcome = await work_on(ScriptedEngine(tree(4, 5)), parse_strategy(name), RuleVerifier(letters), budget=budget)
    assert 0 < outcome.spent.tokens <= tokens
    assert outcome.ended == "tokens"
    assert outcome.sample.finished == (tokens >= 24)  # an answer takes 11, and half of the budget is kept for one


@each
async def test_time_is_bounded_with_a_verifier_that_hangs(name: str) -> None:
    verifier = RuleVerifier(letters, hang_after=2)
    outcome = await work_on(
        ScriptedEngine(tree(4, 5)), parse_strategy(name), verifier, budget=Budget(samples=8, seconds=0.2)
    )
    assert outcome.ended == "time" and outcome.verified is None and outcome.complaints


@each
async def test_steps_that_never_end_are_cut(name: str) -> None:
    def endless(text: str) -> Mapping[str, float]:
        return {"x": 1.0, "a": 1.0}

    strategy = parse_strategy(name, {"step_tokens": 5})
    verifier = RuleVerifier(lambda claim: (1 + claim.text.count("a")) / (2 + len(claim.text)))
    outcome = await work_on(ScriptedEngine(endless), strategy, verifier, max_tokens=20)
    assert not outcome.sample.finished and len(outcome.sample.tokens) == 20
    assert outcome.spent.tokens <= 4 * 20


@each
@pytest.mark.parametrize("script", [lambda text: {"": 1.0}, lambda text: {"\n": 3.0, "": 1.0}])
async def test_answers_that_are_empty(name: str, script: Callable[[str], Mapping[str, float]]) -> None:
    outcome = await work_on(ScriptedEngine(script), parse_strategy(name), RuleVerifier(letters), max_tokens=64)
    assert outcome.sample.answer is None and outcome.confidence == 0 and outcome.unparsed > 0


@each
async def test_a_full_context_ends_answers(name: str) -> None:
    engine = ScriptedEngine(lambda text: {"x": 1.0, "\n": 1.0}, context=20)
    outcome = await work_on(engine, parse_strategy(name), RuleVerifier(letters), max_tokens=500)
    assert len(outcome.sample.tokens) == 18 and not outcome.sample.finished


@each
async def test_answers_that_came_with_the_request_are_chosen_from(name: str) -> None:
    edge = Sample("a\na\na\na\na\na\na\n", (), -0.1, "aaaa")
    verifier = RuleVerifier(lambda claim: 0.999 if claim.text == edge.text else 0.2)
    outcome = await work_on(ScriptedEngine(tree(4, 5)), parse_strategy(name), verifier, given=[edge])
    assert outcome.sample is edge and outcome.verified


@each
async def test_few_sequences_are_enough_and_branches_are_few(name: str) -> None:
    engine = ScriptedEngine(tree(4, 6), sequences=2)
    held: list[int] = []
    async with running(engine) as (loop, places):
        forks = Forks(loop, places, WARM)
        problem = Problem(engine.tokenizer.encode("q>"), "q>", WARM, step="\n")

        def watch(claim: Claim) -> float:
            held.append(len(forks._tasks))
            return letters(claim)

        await solve(problem, parse_strategy(name), Budget(samples=8), forks, verifier=RuleVerifier(watch))
        assert not forks._tasks
    assert max(held) <= 8 + 4


@each
async def test_it_may_be_cancelled_at_any_moment(name: str) -> None:
    for moment in range(1, 12, 2):
        engine = ScriptedEngine(tree(4, 6), sequences=4)
        verifier = RuleVerifier(letters, hang_after=moment)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_held_open(engine, name, verifier), 0.05)
        assert engine.open_sequences == 0


async def _held_open(engine: HashEngine, name: str, verifier: RuleVerifier) -> None:
    async with running(engine) as (loop, places):
        problem = Problem(engine.tokenizer.encode("q>"), "q>", WARM, step="\n")
        try:
            await solve(problem, parse_strategy(name), Budget(samples=4), Forks(loop, places, WARM), verifier=verifier)
            await asyncio.Event().wait()  # it was done before that moment
        finally:
            await asyncio.wrap_future(loop.call(places.close))


@each
async def test_an_engine_that_fails_is_told(name: str) -> None:
    with pytest.raises(EngineFailure):
        await work_on(ScriptedEngine(tree(4, 5), fail_after=6), parse_strategy(name), RuleVerifier(letters))


@each
@pytest.mark.parametrize("verifier", [None, RuleVerifier(letters, steps=False)])
async def test_a_verifier_of_steps_is_needed(name: str, verifier: RuleVerifier | None) -> None:
    with pytest.raises(ConfigError):
        await work_on(ScriptedEngine(tree(2, 2)), parse_strategy(name), verifier)


@each
async def test_a_real_engine_is_searched(name: str, tiny_model_path: FilePath) -> None:
    found = []
    for sequences in (2, 8):
        engine = open_engine(tiny_model_path, context=256, sequences=sequences, threads=1)
        rule = RuleVerifier(lambda claim: len(set(claim.tokens)) / (1 + len(claim.tokens)))
        strategy = parse_strategy(name, {"step_tokens": 6})
        problem: dict[str, Any] = {"question": "the and in", "max_tokens": 24, "step": "e"}
        found.append(key(await work_on(engine, strategy, rule, **problem)))
    assert found[0] == found[1]


def chosen(candidates: Sequence[tuple[str, str | None, float, bool]], choose: Any) -> Outcome:
    """The outcome among candidates: text, answer, reward, finished."""

    class Done:
        ended = None
        complaints: tuple[str, ...] = ()
        bill = tell = staticmethod(lambda *given, **more: None)

    found = [
        Candidate(Sample(text, (), 0.0, answer, finished, branch=number), reward, Judgement(reward, reward > 0.5))
        for number, (text, answer, reward, finished) in enumerate(candidates)
    ]
    return decide(Done(), found, choose)  # type: ignore[arg-type]


def test_the_best_and_the_vote_may_differ() -> None:
    candidates = [("x", "1", 0.7, True), ("y", "1", 0.7, True), ("z", "2", 0.8, True)]
    best, vote = chosen(candidates, "best"), chosen(candidates, "vote")
    assert best.sample.text == "z" and best.confidence == 0.8
    assert vote.sample.text == "x" and vote.confidence == pytest.approx(14 / 26)
    assert [one.samples for one in vote.alternatives] == [2, 1]


def test_cut_answers_are_chosen_only_where_no_other_is() -> None:
    assert chosen([("x", "1", 0.9, False), ("y", "2", 0.2, True)], "vote").sample.text == "y"
    assert chosen([("x", "1", 0.9, False), ("y", "2", 0.2, False)], "vote").sample.text == "x"


def test_answers_that_cannot_be_read_are_counted_and_do_not_win() -> None:
    outcome = chosen([("x", None, 0.9, True), ("y", "2", 0.2, True)], "best")
    assert outcome.sample.text == "y" and outcome.unparsed == 1 and outcome.verified is False
    assert chosen([("x", None, 0.1, True), ("y", None, 0.2, True)], "vote").sample.text == "y"


async def test_a_fork_of_a_beginning_is_cut_there() -> None:
    engine = ScriptedEngine(tree(4, 4))
    async with running(engine) as (loop, places):
        forks = Forks(loop, places, WARM)
        work = Workspace(Problem(engine.tokenizer.encode("q>"), "q>", WARM, step="\n"), Budget(), forks)
        first = work.start()
        await work.extend([first])
        cut, whole = work.fork(first, keep=4), work.fork(first)
        assert [branch.ended for branch in (first, cut, whole)] == [True, False, True]
        assert cut.tokens == first.tokens[:4] and whole.tokens == first.tokens
        await work.extend([cut])
        assert cut.tokens[:4] == first.tokens[:4] and cut.tokens != first.tokens
        await forks.close()


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"step_tokens": 0}, {"choose": "worst"}, {"branches": 2}])
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        ParticleFiltering.model_validate(settings)
