"""Looked-up drafts and their trees on llama.cpp: copies of sequences, branches in shared passes, the same text."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes.tiers import complete, running_agent, running_cloud, until
from updraft.engine import open_engine
from updraft.generation import ChatMessage, GenerationRequest
from updraft.modes import parse_settings
from updraft.sampling import SamplingParams

PROMPTS = [
    "Repeat: the fox saw the hen, the fox saw the cat, the fox saw the hen.",
    "Copy this list: red, green, blue, red, green, white, red, green, blue.",
]


def ask(mode: str, prompt: str, temperature: float, tokens: int, **lookup: object) -> GenerationRequest:
    return GenerationRequest(
        messages=[ChatMessage("user", prompt)],
        sampling=SamplingParams(temperature=temperature, seed=3),
        max_tokens=tokens,
        settings=parse_settings({"mode": mode, "lookup": lookup}),
        ignore_end=True,
    )


async def check(small: Path, large: Path, *, sequences: int, tokens: int, context: int) -> int:
    """Compare looked-up answers, one by one and together, with the cloud's; tokens that were looked up."""
    edge = open_engine(small, context=context, sequences=4, threads=1)
    cloud_engine = open_engine(large, context=context, sequences=sequences, threads=1)
    found = 0
    async with running_cloud(cloud_engine) as cloud, running_agent(edge, cloud.address) as agent:
        for temperature in (0.0, 0.6):
            alone = [(await complete(agent, ask("cloud", one, temperature, tokens)))[1] for one in PROMPTS]
            for more in ({"branches": 4, "match": 1}, {"before_model": True, "branches": 2}):
                mode = "draft" if "before_model" in more else "lookup"
                asked = [ask(mode, one, temperature, tokens, **more) for one in PROMPTS]
                answers = [(await complete(agent, one))[1] for one in asked]
                answers += [answer for _, answer in await asyncio.gather(*(complete(agent, one) for one in asked))]
                assert [answer.token_ids for answer in answers] == [answer.token_ids for answer in alone] * 2
                found += sum(answer.statistics.lookup_accepted for answer in answers)
        await until(lambda: not cloud.service.active)
    return found


@pytest.mark.parametrize("sequences", [2, 8])
async def test_trees_of_a_tiny_model_change_nothing(tiny_pair: tuple[Path, Path], sequences: int) -> None:
    assert await check(*tiny_pair, sequences=sequences, tokens=24, context=192)


@pytest.mark.smollm2
async def test_trees_of_a_real_pair_change_nothing(smollm2_path: Path, smollm2_q4_0_path: Path) -> None:
    assert await check(smollm2_q4_0_path, smollm2_path, sequences=8, tokens=20, context=256)
