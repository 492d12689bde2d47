"""The laboratory's models, ready to be asked: edge, cloud, and the reward model that verifies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from updraft.laboratory.task import Split, parse_answer, problems, prompt
from updraft.verifiers.reward import open_reward

from updraft.engine import open_engine
from updraft.sampling import SamplingParams
from updraft.strategies.subject import Question, Subject
from updraft.verifiers import Verifier

from .strategy_pool import Pool, draw_pool

__all__ = ["Laboratory", "laboratory_questions"]

_CONTEXT = 160
_ANSWER = 100  # tokens, at most: 8 steps of at most 9, and the last line
_TEMPERATURE = 1.0


def laboratory_questions(split: Split, count: int, *, seed: int) -> list[Question]:
    """Questions of a split, of 1 to 8 steps in turn."""
    return [
        Question(prompt(problem), str(problem.answer), problem.steps) for problem in problems(split, count, seed=seed)
    ]


@dataclass(frozen=True, slots=True)
class Laboratory:
    """Both models as subjects. Both have the reward model, which runs in the cloud, as their verifier."""

    edge: Subject
    cloud: Subject
    verifier: Verifier

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, *, sequences: int, threads: int | None) -> AsyncIterator[Self]:
        options: dict[str, Any] = {"context": _CONTEXT, "sequences": sequences + 1}
        if threads is not None:
            options["threads"] = threads
        async with contextlib.AsyncExitStack() as stack:
            verifier = await stack.enter_async_context(open_reward("lab-reward", **options))
            edge, cloud = (
                await stack.enter_async_context(_subject(name, verifier, options)) for name in ("lab-edge", "lab-cloud")
            )
            yield cls(edge, cloud, verifier)

    async def pools(self, subject: Subject, questions: Sequence[Question], count: int, *, seed: int) -> list[Pool]:
        """Answers to each question, drawn and judged, several questions at once."""
        gate = asyncio.Semaphore(2)

        async def one(index: int, question: Question) -> Pool:
            async with gate:
                return await draw_pool(subject, question, count, seed=seed + 1_000_003 * index)

        return await asyncio.gather(*(one(index, question) for index, question in enumerate(questions)))


def _subject(name: str, verifier: Verifier, options: dict[str, Any]) -> Subject:
    return Subject(
        open_engine(name, **options),
        verifier=verifier,
        extract=_answer,
        step="\n",
        max_tokens=_ANSWER,
        sampling=SamplingParams(temperature=_TEMPERATURE, seed=0),
        concurrent=2,
    )


def _answer(text: str) -> str | None:
    number = parse_answer(text)
    return None if number is None else str(number)
