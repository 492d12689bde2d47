from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import trustme
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr

from tests.fakes.generator import FakeAgent
from tests.shared.client.serving import eventually
from updraft.client import AsyncClient
from updraft.config import EdgeSettings, ListenSettings
from updraft.errors import AddressInUse, AgentUnavailable, ConfigError, InsecureListen, Overloaded, Unauthenticated
from updraft.modes import Mode, ModeSettings
from updraft.transport.http import bind
from updraft_edge.server import EdgeServer

ANY_PORT = ListenSettings(port=0)


def edge_settings(**changes: object) -> EdgeSettings:
    return EdgeSettings.model_validate({"http": ANY_PORT, "grpc": ANY_PORT, "local_only": True} | changes)


async def ask_http(server: EdgeServer, *, prompt: str = "Hi", **options: object) -> httpx.Response:
    body = {"model": "fake-pair", "prompt": prompt, **options}
    async with httpx.AsyncClient(timeout=20) as client:
        return await client.post(f"http://{server.http_address}/v1/completions", json=body)


async def health(address: str) -> int:
    async with aio.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service="updraft.v1.Agent")
        reply = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
    return int(reply.status)


async def test_one_agent_answers_on_both_ports() -> None:
    async with EdgeServer(edge_settings(), agent=FakeAgent()) as server:
        assert server.http_address != server.grpc_address
        assert not server.http_address.endswith(":0")
        answer = await ask_http(server)
        assert answer.json()["choices"][0]["text"] == "Hello, world!"
        async with AsyncClient(server.grpc_address) as client:
            assert (await client.generate("Hi")).text == "Hello, world!"
        assert await health(server.grpc_address) == health_pb2.HealthCheckResponse.SERVING


async def test_the_configured_mode_is_the_default_on_both_ports() -> None:
    agent = FakeAgent()
    settings = edge_settings(mode=ModeSettings(mode=Mode.SPAN))
    async with EdgeServer(settings, agent=agent) as server:
        await ask_http(server, updraft={"local_only": True})
        async with AsyncClient(server.grpc_address) as client:
            await client.generate("Hi", local_only=True)
    for request in agent.requests:
        assert request.settings == ModeSettings(mode=Mode.SPAN, local_only=True)


async def test_running_answers_end_within_the_grace_and_new_ones_are_refused() -> None:
    agent = FakeAgent(["a"] * 40, delay=0.02)
    server = EdgeServer(edge_settings(), agent=agent)
    await server.start()
    async with AsyncClient(server.grpc_address) as client:
        by_grpc = asyncio.create_task(client.generate("Hi"))
        by_http = asyncio.create_task(ask_http(server))
        await eventually(lambda: agent.running == 2)
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.3)
        async with AsyncClient(server.grpc_address) as late:
            with pytest.raises(AgentUnavailable):
                await late.generate("Hi")
        with pytest.raises(httpx.ConnectError):
            await ask_http(server)
        assert (await by_grpc).text == "a" * 40
        assert (await by_http).json()["choices"][0]["text"] == "a" * 40
        await stopping
    assert agent.running == agent.closed_early == 0


async def test_answers_that_outlive_the_grace_are_cut() -> None:
    agent = FakeAgent(["a"] * 10_000, delay=0.02)
    server = EdgeServer(edge_settings(), agent=agent, grace_s=1)
    await server.start()
    async with AsyncClient(server.grpc_address) as client, httpx.AsyncClient() as http:
        body = {"model": "fake-pair", "prompt": "Hi", "max_tokens": 10_000, "stream": True}
        asking = [
            asyncio.create_task(client.generate("Hi")),
            asyncio.create_task(http.post(f"http://{server.http_address}/v1/completions", json=body)),
        ]
        await eventually(lambda: agent.running == 2)
        async with asyncio.timeout(60):  # the answers would last 200 s
            await server.stop()
        await eventually(lambda: agent.running == 0)
        results = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(result, Exception) for result in results)


async def test_too_many_at_once_are_turned_away_on_grpc() -> None:
    agent = FakeAgent(["a"] * 1000, delay=0.01)
    async with EdgeServer(edge_settings(max_concurrent=1), agent=agent) as server:
        async with AsyncClient(server.grpc_address) as client:
            async with client.stream("first") as first:
                await anext(first)
                with pytest.raises(Overloaded):
                    await client.generate("second")


