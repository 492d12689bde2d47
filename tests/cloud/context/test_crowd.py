"""Many more answers at once than the cloud has sequences: each is the answer that it is alone."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud
from updraft.config.admission import AdmissionSettings
from updraft.config.kv import KvSettings
from updraft.engine.llama import LlamaEngine
from updraft.generation import GenerationRequest
from updraft.modes import parse_settings
from updraft.sampling import SamplingParams
from updraft_cloud.engine.host import LocalHost

SESSIONS = 40
SHARED = "You are a helpful assistant and answer in one short sentence. "


def ask(number: int) -> GenerationRequest:
    mode = "cloud" if number % 10 == 0 else "draft"
    extra: dict[str, Any] = {"stop": {"rule": "fixed", "length": 1 + number % 5}} if mode == "draft" else {}
    return GenerationRequest(
        prompt=(SHARED if number % 2 else "") + f"question {number}",
        sampling=SamplingParams(temperature=0.8, seed=number),
        max_tokens=16,
        settings=parse_settings({"mode": mode, **extra}),
        ignore_end=True,
    )


@pytest.mark.parametrize("where", ["host", "disk", "nowhere"])
async def test_forty_sessions_on_four_sequences(where: str, tmp_path: Path) -> None:
    host, disk = {"host": (3000, 0), "disk": (1000, 1 << 20), "nowhere": (0, 0)}[where]
    kv = KvSettings(min_prefix=16, host_bytes=host, disk_bytes=disk, disk_folder=tmp_path)
    edge = HashEngine(noise=0.8, own_seed=7, sequences=SESSIONS)
    async with running_cloud(HashEngine()) as cloud, running_agent(edge, cloud.address) as agent:
        alone = [(await complete(agent, ask(number)))[1].text for number in range(SESSIONS)]
    edge = HashEngine(noise=0.8, own_seed=7, sequences=SESSIONS)
    few, admission = HashEngine(sequences=4), AdmissionSettings(places=SESSIONS)
    async with (
        running_cloud(few, kv=kv, admission=admission) as cloud,
        running_agent(edge, cloud.address) as agent,
    ):
        answers = await asyncio.gather(*(complete(agent, ask(number)) for number in range(SESSIONS)))
        assert isinstance(cloud.host, LocalHost)
        statistics = cloud.host.worker.context.statistics
        assert [completion.text for _, completion in answers] == alone
        assert not any(completion.degraded for _, completion in answers)
        assert statistics.dropped > 0 or where != "nowhere"
        assert statistics.spilled_host + statistics.spilled_disk > 0 or where == "nowhere"
        assert statistics.failures == 0
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("where", ["host", "nowhere"])
@pytest.mark.parametrize("pair", ["tiny", pytest.param("smollm2", marks=pytest.mark.smollm2)])
async def test_a_crowd_on_llama_cpp(request: pytest.FixtureRequest, pair: str, where: str) -> None:
    if pair == "tiny":
        small, large = request.getfixturevalue("tiny_pair")
    else:
        small, large = (request.getfixturevalue(name) for name in ("smollm2_q4_0_path", "smollm2_path"))
    edge = LlamaEngine(small, context=256, sequences=5, threads=1)
    few = LlamaEngine(large, context=256, sequences=1, threads=1)
    kv, admission = KvSettings(min_prefix=16, host_bytes=(where == "host") << 30), AdmissionSettings(places=5)
    async with (
        running_cloud(few, kv=kv, admission=admission) as cloud,
        running_agent(edge, cloud.address) as agent,
    ):
        alone = [(await complete(agent, ask(number)))[1].text for number in range(5)]
        answers = await asyncio.gather(*(complete(agent, ask(number)) for number in range(5)))
        assert [completion.text for _, completion in answers] == alone
        assert isinstance(cloud.host, LocalHost)
        statistics = cloud.host.worker.context.statistics
        assert statistics.kept + statistics.dropped + statistics.spilled_host > 0
        assert statistics.failures == 0
