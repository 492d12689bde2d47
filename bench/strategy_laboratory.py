"""The laboratory's models, ready to be asked: edge, cloud, and the reward model that verifies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from updraft.engine import open_engine
from updraft.laboratory.task import Split, parse_answer, problems
from updraft.sampling import SamplingParams
from updraft.strategies.subject import Question, Subject
from updraft.verifiers import Resources, Verifier
from updraft.verifiers.registry import open_verifier
from updraft.verifiers.reward_model import RewardSource, open_reward
from updraft.verifiers.settings import OpenVerifier

from .strategy_pool import Pool, draw_pool

__all__ = ["REWARD", "Laboratory", "laboratory_questions", "open_laboratory"]

REWARD: Final[dict[str, Any]] = {
    "model": "lab-reward",
    "good": "<|right|>",
    "bad": "<|wrong|>",
    "step": "\n",
    "mark": "\n",
}
"""How the laboratory's reward model is asked."""

_VERIFIER: Final[dict[str, Any]] = {"kind": "reward", "aggregate": "product"}
_CONTEXT = 1024  # a fused answer is written below others
_ANSWER = 100  # tokens, at most: 8 steps of at most 9, and the last line
_TEMPERATURE = 1.0


def laboratory_questions(split: Split, count: int, *, seed: int) -> list[Question]:
    """Questions of a split, of 2 to 8 steps in turn."""
    return [Question(problem.text, str(problem.answer), problem.steps) for problem in problems(split, count, seed=seed)]


@dataclass(frozen=True, slots=True)
class Laboratory:
    """Both models as subjects. Both have the reward model, which runs in the cloud, as their verifier.

    Attributes:
        resources: with the reward model, to open other verifiers with.
    """

    edge: Subject
    cloud: Subject
    resources: Resources

    @property
    def verifiers(self) -> list[OpenVerifier]:
        """The reward model's, and what probabilities say."""
        return [open_verifier(spec, self.resources) for spec in (_VERIFIER, "logprob")]

    async def pools(self, subject: Subject, questions: Sequence[Question], count: int, *, seed: int) -> list[Pool]:
        """Answers to each question, drawn and judged, several questions at once."""
        gate = asyncio.Semaphore(2)

        async def one(index: int, question: Question) -> Pool:
            async with gate:
                return await draw_pool(subject, question, count, seed=seed + 1_000_003 * index)

        return await asyncio.gather(*(one(index, question) for index, question in enumerate(questions)))


@contextlib.asynccontextmanager
async def open_laboratory(*, sequences: int, threads: int | None) -> AsyncIterator[Laboratory]:
    """Load the three models.

    Args:
        sequences: branches that each holds at once.
        threads: of each engine; what the engine chooses when left out.
    """
    options: dict[str, Any] = {} if threads is None else {"threads": threads}
    reward = open_reward(RewardSource(**REWARD, context=_CONTEXT, sequences=sequences + 1, options=options))
    try:
        resources = Resources(rewards={"reward": reward})
        verifier = open_verifier(_VERIFIER, resources)
        options |= {"context": _CONTEXT, "sequences": sequences + 1}
        async with _subject("lab-edge", verifier, options) as edge, _subject("lab-cloud", verifier, options) as cloud:
            yield Laboratory(edge, cloud, resources)
    finally:
        await asyncio.to_thread(reward.close)


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
