"""Adaptive compute: waves until one is good enough, weak ones given up, and the model asked about itself."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.judges import ScriptedJudge
from tests.fakes.samples import ScoreTable, sample
from updraft.engine.base import Run
from updraft.engine.loop import EngineLoop
from updraft.errors import ConfigError
from updraft.sampling import SamplingParams, measure
from updraft.strategies import Budget, EnginePlaces, Forks, Outcome, Problem, Progress, Sample, solve
from updraft.strategies.adaptive import Adaptive
from updraft.strategies.prompts import follow_up
from updraft.strategies.self_evaluation import QUESTION, SelfEvaluation, answer_tokens
from updraft.verifiers import Judgement

PROMPT = list(range(1, 30))


@pytest.fixture
def engine() -> HashEngine:
    return HashEngine(sequences=6, context=1024)


@pytest.fixture
def loop(engine: HashEngine) -> Iterator[EngineLoop]:
    loop = EngineLoop(engine)
    loop.start()
    yield loop
    loop.stop()


@pytest.fixture
async def forks(loop: EngineLoop) -> AsyncIterator[Forks]:
    forks = Forks(loop, EnginePlaces(loop.engine), SamplingParams(temperature=1.0, seed=3))
    yield forks
    await forks.close()


def problem(temperature: float = 1.0, **fields: Any) -> Problem:
    sampling = SamplingParams(temperature=temperature, seed=3)
    return Problem(PROMPT, "?", sampling, **{"max_tokens": 24, "extract": lambda text: text[:1] or None, **fields})


async def run(
    strategy: Adaptive, forks: Forks, given: Problem | None = None, verifier: Any = None, **limits: Any
) -> tuple[Outcome, list[Progress]]:
    progress: list[Progress] = []
    budget = Budget(**limits)
    return await solve(given or problem(), strategy, budget, forks, verifier=verifier, note=progress.append), progress


class LengthVerifier(ScoreTable):
    """The fewer spaces and the more letters, the better."""

    async def judge(self, claims: Any) -> list[Judgement]:
        self.seen += claims
        return [Judgement(sum(letter.isalpha() for letter in claim.text) / 100) for claim in claims]


async def test_the_score_is_the_probability_of_no(forks: Forks, engine: HashEngine) -> None:
    yes, no = answer_tokens(engine.tokenizer)
    assert not set(yes) & set(no)
    text = [*PROMPT, 5, 6]
    [score] = await SelfEvaluation(forks, engine).scores([text])
    alone = HashEngine(context=1024)
    sequence, asked = alone.open(), [*text, *follow_up(alone, QUESTION)]
    for start in range(0, len(asked), 50):
        [output] = alone.forward([Run(sequence, start, asked[start : start + 50], 1)])
    logprobs = output.logits[0] - measure(output.logits[0]).energy
    chances = [float(np.exp(logprobs[tokens]).sum()) for tokens in (yes, no)]
    assert score == pytest.approx(chances[1] / sum(chances), rel=1e-5)
    [scaled] = await SelfEvaluation(forks, engine, (2.0, -1.0)).scores([text])
    assert scaled == pytest.approx(1 / (1 + math.exp(1.0) * (chances[0] / chances[1]) ** 2), rel=1e-5)


async def test_a_text_without_room_for_the_question_is_not_judged(forks: Forks, engine: HashEngine) -> None:
    long = [1] * (engine.context - len(follow_up(engine, QUESTION)) + 1)
    scores = await SelfEvaluation(forks, engine).scores([long, PROMPT, long[1:]])
    assert [score is None for score in scores] == [True, False, False]


def test_a_vocabulary_that_cannot_tell_yes_from_no_is_refused() -> None:
    class Blind:
        def encode(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
            return [7]

    with pytest.raises(ConfigError, match="same token"):
        answer_tokens(Blind())  # type: ignore[arg-type]


async def test_waves_grow_until_the_budget_or_gamma_ends_them(forks: Forks) -> None:
    outcome, progress = await run(Adaptive(judge="logprob", gamma=1.0), forks, samples=10)
    assert (outcome.ended, outcome.spent.samples) == ("samples", 10)
    assert [one.branch for one in progress if one.kind == "sample"] == list(range(10))
    scores = [one.value for one in progress if one.kind == "score"]
    assert outcome.confidence == max(score for score in scores if score is not None)
    assert outcome.confidence == pytest.approx(math.exp(outcome.sample.logprob))


async def test_one_that_is_good_enough_ends_it(forks: Forks) -> None:
    outcome, _ = await run(Adaptive(judge="logprob", gamma=0.0), forks, samples=10)
    assert (outcome.ended, outcome.spent.samples) == ("confident", 1)


async def test_the_model_judges_itself(loop: EngineLoop) -> None:
    places, sampling = EnginePlaces(loop.engine), SamplingParams(temperature=1.0, seed=3)
    strategy = Adaptive(gamma=1.0, wave=4, look=6, keep=0.5)
    first, progress = await run(strategy, Forks(loop, places, sampling), samples=8)
    second, again = await run(strategy, Forks(loop, places, sampling), samples=8)
    assert first.sample == second.sample
    assert progress == again
    assert 0 < first.confidence < 1
    assert first.spent.samples == 8


async def test_the_weaker_half_is_given_up(forks: Forks) -> None:
    verifier = LengthVerifier(judges_steps=True)
    strategy = Adaptive(judge="verifier", gamma=1.0, wave=8, look=5, keep=0.25)
    outcome, progress = await run(strategy, forks, verifier=verifier, samples=8)
    early, late = verifier.seen[:8], verifier.seen[8:]
    assert len(late) == 2
    assert all(len(claim.tokens) <= 5 for claim in early)
    best = sorted((sum(map(str.isalpha, claim.text)) for claim in early), reverse=True)[:2]
    kept = [claim for claim in early if any(late_one.text.startswith(claim.text) for late_one in late)]
    assert sorted((sum(map(str.isalpha, claim.text)) for claim in kept), reverse=True)[:2] == best
    assert len([one for one in progress if one.kind == "prune"]) == 6
    assert outcome.spent.tokens <= 6 * 5 + 2 * 24


async def test_a_greedy_requests_first_sample_is_its_own_and_later_waves_are_warmer(loop: EngineLoop) -> None:
    seen: list[float | None] = []

    class Watched(Forks):
        def start(self, prompt: Any, sampling: SamplingParams | None = None) -> Any:
            seen.append(None if sampling is None else sampling.temperature)
            return super().start(prompt, sampling)

    sampling = SamplingParams(seed=3)
    forks = Watched(loop, EnginePlaces(loop.engine), sampling)
    strategy = Adaptive(judge="logprob", gamma=1.0, anneal=1.2, hottest=1.1)
    await run(strategy, forks, problem(temperature=0.0), samples=10)
    assert seen == [None, *[pytest.approx(0.96)] * 2, *[1.1] * 7]


@pytest.mark.parametrize("anneal", [0.25, 4.0])
async def test_no_number_of_waves_leaves_the_range_of_temperatures(forks: Forks, anneal: float) -> None:
    strategy = Adaptive(judge="logprob", gamma=1.0, growth=1.0, anneal=anneal)
    outcome, _ = await run(strategy, forks, problem(max_tokens=1), samples=600)
    assert outcome.spent.samples == 600


async def test_the_verifiers_word_on_the_best_answer_is_passed_on(forks: Forks) -> None:
    outcome, _ = await run(Adaptive(judge="verifier", gamma=0.5), forks, verifier=ScriptedJudge(lambda claim: 0.6))
    assert outcome.verified is True
    outcome, _ = await run(Adaptive(judge="verifier"), forks, verifier=ScriptedJudge(lambda claim: 0.2), samples=2)
    assert outcome.verified is False


async def test_answers_that_came_with_the_request_are_judged_too(forks: Forks) -> None:
    given = problem(given=[sample("edge", logprob=-0.01)])
    outcome, _ = await run(Adaptive(judge="logprob", gamma=0.95), forks, given, samples=8)
    assert (outcome.sample.answer, outcome.spent.samples, outcome.ended) == ("edge", 0, "confident")
    judged, _ = await run(Adaptive(gamma=1.0), forks, given, samples=1)
    assert {alternative.sample.branch for alternative in judged.alternatives} >= {-1}


@pytest.mark.parametrize("limits", [{"tokens": 50}, {"tokens": 1}, {"seconds": 1e-9}])
async def test_the_budget_is_kept(forks: Forks, limits: dict[str, Any]) -> None:
    strategy = Adaptive(judge="logprob", gamma=1.0, wave=4, look=4)
    outcome, _ = await run(strategy, forks, samples=16, **limits)
    assert outcome.spent.tokens <= limits.get("tokens", 0)
    assert outcome.ended in ("tokens", "time")


async def test_answers_that_cannot_be_read_are_counted(forks: Forks) -> None:
    outcome, _ = await run(Adaptive(judge="logprob", gamma=1.0), forks, problem(extract=lambda text: None), samples=5)
    assert (outcome.unparsed, outcome.confidence) == (5, 0.0)


async def test_a_cancelled_run_frees_its_sequences(loop: EngineLoop, engine: HashEngine) -> None:
    places = EnginePlaces(engine)
    for judge in ("self", "logprob"):
        forks = Forks(loop, places, SamplingParams(temperature=1.0, seed=3))
        strategy = Adaptive(judge=judge, gamma=1.0, wave=8, look=100)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run(strategy, forks, problem(max_tokens=900), samples=64), 0.02)
    await asyncio.wrap_future(loop.call(places.close))
    assert engine.open_sequences == 0


async def test_the_judge_verifier_needs_one(forks: Forks) -> None:
    with pytest.raises(ConfigError, match="needs a verifier"):
        await run(Adaptive(judge="verifier"), forks)
    with pytest.raises(ConfigError, match="judges steps"):
        await run(Adaptive(judge="verifier", look=8), forks, verifier=ScoreTable())


async def test_a_verifier_that_fails_leaves_answers_without_scores(forks: Forks) -> None:
    outcome, _ = await run(Adaptive(judge="verifier"), forks, verifier=ScoreTable(failing=True), samples=3)
    assert isinstance(outcome.sample, Sample)
    assert (outcome.confidence, outcome.verified) == (0.0, None)
    assert outcome.complaints
