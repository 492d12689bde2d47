"""Branches over the context manager: strategies come to the same answers as on an engine of their own."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.scripted_engine import ScriptedEngine, tree
from tests.fakes.verifiers import RuleVerifier
from tests.shared.strategies.solving import WARM, steps_of, work_on
from updraft.engine.loop import EngineLoop
from updraft.strategies import Budget, Forks, Outcome, Problem, parse_strategy, solve
from updraft.verifiers import Claim
from updraft_cloud.context.manager import ContextManager

QUESTION = "q" * 200 + ">"


def letters(claim: Claim) -> float:
    return 0.1 + 0.8 * steps_of(claim.text).count("a") / 6


async def in_the_cloud(name: str, sequences: int) -> Outcome:
    engine = ScriptedEngine(tree(4, 5), sequences=sequences)
    manager = ContextManager(engine)
    loop = EngineLoop(engine, settle=manager.begin_turn)
    loop.start()
    try:
        problem = Problem(engine.tokenizer.encode(QUESTION), QUESTION, WARM, max_tokens=32, step="\n")
        forks = Forks(loop, manager, WARM)
        outcome = await solve(problem, parse_strategy(name), Budget(samples=8), forks, verifier=RuleVerifier(letters))
        await asyncio.wrap_future(loop.call(manager.check_integrity))
        assert manager.statistics.sessions == 0
        return outcome
    finally:
        await asyncio.to_thread(loop.stop)
        manager.close()


@pytest.mark.parametrize("sequences", [3, 16])
@pytest.mark.parametrize(
    "name", ["self-consistency", "particle-filtering", "particle-gibbs", "a-star", "beam-search", "fusion"]
)
async def test_answers_are_those_of_an_engine_alone_and_the_prompt_is_computed_once(name: str, sequences: int) -> None:
    cloud = await in_the_cloud(name, sequences)
    alone = await work_on(
        ScriptedEngine(tree(4, 5)),
        parse_strategy(name),
        RuleVerifier(letters),
        question=QUESTION,
        budget=Budget(samples=8),
    )
    assert (cloud.sample, cloud.alternatives, cloud.spent.tokens) == (
        alone.sample,
        alone.alternatives,
        alone.spent.tokens,
    )
    more = 700 if name == "fusion" else 0  # a prompt of its own
    more += 60 if sequences < 8 else 0  # of caches that had to go
    assert cloud.spent.prefilled <= len(QUESTION) + more
