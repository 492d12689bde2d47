"""Going away: readiness first, then no more sessions, then those that are open go elsewhere, and no token is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.relay import Relay
from tests.fakes.engine import HashEngine
from tests.fakes.raw_edge import RawEdge
from tests.fakes.tiers import complete, running_agent, running_cloud, until
from updraft.cloud_process import CloudProcess
from updraft.config import CloudSettings, ListenSettings
from updraft.config.operations import OperationsSettings
from updraft.engine import Engine, open_engine
from updraft.generation import Completion, GenerationRequest
from updraft.modes import parse_settings
from updraft.sampling import SamplingParams
from updraft.transport.address import parse_address
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud.server import SERVICE_NAME, CloudServer
from updraft_edge.agent import Agent

OPERATIONS = OperationsSettings(enabled=True, port=0, drain_notice_s=0.2)
FIRST_TOKENS = "updraft_time_to_first_token_seconds_count"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TOKENS = 60
PATIENT = {"reconnect_attempts": 40, "reply_timeout_s": 60.0, "connect_timeout_s": 20.0}


async def states(cloud: CloudServer) -> tuple[int, list[int]]:
    """HTTP's status of readiness, and gRPC's for the service and for the whole server."""
    async with httpx.AsyncClient() as http, aio.insecure_channel(cloud.address) as channel:
        ready = await http.get(f"http://{cloud.operations.address}/health/ready")
        stub = health_pb2_grpc.HealthStub(channel)
        asked = [await stub.Check(health_pb2.HealthCheckRequest(service=name)) for name in (SERVICE_NAME, "")]
    return ready.status_code, [answer.status for answer in asked]


async def test_readiness_goes_before_sessions_are_refused_and_before_they_are_asked_to_go() -> None:
    async with running_cloud(HashEngine(), operations=OPERATIONS, drain_s=5.0) as cloud:
        assert await states(cloud) == (200, [SERVING, SERVING])
        async with RawEdge(cloud.address) as edge, RawEdge(cloud.address) as late:
            await edge.open([1, 2, 3])
            await edge.read_body("opened")
            stopping = asyncio.create_task(cloud.stop())
            await until(lambda: not cloud.readiness.ready)
            assert await states(cloud) == (503, [NOT_SERVING, NOT_SERVING])
            await late.open([1, 2, 3])  # who has not noticed yet is still served
            await late.read_body("opened")
            notice = await edge.read_body("notice")
            assert notice.kind == pb.Notice.KIND_DRAIN
            async with RawEdge(cloud.address) as refused:
                await refused.open([1, 2, 3])
                error = await refused.read_body("error")
                assert (error.code, error.retryable) == ("cloud_unavailable", True)
            await edge.draft([1, 2])  # what is open goes on until it has gone
            assert (await edge.read_body("verdict")).has_token
            await edge.close()
            await late.close()
            await stopping


async def test_the_listener_outlives_the_sessions() -> None:
    async with running_cloud(HashEngine(), operations=OPERATIONS, drain_s=1.0) as cloud:
        address = cloud.operations.address
        async with RawEdge(cloud.address) as edge, httpx.AsyncClient() as http:
            await edge.open([1, 2, 3])
            await edge.read_body("opened")
            stopping = asyncio.create_task(cloud.stop())
            await edge.read_body("notice")
            page = await http.get(f"http://{address}/health/ready")
            assert page.json() == {"ready": False, "reasons": ["draining"]}
            assert "updraft_sessions_active 1.0" in (await http.get(f"http://{address}/metrics")).text
            await edge.close()
            await stopping
            with pytest.raises(httpx.ConnectError):
                await http.get(f"http://{address}/health/live")


def settings(model: Path, **more: object) -> CloudSettings:
    values = {"model": str(model), "context": 512, "sequences": 4, "threads": 1, "drain_s": 0.5, **more}
    return CloudSettings.model_validate({"listen": ListenSettings(port=0), **values})


def ask(mode: str, prompt: str, temperature: float) -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt,
        max_tokens=TOKENS,
        sampling=SamplingParams(temperature=temperature, seed=3),
        settings=parse_settings(
            {"mode": mode, **({"stop": {"rule": "fixed", "length": 3}} if mode == "draft" else {})}
        ),
        ignore_end=True,
    )


REQUESTS = [
    ask(mode, prompt, heat)
    for mode, heat in (("draft", 0.8), ("cloud", 0.8), ("draft", 0.0))
    for prompt in ("the", "once upon")
]


async def answers(agent: Agent, gone: asyncio.Event) -> list[list[Completion]]:
    """All requests at once, each again and again until the cloud has gone, so that some are under way when it goes."""

    async def one(request: GenerationRequest) -> list[Completion]:
        given = [(await complete(agent, request))[1]]
        while not gone.is_set():
            given.append((await complete(agent, request))[1])
        return given

    return await asyncio.gather(*map(one, REQUESTS))


@pytest.fixture
def edge_engine(tiny_pair: tuple[Path, Path]) -> Engine:
    return open_engine(tiny_pair[0], context=512, sequences=8, threads=1)


@pytest.fixture
async def undisturbed(tiny_pair: tuple[Path, Path]) -> AsyncIterator[list[list[int]]]:
    """What is answered when nothing goes away."""
    edge, cloud = (open_engine(path, context=512, sequences=8, threads=1) for path in tiny_pair)
    async with running_cloud(cloud) as server, running_agent(edge, server.address) as agent:
        yield [(await complete(agent, request))[1].token_ids for request in REQUESTS]


def moved(given: list[list[Completion]], undisturbed: list[list[int]]) -> int:
    """Sessions that were opened again. No token may be lost or changed by that."""
    for completions, expected in zip(given, undisturbed, strict=True):
        for completion in completions:
            assert (completion.degraded_reason, completion.token_ids) == (None, expected)
    return sum(completion.statistics.reopened for completions in given for completion in completions)


async def test_sigterm_under_load_moves_sessions_to_another_cloud_and_loses_no_token(
    tiny_pair: tuple[Path, Path], edge_engine: Engine, undisturbed: list[list[int]]
) -> None:
    async with CloudProcess(settings(tiny_pair[1])) as first, CloudProcess(settings(tiny_pair[1])) as second:
        async with Relay(*parse_address(first.address)) as balancer:
            async with running_agent(edge_engine, balancer.address, link=PATIENT) as agent:
                gone = asyncio.Event()
                answering = asyncio.create_task(answers(agent, gone))
                await until(lambda: agent.metrics.registry.get_sample_value(FIRST_TOKENS) != 0)
                balancer.target = parse_address(second.address)  # as a balancer does that sees readiness go
                await first.stop()
                gone.set()
                assert moved(await answering, undisturbed) > 0


async def test_sigterm_under_load_and_a_new_start_at_the_same_address_lose_no_token(
    tiny_pair: tuple[Path, Path], edge_engine: Engine, undisturbed: list[list[int]]
) -> None:
    async with CloudProcess(settings(tiny_pair[1])) as cloud:
        async with running_agent(edge_engine, cloud.address, link=PATIENT) as agent:
            gone = asyncio.Event()
            answering = asyncio.create_task(answers(agent, gone))
            await until(lambda: agent.metrics.registry.get_sample_value(FIRST_TOKENS) != 0)
            await cloud.stop()
            await cloud.start()
            gone.set()
            assert moved(await answering, undisturbed) > 0
