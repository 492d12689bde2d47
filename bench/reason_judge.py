"""How well a cloud's grades tell right steps from wrong ones: worked answers, as they are and with a number changed."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from updraft.evaluation.tasks.gsm8k import Problem
from updraft.generation import Statistics
from updraft.sampling import SamplingParams
from updraft.token_log import TokenLog
from updraft_edge import wire
from updraft_edge.agent import Agent
from updraft_edge.cloud_session import CloudSession
from updraft_edge.link import CloudLink
from updraft_edge.policies.judges import step_judge
from updraft_edge.policies.rubric import Questions

__all__ = ["Pair", "Scored", "Separation", "judged", "pairs", "separation"]

Scored = Literal["average", "greedy", "likelihood"]

_NUMBER: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Pair:
    """A step of a worked answer, the same with its last number changed, and the steps before it."""

    question: str
    before: str
    right: str
    wrong: str


@dataclass(frozen=True, slots=True)
class Separation:
    """Grades of right and wrong steps, in the same order, 0 to 9."""

    right: list[float]
    wrong: list[float]


def pairs(problems: Sequence[Problem], count: int, seed: int) -> list[Pair]:
    """One pair of each problem that has a step with a number, up to `count`."""
    rng, found = random.Random(seed), list[Pair]()
    for problem in problems:
        steps = [line for line in problem.worked.splitlines() if line.strip() and not line.startswith("####")]
        numbered = [place for place, step in enumerate(steps) if _NUMBER.search(step)]
        if numbered and len(found) < count:
            place = rng.choice(numbered)
            before = "".join(f"{step}\n\n" for step in steps[:place])
            found.append(Pair(problem.question, before, steps[place], _changed(steps[place], rng)))
    return found


def _changed(step: str, rng: random.Random) -> str:
    last = list(_NUMBER.finditer(step))[-1]
    number = int(last.group())
    other = number + rng.choice([1, 2, 3, 5, 10, max(1, number // 2)])
    return f"{step[: last.start()]}{other}{step[last.end() :]}"


class _Tokens:
    """The agent's tokenizer as the rubric wants it: without a start token."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        return self._agent.encode(text, start=False, special=special)


async def judged(agent: Agent, link: CloudLink, one: Pair, prompt: str, scoring: Scored) -> tuple[float, float]:
    """The cloud's grades of the right and of the wrong step, in a session of their own.

    Args:
        prompt: the question as the model's template renders it.
    """
    tokens = _Tokens(agent)
    log = TokenLog(tokens.encode(prompt + one.before, special=True))
    opening = wire.Opening(
        tokenizer_hash=str(_edge(agent)["tokenizer_hash"]),
        sampling=SamplingParams(seed=0),
        max_tokens=1,
        stop_tokens=[],
        report=False,
        top_logprobs=0,
        ignore_end=True,
    )
    session = CloudSession(link, opening, log, Statistics())
    template = agent.tokenizer_info().get("chat_template")
    questions = Questions(tokens, template if isinstance(template, str) else None)
    judge = step_judge(session, scoring, lambda: questions.after(log.tokens, chat=True))
    try:
        right = await judge.score_step(tokens.encode(f"{one.right}\n\n"))
        return right, await judge.score_step(tokens.encode(f"{one.wrong}\n\n"))
    finally:
        await session.close()


def _edge(agent: Agent) -> dict[str, Any]:
    edge = agent.info()["edge"]
    assert isinstance(edge, dict)  # noqa: S101 (what the agent says of itself)
    return edge


def separation(grades: Separation) -> dict[str, float]:
    """Means, the area under the ROC curve of right against wrong, and how often the right one of a pair is above.

    Without information both are 0.5; ties count a half.
    """
    right, wrong = np.array(grades.right), np.array(grades.wrong)
    if not len(right):
        return {"judged": 0, "right_mean": 0.0, "wrong_mean": 0.0, "spread": 0.0, "area": 0.5, "paired": 0.5}
    area = (right[:, None] > wrong).mean() + 0.5 * (right[:, None] == wrong).mean()
    return {
        "judged": len(right),
        "right_mean": float(right.mean()),
        "wrong_mean": float(wrong.mean()),
        "spread": float(np.concatenate([right, wrong]).std()),
        "area": float(area),
        "paired": float((right > wrong).mean() + 0.5 * (right == wrong).mean()),
    }
