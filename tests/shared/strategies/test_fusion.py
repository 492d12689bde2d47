"""Fusion: what the fusing model is shown, and when its answer counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.fakes.scripted_engine import ScriptedEngine, spoken
from tests.fakes.verifiers import RuleVerifier
from tests.shared.strategies.solving import WARM, running, work_on
from updraft.strategies import Budget, Forks, Problem, Progress, Sample, Workspace
from updraft.strategies.fusion import Fusion


class Talk:
    """Samples are drawn from some lines by their first letter; the fused answer follows from what was asked."""

    def __init__(self, *lines: str, fuse: Callable[[str], str] = lambda asked: "9") -> None:
        self.lines, self.fuse = lines, fuse
        self.asked = ""

    def __call__(self, text: str) -> Mapping[str, float]:
        asked, found, said = text.rpartition("assistant\n")
        if found:
            self.asked = asked
            return spoken(self.fuse(asked), said)
        said = text.rpartition(">")[2]
        starting = [line for line in self.lines if line.startswith(said)]
        return {character: 1.0 for line in starting for character in spoken(line, said)}


async def test_one_answer_is_written_from_all() -> None:
    notes: list[Progress] = []
    talk = Talk("1x", "2y", "3z")
    outcome = await work_on(ScriptedEngine(talk), Fusion(), budget=Budget(samples=6), notes=notes, extract=str)
    assert outcome.sample.text == "9" and outcome.confidence == pytest.approx(1 / 7)
    samples = [note.text for note in notes if note.kind == "sample"][:6]
    assert all(f"Answer {number}:\n{text}" in talk.asked for number, text in enumerate(samples, 1))
    assert [note.text for note in notes if note.kind == "stage"] == ["fuse 6 of 6 answers"]


async def test_a_fused_answer_that_samples_agree_with_is_sure() -> None:
    talk = Talk("1", fuse=lambda asked: "1")
    outcome = await work_on(ScriptedEngine(talk), Fusion())
    assert outcome.confidence == 1 and outcome.alternatives[0].samples == 5


@pytest.mark.parametrize("fused", ["?", "0" * 100])
async def test_what_cannot_be_read_or_is_cut_gives_way_to_the_majority(fused: str) -> None:
    talk = Talk("1", "2?", fuse=lambda asked: fused)
    outcome = await work_on(
        ScriptedEngine(talk), Fusion(), budget=Budget(samples=8), extract=lambda text: None if "?" in text else text
    )
    assert outcome.sample.text == "1" and outcome.unparsed >= 1


async def test_without_any_final_answer_the_fused_text_is_it() -> None:
    outcome = await work_on(ScriptedEngine(Talk("a", "b", fuse=lambda asked: "c")), Fusion(), extract=lambda text: None)
    assert outcome.sample.text == "c" and outcome.confidence == 0 and outcome.unparsed == 5


async def test_answers_are_cut_to_fit_and_it_says_so() -> None:
    notes: list[Progress] = []
    talk = Talk("b" * 150 + "END")
    engine = ScriptedEngine(talk, context=1000)
    outcome = await work_on(engine, Fusion(), budget=Budget(samples=8), max_tokens=160, notes=notes, extract=str)
    [stage] = [note.text for note in notes if note.kind == "stage"]
    assert stage.startswith("fuse 8 of 8 answers, the longer ones cut to ")
    assert "[...] b" in talk.asked and "bEND" in talk.asked and "b" * 150 not in talk.asked
    assert outcome.sample.text == "9"


async def test_answers_that_do_not_fit_at_all_are_left_out() -> None:
    notes: list[Progress] = []
    engine = ScriptedEngine(Talk("b" * 150), context=620)
    outcome = await work_on(engine, Fusion(), budget=Budget(samples=8), max_tokens=160, notes=notes, extract=str)
    [stage] = [note.text for note in notes if note.kind == "stage"]
    shown = int(stage.split()[1])
    assert 1 <= shown < 8 and sum(note.kind == "prune" for note in notes) == 8 - shown
    assert outcome.sample.text == "9"


async def test_without_room_for_the_prompt_the_majority_is_the_answer() -> None:
    outcome = await work_on(ScriptedEngine(Talk("1"), context=300), Fusion(), max_tokens=8)
    assert outcome.sample.text == "1" and outcome.confidence == 1


async def test_the_tokens_of_one_answer_are_left_for_the_fused_one() -> None:
    talk = Talk("1" * 31)
    outcome = await work_on(ScriptedEngine(talk), Fusion(), budget=Budget(samples=8, tokens=100))
    assert outcome.sample.text == "9" and outcome.spent.samples == 2 and outcome.spent.tokens == 66


@pytest.mark.parametrize("budget", [Budget(tokens=1), Budget(samples=1), Budget(seconds=1e-6)])
async def test_a_small_budget_is_kept(budget: Budget) -> None:
    outcome = await work_on(ScriptedEngine(Talk("1")), Fusion(), budget=budget)
    assert outcome.sample.text in ("1", "") and outcome.spent.tokens <= 2


async def test_answers_that_came_with_the_request_are_shown_too() -> None:
    talk = Talk("1")
    await work_on(ScriptedEngine(talk), Fusion(), given=[Sample("from the edge", (), 0.0, "7")])
    assert "Answer 1:\nfrom the edge" in talk.asked


@pytest.mark.parametrize(("score", "verified"), [(0.9, True), (0.1, False), (None, None)])
async def test_a_verifier_judges_the_fused_answer(score: float | None, verified: bool | None) -> None:
    verifier = RuleVerifier(lambda claim: score, steps=False)
    outcome = await work_on(ScriptedEngine(Talk("1")), Fusion(), verifier)
    assert outcome.sample.text == "9" and outcome.verified is verified
    assert [claim.text for claim in verifier.claims] == ["9"]


async def test_time_that_ran_out_during_a_pilot_leaves_what_the_pilot_wrote() -> None:
    engine = ScriptedEngine(Talk("1x"))
    given = [Sample("1x", (17,), -0.1, "1x")]
    async with running(engine) as (loop, places):
        forks = Forks(loop, places, WARM)
        problem = Problem(engine.tokenizer.encode("q>"), "q>", WARM, given=given)
        work = Workspace(problem, Budget(seconds=1e-9), forks)
        work.spent.samples = 1  # the pilot's
        outcome = await Fusion().solve(work)
        await forks.close()
    assert (outcome.sample.text, outcome.ended) == ("1x", "time")
