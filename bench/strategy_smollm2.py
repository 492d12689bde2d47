"""The same strategies on a real model: SmolLM2 and small products, which it gets right one time in three."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from updraft.engine import open_engine
from updraft.sampling import SamplingParams
from updraft.strategies.subject import Question, Subject
from updraft.verifiers import Resources
from updraft.verifiers.registry import open_verifier

from .report import Step
from .strategy_curves import budgets, curves_of
from .strategy_pool import draw_pool
from .strategy_verifiers import asking_verifiers, rates_of

__all__ = ["SMOLLM2", "products", "smollm2_curves"]

SMOLLM2: Final = "smollm2"
_CONTEXT: Final = 1024
_ANSWER: Final = 48  # tokens, at most
_TEMPERATURE: Final = 0.7
_JUDGED: Final = 4  # answers of a question that verifiers are judged by
_FACTORS: Final = range(2, 13)
_NUMBER: Final = re.compile(r"-?\d+")


def products(count: int, *, seed: int) -> list[Question]:
    """Questions for products of two numbers from 2 to 12, each pair once, spread over the table."""
    pairs = [(a, b) for a in _FACTORS for b in _FACTORS]
    chosen = [pairs[(seed + number * 37) % len(pairs)] for number in range(min(count, len(pairs)))]
    return [Question(f"What is {a} times {b}?", str(a * b), 1 + (a > 9 or b > 9)) for a, b in chosen]


async def smollm2_curves(
    count: int, most: int, search: Sequence[int], *, seed: int, threads: int | None, step: Step
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A curve of every strategy with budgets up to `most`, whose verifier is the log-probability of the answer; and how
    often verifiers that ask the model err.

    Args:
        search: budgets of the strategies that are run anew for each.
    """
    options: dict[str, Any] = {} if threads is None else {"threads": threads}
    subject = Subject(
        open_engine(SMOLLM2, context=_CONTEXT, sequences=most + 1, **options),
        verifier=open_verifier("logprob", Resources()),
        extract=_last_number,
        step=". ",
        max_tokens=_ANSWER,
        sampling=SamplingParams(temperature=_TEMPERATURE, seed=0),
        concurrent=1,
    )
    async with subject:
        questions = products(count, seed=seed)
        pools = [await draw_pool(subject, one, most, seed=seed + 1_000_003 * n) for n, one in enumerate(questions)]
        step(f"{most} answers of {SMOLLM2}")
        rows = await curves_of(subject, pools, [some for some in budgets(most) if some in search], seed=seed, step=step)
        forks = subject.forks(seed)
        try:
            resources = Resources(reader=forks)
            rates = await rates_of(SMOLLM2, asking_verifiers(resources), subject, pools, resources, each=_JUDGED)
        finally:
            await forks.close()
        step("verifiers")
        return rows, rates


def _last_number(text: str) -> str | None:
    found = _NUMBER.findall(text.replace(",", ""))
    return found[-1] if found else None
