"""What tests of strategies share: an engine that runs, and one problem worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from updraft.engine.base import Engine
from updraft.engine.loop import EngineLoop
from updraft.sampling import SamplingParams
from updraft.strategies import Budget, EnginePlaces, Forks, Outcome, Problem, Progress, Strategy, solve
from updraft.verifiers import Verifier

__all__ = ["running", "steps_of", "work_on"]

WARM = SamplingParams(temperature=1.0, seed=5)


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[tuple[EngineLoop, EnginePlaces]]:
    """The loop of an engine, and places that are free of all sequences at the end."""
    loop, places = EngineLoop(engine), EnginePlaces(engine)
    loop.start()
    try:
        yield loop, places
        await asyncio.wrap_future(loop.call(places.close))
    finally:
        loop.stop()


async def work_on(
    engine: Engine,
    strategy: Strategy,
    verifier: Verifier | None = None,
    *,
    budget: Budget | None = None,
    sampling: SamplingParams = WARM,
    notes: list[Progress] | None = None,
    **problem: Any,
) -> Outcome:
    """One question, "q>", worked on to the outcome; steps end with a newline. Fails if a sequence stays open."""
    question = problem.pop("question", "q>")
    asked = Problem(
        engine.tokenizer.encode(question), question, sampling, **{"step": "\n", "max_tokens": 32, **problem}
    )
    async with running(engine) as (loop, places):
        forks = Forks(loop, places, sampling)
        note = (lambda progress: None) if notes is None else notes.append
        outcome = await solve(asked, strategy, budget or Budget(samples=4), forks, verifier=verifier, note=note)
    assert getattr(engine, "open_sequences", 0) == 0
    return outcome


def steps_of(text: str) -> list[str]:
    """The lines of an answer."""
    return [line for line in text.split("\n") if line]