async def test_tokens_guard_both_ports() -> None:
    guarded = ListenSettings(port=0, token=SecretStr("s3cret"))
    async with EdgeServer(edge_settings(http=guarded, grpc=guarded), agent=FakeAgent()) as server:
        assert (await ask_http(server)).status_code == 401
        async with AsyncClient(server.grpc_address) as client:
            with pytest.raises(Unauthenticated):
                await client.generate("Hi")
        async with AsyncClient(server.grpc_address, token="s3cret") as client:
            assert (await client.generate("Hi")).text == "Hello, world!"


async def test_tls_on_both_ports(tmp_path: Path) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("localhost", "127.0.0.1")
    cert, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    pair.cert_chain_pems[0].write_to_path(cert)
    pair.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca)
    listen = ListenSettings(port=0, tls_cert=cert, tls_key=key)
    async with EdgeServer(edge_settings(http=listen, grpc=listen), agent=FakeAgent()) as server:
        async with AsyncClient(server.grpc_address, ca=ca) as client:
            assert (await client.generate("Hi")).text == "Hello, world!"
        async with AsyncClient(server.grpc_address) as plain:
            with pytest.raises(AgentUnavailable):
                await plain.generate("Hi")
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=ca)) as http:
            assert (await http.get(f"https://{server.http_address}/readyz")).status_code == 200


@pytest.mark.parametrize("name", ["http", "grpc"])
@pytest.mark.parametrize(
    ("listen", "error"),
    [
        (lambda port: ListenSettings(port=port), AddressInUse),
        (lambda _: ListenSettings(host="0.0.0.0", port=0), InsecureListen),
        (lambda _: ListenSettings(host="192.0.2.1", port=0, tls_cert=Path("no"), tls_key=Path("no")), ConfigError),
        (lambda _: ListenSettings(port=0, tls_cert=Path("missing"), tls_key=Path("missing")), ConfigError),
    ],
)
async def test_what_keeps_a_server_from_listening_is_told_before_the_model_loads(
    name: str, listen: Callable[[int], ListenSettings], error: type[ConfigError]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = edge_settings(model="/there/is/no/model.gguf", **{name: listen(taken.getsockname()[1])})
        with pytest.raises(error):
            await EdgeServer(settings).start()


async def test_one_port_for_both_is_refused() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        both = ListenSettings(port=probe.getsockname()[1])
    with pytest.raises(AddressInUse, match="both"):
        await EdgeServer(edge_settings(http=both, grpc=both), agent=FakeAgent()).start()


async def test_a_server_can_start_again_on_the_port_that_it_left() -> None:
    async with EdgeServer(edge_settings(), agent=FakeAgent()) as server:
        http, rpc = (int(at.rpartition(":")[2]) for at in (server.http_address, server.grpc_address))
    again = edge_settings(http=ListenSettings(port=http), grpc=ListenSettings(port=rpc))
    async with EdgeServer(again, agent=FakeAgent()) as server:
        assert (await ask_http(server)).status_code == 200


async def test_addresses_are_logged_once_it_listens(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="updraft_edge.server"):
        async with EdgeServer(edge_settings(), agent=FakeAgent()) as server:
            assert server.http_address in caplog.text
            assert server.grpc_address in caplog.text


async def test_serve_answers_with_a_real_model_and_ends_at_sigterm_after_the_running_answer(
    tiny_model_path: Path,
) -> None:
    settings = edge_settings(model=str(tiny_model_path), context=256, sequences=2, threads=1)
    program = (
        "import asyncio, logging, sys\n"
        "from updraft.config import EdgeSettings\n"
        "from updraft_edge.server import serve\n"
        "logging.basicConfig(level='INFO', stream=sys.stderr)\n"
        "settings = EdgeSettings.model_validate_json(sys.argv[1])\n"
        "asyncio.run(serve(settings, ready=lambda: print('ready', flush=True)))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        settings.model_dump_json(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"ready\n"
            logged = b""
            while b"gRPC" not in logged:
                logged = await process.stderr.readline()
            address = logged.split()[-1].decode()
            async with AsyncClient(address) as client:
                stream = client.stream("Hello", mode="edge", max_tokens=100, ignore_end=True)
                first = await anext(stream)
                process.terminate()
                rest = [event async for event in stream]
            assert [event.token for event in (first, *rest)] == stream.completion.token_ids
            assert len(stream.completion.token_ids) == 100
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def test_connections_send_answers_without_waiting_for_acknowledgements() -> None:
    """With Nagle's algorithm each answer on a kept connection would take 40 ms longer."""
    with bind(ListenSettings(port=0)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
