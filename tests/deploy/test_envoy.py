"""A real Envoy with the configuration of deploy/compose, between real tiers: scripts/envoy_check runs it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from pydantic import SecretStr

from tests.edge.test_agent import ask, edge_engine
from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud, until
from tests.house import ROOT
from updraft.config import CloudLinkSettings, ListenSettings
from updraft.engine.base import Output, Run
from updraft.errors import Unauthenticated
from updraft.transport import open_channel
from updraft.transport.authority import Authority, write_pairs
from updraft_cloud.server import CloudServer

pytestmark = pytest.mark.envoy

CONFIGURATION = ROOT / "deploy/compose/envoy.yaml"
TOKEN = "a-token-that-the-clouds-know"
START_S = 20.0


@pytest.fixture(scope="module")
def envoy() -> str:
    """Path of an Envoy binary; skips where there is none."""
    found = shutil.which("envoy")
    if found is None:
        pytest.skip("there is no envoy on PATH: run scripts/envoy_check")
    return found


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `updraft certs init --host cloud --client laptop --tenant acme` writes."""
    folder = tmp_path_factory.mktemp("secrets")
    authority = Authority.create()
    pairs = [
        authority.pair(),
        authority.server(["cloud", "localhost", "127.0.0.1"], 1),
        authority.client("laptop", "acme", 1),
    ]
    write_pairs(folder, pairs)
    return folder


class SlowEngine(HashEngine):
    """Its passes take a moment, so that a session is still open when its replica leaves."""

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        time.sleep(0.005)
        return super().forward(runs)


def configuration(secrets: Path, port: int, clouds: list[str]) -> str:
    """The shipped file with this machine's addresses and paths; nothing else is changed."""
    whole = yaml.safe_load(CONFIGURATION.read_text().replace("/run/secrets", str(secrets)))
    (listener,), (cluster,) = (whole["static_resources"][key] for key in ("listeners", "clusters"))
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
    cluster["type"] = "STATIC"
    addresses = [address.rpartition(":") for address in clouds]
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(number)}}}}
        for host, _, number in addresses
    ]
    return yaml.safe_dump(whole)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@contextlib.contextmanager
def running_envoy(envoy: str, secrets: Path, clouds: list[str]) -> Iterator[str]:
    """The address on which Envoy serves these clouds."""
    port = free_port()
    file = secrets / f"envoy-{port}.yaml"
    file.write_text(configuration(secrets, port, clouds))
    command = [envoy, "--config-path", str(file), "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"]
    with subprocess.Popen(command) as process:
        try:
            yield f"localhost:{port}"
        finally:
            process.kill()


def link(secrets: Path, **changes: Any) -> dict[str, Any]:
    files = {"ca": "ca.pem", "cert": "client-laptop.pem", "key": "client-laptop-key.pem"}
    paths = {name: secrets / file for name, file in files.items()}
    return {"tls": True, "token": SecretStr(TOKEN), "connect_timeout_s": 10.0, **paths, **changes}


def channel(address: str, secrets: Path, **changes: Any) -> grpc.aio.Channel:
    settings = CloudLinkSettings(address=address, **link(secrets, **changes))
    return open_channel(
        address, tls=True, ca=settings.ca, cert=settings.cert, key=settings.key, keepalive_s=settings.keepalive_s
    )


@contextlib.asynccontextmanager
async def deployment(envoy: str, secrets: Path) -> AsyncIterator[tuple[str, list[CloudServer]]]:
    """Two clouds behind Envoy, which finds both healthy."""
    listen = ListenSettings(
        port=0, tls_cert=secrets / "server.pem", tls_key=secrets / "server-key.pem", token=SecretStr(TOKEN)
    )
    async with contextlib.AsyncExitStack() as stack:
        clouds = [
            await stack.enter_async_context(running_cloud(SlowEngine(sequences=16), listen=listen, drain_s=5.0))
            for _ in range(2)
        ]
        address = stack.enter_context(running_envoy(envoy, secrets, [cloud.address for cloud in clouds]))
        await healthy(address, secrets)
        yield address, clouds


async def healthy(address: str, secrets: Path) -> None:
    async with asyncio.timeout(START_S), channel(address, secrets) as probe:
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                request = health_pb2.HealthCheckRequest(service="updraft.v1.Collaboration")
                answer = await health_pb2_grpc.HealthStub(probe).Check(request, wait_for_ready=True, timeout=START_S)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(0.05)


def test_envoy_takes_the_shipped_configuration(envoy: str, secrets: Path) -> None:
    file = secrets / "shipped.yaml"
    file.write_text(CONFIGURATION.read_text().replace("/run/secrets", str(secrets)))
    command = [envoy, "--mode", "validate", "--config-path", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_answers_through_envoy_are_the_clouds_own(envoy: str, secrets: Path) -> None:
    async with deployment(envoy, secrets) as (address, clouds):
        async with (
            running_agent(edge_engine(), address, link=link(secrets)) as through,
            running_agent(edge_engine(), clouds[0].address, link=link(secrets)) as direct,
        ):
            for mode in ("draft", "cloud", "span"):
                _, far = await complete(through, ask(mode))
                _, near = await complete(direct, ask(mode))
                assert not far.degraded
                assert far.token_ids == near.token_ids


async def test_sessions_spread_and_one_moves_when_its_replica_drains(envoy: str, secrets: Path) -> None:
    async with deployment(envoy, secrets) as (address, clouds):
        async with running_agent(
            edge_engine(sequences=16), address, link=link(secrets, reconnect_attempts=10)
        ) as agent:
            request = ask("draft", max_tokens=400)
            _, undisturbed = await complete(agent, request)
            answers = [asyncio.create_task(complete(agent, request)) for _ in range(12)]
            await until(lambda: sum(cloud.service.active for cloud in clouds) == 12)
            assert all(cloud.service.active for cloud in clouds)
            await clouds[0].stop()
            moved = [completion for _, completion in await asyncio.gather(*answers)]
            assert all(completion.token_ids == undisturbed.token_ids for completion in moved)
            assert not any(completion.degraded for completion in moved)
            assert 0 < sum(completion.statistics.reopened > 0 for completion in moved) < 12


@pytest.mark.parametrize("strangers", ["no certificate", "another authority"])
async def test_strangers_are_turned_away(envoy: str, secrets: Path, strangers: str, tmp_path: Path) -> None:
    without: dict[str, Any] = {"cert": None, "key": None}
    if strangers == "another authority":
        write_pairs(tmp_path, [Authority.create().client("laptop", "acme", 1)])
        without = {"cert": tmp_path / "client-laptop.pem", "key": tmp_path / "client-laptop-key.pem"}
    async with deployment(envoy, secrets) as (address, _):
        unknown = link(secrets, reconnect_attempts=1, **without)
        async with running_agent(edge_engine(), address, link=unknown) as agent:
            _, completion = await complete(agent, ask("draft"))
            assert completion.degraded


async def test_a_certificate_alone_opens_no_session(envoy: str, secrets: Path) -> None:
    async with deployment(envoy, secrets) as (address, _):
        async with running_agent(edge_engine(), address, link=link(secrets, token=None)) as agent:
            with pytest.raises(Unauthenticated):
                await complete(agent, ask("draft"))


async def test_nothing_but_sessions_and_health_is_served(envoy: str, secrets: Path) -> None:
    async with deployment(envoy, secrets) as (address, _), channel(address, secrets) as stranger:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in ServerReflectionStub(stranger).ServerReflectionInfo(iter([ServerReflectionRequest()])):
                pass
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
