"""A model that strategies are tried on, and questions whose answers are known."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from updraft.engine.base import Engine
from updraft.engine.loop import EngineLoop
from updraft.errors import InvalidRequest
from updraft.routing.votes import final_answer
from updraft.sampling import SamplingParams
from updraft.strategies.base import Strategy
from updraft.strategies.branches import Forks
from updraft.strategies.places import EnginePlaces
from updraft.strategies.problem import Budget, Extractor, Outcome, Problem, Progress, Sample
from updraft.strategies.prompts import ask
from updraft.strategies.solve import solve
from updraft.verifiers.base import Verifier

__all__ = ["Attempt", "Question", "Subject", "read_questions"]

_MOST_QUESTIONS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its right answer, and how hard it is thought to be (0 where nobody said)."""

    text: str
    answer: str
    level: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a strategy made of a question."""

    question: Question
    outcome: Outcome
    right: bool


class Subject:
    """An engine with a loop of its own; closing it frees both.

    Args:
        extract: reads a final answer; two are equal if it says the same of them.
        step: the text that ends a step.
        concurrent: questions that are worked on at once.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        verifier: Verifier | None = None,
        extract: Extractor = final_answer,
        step: str = "\n\n",
        max_tokens: int = 256,
        sampling: SamplingParams | None = None,
        concurrent: int = 4,
        runs_code: bool = False,
    ) -> None:
        self.engine = engine
        self.verifier = verifier
        self._extract = extract
        self._step = step
        self._max_tokens = max_tokens
        self._sampling = sampling or SamplingParams(temperature=0.8, seed=0)
        self._gate = asyncio.Semaphore(concurrent)
        self._runs_code = runs_code
        self.loop = EngineLoop(engine)
        self.places = EnginePlaces(engine)

    async def __aenter__(self) -> Self:
        self.loop.start()
        return self

    async def __aexit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        await asyncio.to_thread(self.loop.stop)

    def problem(self, question: str, *, seed: int = 0, given: Sequence[Sample] = ()) -> Problem:
        """A question as this model is asked it."""
        sampling = replace(self._sampling, seed=seed)
        prompt = ask(self.engine, question)
        return Problem(prompt, question, sampling, self._max_tokens, self._step, self._extract, given)

    def forks(self, seed: int) -> Forks:
        """Branches of this model."""
        return Forks(self.loop, self.places, replace(self._sampling, seed=seed))

    def right(self, question: Question, outcome: Outcome) -> bool:
        """The outcome's answer is the known one."""
        given = outcome.sample.answer
        return given is not None and given in (question.answer, self._extract(question.answer))

    async def attempt(
        self,
        question: Question,
        strategy: Strategy,
        budget: Budget,
        *,
        seed: int = 0,
        given: Sequence[Sample] = (),
        note: Callable[[Progress], None] = lambda progress: None,
    ) -> Attempt:
        """Let a strategy work on a question."""
        async with self._gate:
            problem = self.problem(question.text, seed=seed, given=given)
            outcome = await solve(
                problem,
                strategy,
                budget,
                self.forks(seed),
                verifier=self.verifier,
                note=note,
                runs_code=self._runs_code,
            )
        return Attempt(question, outcome, self.right(question, outcome))

    async def attempts(
        self,
        questions: Sequence[Question],
        strategy: Strategy,
        budget: Budget,
        *,
        seed: int = 0,
        done: Callable[[], None] = lambda: None,
    ) -> list[Attempt]:
        """One attempt each, several at once; a question's noise depends on its place in the list."""

        async def one(index: int, question: Question) -> Attempt:
            attempt = await self.attempt(question, strategy, budget, seed=seed + 1_000_003 * index)
            done()
            return attempt

        return await asyncio.gather(*(one(index, question) for index, question in enumerate(questions)))


def read_questions(path: Path) -> list[Question]:
    """Questions from JSON lines of `question`, `answer` and, if known, `level`.

    Raises:
        InvalidRequest: the file is missing or empty, or a line holds something else.
    """
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path.name} could not be read: {error}", param="tasks") from error
    if not 0 < len(lines) <= _MOST_QUESTIONS:
        raise InvalidRequest(
            f"{path.name} holds {len(lines)} questions; 1 to {_MOST_QUESTIONS} are read.", param="tasks"
        )
    return [_question(line, number, path.name) for number, line in enumerate(lines, 1)]


def _question(line: str, number: int, name: str) -> Question:
    try:
        data: Any = json.loads(line)
        question = Question(data["question"], str(data["answer"]), int(data.get("level", 0)))
        if not isinstance(question.text, str) or not question.text.strip():
            raise ValueError("an empty question")
        return question
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRequest(
            f"Line {number} of {name} is no question: {error}",
            remedy='Write lines such as {"question": "7+5=", "answer": "12"}.',
            param="tasks",
        ) from error
