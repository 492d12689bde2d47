"""Verifiers that ask a model: what they ask it, and what they make of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tests.fakes.byte_engine import byte_engine
from tests.fakes.engine import HashEngine
from updraft.engine.base import FloatRows
from updraft.engine.loop import EngineLoop
from updraft.errors import ConfigError, InvalidRequest
from updraft.sampling import SamplingParams
from updraft.strategies import EnginePlaces, Forks
from updraft.strategies.prompts import first_tokens
from updraft.verifiers import Claim, Resources, open_verifier, parse_verifier

CLAIM = Claim("What is 2 + 2?", (), (), "It is 4.")


class Opinion:
    """A model that prefers the first option by `bias`, and right answers by `sense`; keeps what it was asked."""

    def __init__(self, bias: float = 0.0, sense: float = 0.0) -> None:
        self.engine = byte_engine()
        self.asked: list[str] = []
        self._bias, self._sense = bias, sense

    async def choices(self, texts: Sequence[Sequence[int]], choices: Sequence[int]) -> FloatRows:
        rows = []
        for text in (bytes(text).decode() for text in texts):
            self.asked.append(text)
            sense = self._sense if "It is 4." in text else -self._sense
            swapped = "A) The proposed answer is wrong" in text
            rows.append(
                [
                    {"A": self._bias - sense if swapped else self._bias + sense, "Y": sense}.get(chr(c), 0.0)
                    for c in choices
                ]
            )
        return np.array(rows, np.float32).reshape(len(texts), len(choices))

    async def writes(self, prompts: Sequence[Sequence[int]], most: int, sampling: SamplingParams) -> list[list[int]]:
        raise AssertionError("nobody asked it to write")


class Thinker(Opinion):
    """Writes a number of its own each time, and believes odd ones."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[str] = []
        self._written = 0

    async def writes(self, prompts: Sequence[Sequence[int]], most: int, sampling: SamplingParams) -> list[list[int]]:
        assert most == 20 and sampling.temperature > 0
        self.prompts += [bytes(prompt).decode() for prompt in prompts]
        checks = [f"check {self._written + number}" for number in range(len(prompts))]
        self._written += len(checks)
        return [list(check.encode()) for check in checks]

    async def choices(self, texts: Sequence[Sequence[int]], choices: Sequence[int]) -> FloatRows:
        self.asked += [bytes(text).decode() for text in texts]
        odd = [int(text.partition("check ")[2][0]) % 2 for text in self.asked[-len(texts) :]]
        return np.array([[50.0 * one, 50.0 * (1 - one)] for one in odd], np.float32)


def test_words_that_begin_alike_are_refused() -> None:
    engine = byte_engine()
    assert first_tokens(engine, ["Yes", "No"]) == [ord("Y"), ord("N")]
    for words in (["Yes", "Yellow"], ["1", ""]):
        with pytest.raises(ConfigError, match="cannot be asked"):
            first_tokens(engine, words)


async def score(reader: Opinion, spec: object, claim: Claim = CLAIM) -> float | None:
    [judgement] = await open_verifier(spec, Resources(reader)).judge([claim])  # type: ignore[arg-type]
    return judgement.score


async def test_a_model_that_prefers_a_place_is_worth_a_half() -> None:
    assert await score(Opinion(bias=6.0), "self") == pytest.approx(0.5)
    assert await score(Opinion(bias=-6.0), "self") == pytest.approx(0.5)


async def test_a_model_that_tells_is_heard_whatever_it_prefers() -> None:
    wrong = Claim(CLAIM.question, (), (), "It is 5.")
    for bias in (-2.0, 0.0, 2.0):
        reader = Opinion(bias=bias, sense=3.0)
        right_score, wrong_score = await score(reader, "self"), await score(reader, "self", wrong)
        assert right_score is not None and wrong_score is not None
        assert right_score > 0.6 > 0.4 > wrong_score


async def test_it_is_shown_question_and_answer_twice_with_the_options_swapped() -> None:
    reader = Opinion()
    await score(reader, "self")
    first, second = reader.asked
    assert all(CLAIM.question in text and CLAIM.text in text for text in reader.asked)
    assert first.index("right.") < first.index("wrong.") and second.index("wrong.") < second.index("right.")


async def test_votes_are_wordings() -> None:
    reader = Opinion(sense=2.0)
    assert await score(reader, {"kind": "generative", "votes": 3}) == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert len(set(reader.asked)) == 3 and all("Yes or No" in text for text in reader.asked)


async def test_a_vote_can_be_a_verdict_on_a_written_check() -> None:
    thinker = Thinker()
    spec = {"kind": "generative", "votes": 5, "reason": 20}
    long = Claim("q", (), (), "x" * 5000)
    first, unread, second = await open_verifier(spec, Resources(thinker)).judge([CLAIM, long, CLAIM])
    assert first.score == pytest.approx(0.4) and second.score == pytest.approx(0.6)  # checks 0 to 4, and 5 to 9
    assert unread.score is None and "too long" in unread.reason
    assert len(thinker.prompts) == 10 and all(CLAIM.text in prompt for prompt in thinker.prompts)
    for prompt, asked in zip(thinker.prompts, thinker.asked, strict=True):
        assert asked.startswith(prompt + "check ") and "Yes or No" in asked[len(prompt) :]


def test_more_votes_than_wordings_need_a_check() -> None:
    with pytest.raises(InvalidRequest, match="4 wordings"):
        parse_verifier({"kind": "generative", "votes": 5})
    assert parse_verifier({"kind": "generative", "votes": 5, "reason": 64}).kind == "generative"


async def test_an_answer_without_room_is_told_and_the_others_are_judged() -> None:
    long = Claim("q", (), (), "x" * 5000)
    first, second = await open_verifier("self", Resources(Opinion(sense=1.0))).judge([long, CLAIM])
    assert first.score is None and "too long" in first.reason and second.score is not None


@pytest.fixture
def loop() -> Iterator[EngineLoop]:
    engine: HashEngine = byte_engine(sequences=4)
    loop = EngineLoop(engine)
    loop.start()
    yield loop
    loop.stop()


async def test_an_engine_answers_the_same_whoever_is_asked_beside_it(loop: EngineLoop) -> None:
    forks = Forks(loop, EnginePlaces(loop.engine), SamplingParams(seed=0))
    verifier = open_verifier("generative", Resources(forks))
    claims = [Claim("q", (), (), text) for text in ("one", "two", "three")]
    together = await verifier.judge(claims)
    alone = [(await verifier.judge([claim]))[0] for claim in claims]
    assert list(together) == alone
    assert all(each.score is not None and 0 < each.score < 1 for each in together)
    assert forks.work.tokens == 0
    await forks.close()
