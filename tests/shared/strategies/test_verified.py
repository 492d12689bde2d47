"""Best of n and resampling: what a verifier makes of samples, and what it costs to trust one that errs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes.samples import ScoreTable, sample, scripted
from updraft.strategies.best_of_n import BestOfN
from updraft.strategies.cap import Cap
from updraft.strategies.resample import Resample

SCORES = {"a1": 0.9, "b1": 0.6, "b2": 0.7, "c1": 0.1}
FOUR = [sample(text[0], text=text) for text in ("c1", "b1", "a1", "b2")]


async def test_the_best_score_wins() -> None:
    outcome = await BestOfN().solve(scripted(FOUR, verifier=ScoreTable(SCORES)))
    assert (outcome.sample.text, outcome.confidence, outcome.verified) == ("a1", 0.9, True)
    assert [alternative.sample.text for alternative in outcome.alternatives] == ["a1", "b2", "c1"]
    assert outcome.spent.verifier_calls == 4


async def test_weighted_scores_of_equal_answers_add_up() -> None:
    outcome = await BestOfN(weighted=True).solve(scripted(FOUR, verifier=ScoreTable(SCORES)))
    assert outcome.sample.text == "b2"
    assert outcome.confidence == pytest.approx(1.3 / 2.3)
    assert outcome.alternatives[0].samples == 2


@pytest.mark.parametrize("weighted", [False, True])
async def test_a_verifier_that_fails_leaves_the_majority_unverified(weighted: bool) -> None:
    outcome = await BestOfN(weighted=weighted).solve(scripted(FOUR, verifier=ScoreTable(failing=True)))
    assert (outcome.sample.answer, outcome.verified, outcome.confidence) == ("b", None, 0.5)
    assert outcome.complaints == ("table failed: OSError",)


async def test_samples_that_could_not_be_judged_do_not_win() -> None:
    outcome = await BestOfN().solve(scripted(FOUR, verifier=ScoreTable({"c1": 0.1})))
    assert (outcome.sample.text, outcome.verified) == ("c1", False)
    few = await BestOfN().solve(scripted(FOUR, verifier=ScoreTable(SCORES), calls=2))
    assert (few.sample.text, few.ended, few.spent.verifier_calls) == ("b1", "calls", 2)


async def test_what_cannot_be_read_is_counted() -> None:
    samples = [sample(None, text="a1"), sample("b", text="b1")]
    for strategy in (BestOfN(), BestOfN(weighted=True)):
        outcome = await strategy.solve(scripted(samples, verifier=ScoreTable(SCORES)))
        assert (outcome.sample.text, outcome.unparsed) == ("b1", 1)


async def test_a_score_that_is_enough_ends_it() -> None:
    work = scripted(FOUR, verifier=ScoreTable(SCORES))
    outcome = await BestOfN(confidence=0.6, wave=1).solve(work)
    assert (outcome.sample.text, outcome.ended, work.waves) == ("b1", "confident", [1, 1])


async def test_a_weighted_vote_that_cannot_be_overtaken_ends_it() -> None:
    many = [sample("a", text=f"a{n}") for n in range(10)]
    work = scripted(many, verifier=ScoreTable({one.text: 0.9 for one in many}))
    outcome = await BestOfN(weighted=True, confidence=1.0, wave=1).solve(work)
    assert (outcome.ended, outcome.spent.samples) == ("confident", 6)  # 6 * 0.9 is more than 4 samples can weigh


async def test_scores_saturate_at_a_price() -> None:
    random = np.random.default_rng(0)
    many = [sample("a", text=f"a{n}", tokens=100) for n in range(64)]
    verifier = ScoreTable({one.text: float(random.beta(20, 5)) for one in many})
    outcome = await BestOfN(price=0.1, wave=2).solve(scripted(many, verifier=verifier))
    assert outcome.ended == "saturated"
    assert 2 <= outcome.spent.samples < 32


async def test_errors_of_the_verifier_cap_the_samples() -> None:
    many = [sample("a", text=f"a{n}") for n in range(64)]
    for strategy in (BestOfN(), Resample()):
        verifier = ScoreTable({one.text: 0.2 for one in many}, false_positive_rate=0.3)
        outcome = await strategy.solve(scripted(many, verifier=verifier))
        assert (outcome.ended, outcome.spent.samples) == ("saturated", Cap().tries(verifier))
        assert outcome.verified is False
    free = await BestOfN(cap=Cap(slack=0)).solve(scripted(many, verifier=verifier))
    assert (free.ended, free.spent.samples) == ("done", 64)


async def test_resampling_takes_the_first_that_passes() -> None:
    work = scripted(FOUR, verifier=ScoreTable(SCORES))
    outcome = await Resample().solve(work)
    assert (outcome.sample.text, outcome.verified, outcome.ended) == ("b1", True, "confident")
    assert work.waves == [1, 1]
    assert outcome.confidence == 0.6
    together = await Resample(wave=4).solve(scripted(FOUR, verifier=ScoreTable(SCORES)))
    assert (together.sample.text, together.spent.samples) == ("b1", 4)
    assert [alternative.sample.text for alternative in together.alternatives] == ["b1", "a1", "c1"]


async def test_a_measured_verifier_is_trusted_as_far_as_its_errors_allow() -> None:
    outcome = await Resample().solve(scripted(FOUR, verifier=ScoreTable(SCORES, false_positive_rate=0.2)))
    assert 0.5 < outcome.confidence < 0.5 / 0.6  # it was the second try


async def test_an_answer_that_came_with_the_request_may_pass() -> None:
    work = scripted(FOUR, verifier=ScoreTable(SCORES), given=[sample("a", text="a1")])
    outcome = await Resample().solve(work)
    assert (outcome.sample.text, outcome.spent.samples, outcome.verified) == ("a1", 0, True)


async def test_without_a_pass_the_best_score_stands_refused() -> None:
    low = ScoreTable({"c1": 0.1, "b1": 0.3, "a1": 0.2})
    outcome = await Resample().solve(scripted(FOUR[:3], verifier=low))
    assert (outcome.sample.text, outcome.verified, outcome.ended) == ("b1", False, "samples")


async def test_resampling_gives_up_on_a_verifier_that_fails() -> None:
    work = scripted(FOUR, verifier=ScoreTable(failing=True))
    outcome = await Resample().solve(work)
    assert (outcome.verified, work.waves, outcome.sample.text) == (None, [1], "c1")
    assert outcome.complaints


async def test_an_unmeasured_verifier_is_asked_a_few_times_only() -> None:
    many = [sample("a", text=f"a{n}") for n in range(64)]
    outcome = await Resample().solve(scripted(many, verifier=ScoreTable({one.text: 0.2 for one in many})))
    assert (outcome.ended, outcome.spent.samples) == ("saturated", 8)


async def test_a_price_ends_resampling_sooner() -> None:
    many = [sample("a", text=f"a{n}", tokens=200) for n in range(64)]
    verifier = ScoreTable({one.text: 0.2 for one in many}, false_positive_rate=0.05)
    dear = await Resample(price=0.5).solve(scripted(many, verifier=verifier))
    assert (dear.ended, dear.spent.samples) == ("saturated", Cap().model_of(verifier).worth(0.5, 200))  # type: ignore[union-attr]
    assert dear.spent.samples < Cap().tries(verifier)


async def test_resampling_flattens_as_its_model_predicts() -> None:
    """Problems of many difficulties, a verifier with false positives: measured accuracy is the predicted one."""
    random = np.random.default_rng(5)
    right = {tries: 0 for tries in (1, 4, 16)}
    problems = 1500
    for _ in range(problems):
        p = random.uniform()
        hits = random.uniform(size=16) < p
        passes = hits | (random.uniform(size=16) < 0.25)
        samples = [sample("yes" if hit else "no", text=f"{hit}{n}") for n, hit in enumerate(hits)]
        scores = {one.text: float(passed) for one, passed in zip(samples, passes, strict=True)}
        for tries in right:
            work = scripted(samples, verifier=ScoreTable(scores, false_positive_rate=0.25), samples=tries)
            outcome = await Resample(cap=Cap(slack=0)).solve(work)
            right[tries] += outcome.sample.answer == "yes"
    model = Cap().model_of(ScoreTable(false_positive_rate=0.25))
    assert model is not None
    for tries, count in right.items():
        assert count / problems == pytest.approx(model.accuracy(tries), abs=0.03)
