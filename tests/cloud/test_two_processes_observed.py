"""Metrics and readiness of a cloud whose engine is a process of its own, and dies."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from tests.fakes.tiers import complete, running_agent, until
from updraft.config import CloudSettings, ListenSettings
from updraft.config.operations import OperationsSettings
from updraft.engine import open_engine
from updraft.generation import GenerationRequest
from updraft.modes import parse_settings
from updraft_cloud.engine.process_host import ProcessHost
from updraft_cloud.server import CloudServer

REQUEST = GenerationRequest(prompt="the", max_tokens=8, settings=parse_settings({"mode": "cloud"}), ignore_end=True)


@pytest.fixture
async def cloud(tiny_model_path: Path) -> AsyncIterator[CloudServer]:
    operations = OperationsSettings(enabled=True, port=0, token=SecretStr("s3cret"), drain_notice_s=0)
    settings = CloudSettings(
        model=str(tiny_model_path),
        context=256,
        sequences=2,
        threads=1,
        drain_s=0.1,
        listen=ListenSettings(port=0),
        operations=operations,
    )
    async with CloudServer(settings) as server:
        yield server


def value(cloud: CloudServer, name: str, **labels: str) -> float:
    return cloud.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_the_engines_process_sends_its_numbers(cloud: CloudServer, tiny_model_path: Path) -> None:
    async with running_agent(open_engine(tiny_model_path, context=256, threads=1), cloud.address) as agent:
        await complete(agent, REQUEST)
    await until(lambda: value(cloud, "updraft_pass_positions_total", kind="write") > 0)
    async with httpx.AsyncClient(headers={"authorization": "Bearer s3cret"}) as http:
        page = (await http.get(f"http://{cloud.operations.address}/metrics")).text
    assert "updraft_ready 1.0" in page and 'updraft_build_info{model="tiny' in page
    assert value(cloud, "updraft_kv_bytes", place="device") > 0
    assert value(cloud, "updraft_queue_wait_seconds_count") == 1
    assert 0 < value(cloud, "updraft_queue_wait_seconds_sum") < value(cloud, "updraft_answer_seconds_sum", kind="write")


async def test_a_dead_engine_is_not_ready_until_it_is_back(cloud: CloudServer) -> None:
    assert isinstance(cloud.host, ProcessHost)
    engine = cloud.host.process
    assert engine is not None
    os.kill(engine, signal.SIGKILL)
    await until(lambda: cloud.readiness.reasons == ["engine"])
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"http://{cloud.operations.address}/health/ready")).status_code == 503
        assert (await http.get(f"http://{cloud.operations.address}/health/live")).status_code == 200
    await until(lambda: cloud.readiness.ready, seconds=60)
    assert value(cloud, "updraft_engine_restarts_total") == 1
