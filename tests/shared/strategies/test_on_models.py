"""The sampling strategies on llama.cpp: forks, self-evaluation and votes with real tokenizers and templates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.samples import ScoreTable
from updraft.chat_template import ChatTemplate
from updraft.engine.llama import LlamaEngine
from updraft.engine.loop import EngineLoop
from updraft.sampling import SamplingParams
from updraft.strategies import Budget, EnginePlaces, Forks, Outcome, Problem, parse_strategy, solve
from updraft.strategies.prompts import follow_up
from updraft.strategies.self_evaluation import QUESTION, answer_tokens

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("self-consistency", {"confidence": 0.9, "wave": 2}),
    ("rpc", {"confidence": 0.9, "wave": 2}),
    ("best-of-n", {"weighted": True}),
    ("resample", {}),
    ("adaptive", {"wave": 2, "look": 4, "gamma": 1.0}),
]


@pytest.fixture(scope="module")
def tiny(tiny_model_path: Path) -> Iterator[EngineLoop]:
    yield from running(LlamaEngine(tiny_model_path, context=256, sequences=4, threads=1))


@pytest.fixture(scope="module")
def smollm2(smollm2_q4_0_path: Path) -> Iterator[EngineLoop]:
    yield from running(LlamaEngine(smollm2_q4_0_path, context=256, sequences=8, threads=1))


def running(engine: LlamaEngine) -> Iterator[EngineLoop]:
    loop = EngineLoop(engine)
    loop.start()
    yield loop
    loop.stop()
    engine.shutdown()


async def answer(loop: EngineLoop, name: str, settings: dict[str, Any], question: str, most: int) -> Outcome:
    engine = loop.engine
    text = ChatTemplate(engine.info.chat_template).render([{"role": "user", "content": question}])
    sampling = SamplingParams(temperature=0.7, seed=11)
    problem = Problem(engine.tokenizer.encode(text, special=True), question, sampling, most)
    places = EnginePlaces(engine)
    forks = Forks(loop, places, sampling)
    verifier = ScoreTable({"": 0.0}, false_positive_rate=0.1)
    try:
        return await solve(problem, parse_strategy(name, settings), Budget(samples=6), forks, verifier=verifier)
    finally:
        await asyncio.wrap_future(loop.call(places.close))


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
async def test_every_strategy_is_a_function_of_the_seed(tiny: EngineLoop, name: str, settings: dict[str, Any]) -> None:
    runs = [await answer(tiny, name, settings, "How much is 2 + 2?", 12) for _ in range(2)]
    assert runs[0].sample == runs[1].sample
    assert runs[0].alternatives == runs[1].alternatives
    assert 1 <= runs[0].spent.samples <= 6
    assert 0.0 <= runs[0].confidence <= 1.0


@pytest.mark.smollm2
@pytest.mark.slow
async def test_smollm2_is_asked_about_its_own_answer_and_votes(smollm2: EngineLoop) -> None:
    tokenizer = smollm2.engine.tokenizer
    yes, no = answer_tokens(tokenizer)
    assert {tokenizer.piece(token).decode().strip().lower() for token in yes} == {"yes"}
    assert {tokenizer.piece(token).decode().strip().lower() for token in no} == {"no"}
    question = b"".join(tokenizer.piece(token) for token in follow_up(smollm2.engine, QUESTION)).decode()
    assert question.strip().startswith("user\nWould you do better")
    assert question.endswith("assistant\n")
    outcome = await answer(smollm2, "adaptive", {"gamma": 1.0}, "What is the capital of France?", 12)
    assert 0.0 < outcome.confidence < 1.0
    vote = await answer(smollm2, "rpc", {}, "What is 2 + 2? Answer with the number only.", 12)
    assert vote.alternatives[0].sample == vote.sample
    assert sum(alternative.samples for alternative in vote.alternatives) + vote.unparsed == 6
