"""The cloud and strangers: nothing answers without credentials, sessions end with theirs, and tenants are apart."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic import SecretStr

from tests.edge.test_agent import ask, edge_engine
from tests.fakes.engine import HashEngine
from tests.fakes.raw_edge import RawEdge
from tests.fakes.tiers import complete, running_agent, running_cloud, until
from updraft.config import CloudSettings, IdentitySettings, ListenSettings
from updraft.errors import ConfigError, InsecureListen, Unauthenticated
from updraft.logging_setup import JsonFormatter
from updraft.transport import bearer_metadata, error_from_rpc, open_channel
from updraft.transport.authority import Authority, certificate_files, write_pairs
from updraft.transport.token_file import add_token, revoke
from updraft.v1 import collaboration_pb2 as pb
from updraft.v1.collaboration_pb2_grpc import CollaborationStub
from updraft_cloud.identity import SessionNames
from updraft_cloud.server import CloudServer

PROMPT = [1, 2, 3]
NOW = datetime.now(UTC)
HEALTH_CHECK = "/grpc.health.v1.Health/Check"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def token_of(file: Path, tenant: str, **fields: Any) -> Any:
    """Metadata with a new token of the tenant."""
    return bearer_metadata(SecretStr(add_token(file, tenant=tenant, now=NOW, **fields)[1]))


def identity(file: Path) -> IdentitySettings:
    return IdentitySettings(tokens=file, recheck_s=0.01)


@dataclass(frozen=True)
class Method:
    """A method that reflection names."""

    path: str
    streams_in: bool
    streams_out: bool

    async def call(self, channel: aio.Channel, metadata: Any) -> grpc.StatusCode:
        """Call it with an empty message; the status that comes back."""
        options: dict[str, Any] = {"metadata": metadata, "timeout": 20.0}
        kind = f"{'stream' if self.streams_in else 'unary'}_{'stream' if self.streams_out else 'unary'}"
        method: Any = getattr(channel, kind)(self.path, None, None)
        call = method(**options) if self.streams_in else method(b"", **options)
        code: grpc.StatusCode = await call.code()
        return code


async def reflected(channel: aio.Channel, metadata: Any) -> list[Method]:
    """Every method of every service that the server's reflection tells of."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def asked(**question: str) -> Any:
        call = stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(**question)]), metadata=metadata, timeout=20.0
        )
        return await call.read()

    found = []
    for service in (await asked(list_services="")).list_services_response.service:
        answer = await asked(file_containing_symbol=service.name)
        for data in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            found += [
                Method(f"/{service.name}/{method.name}", method.client_streaming, method.server_streaming)
                for one in file.service
                if f"{file.package}.{one.name}" == service.name
                for method in one.method
            ]
    return found


async def test_every_rpc_that_reflection_finds_refuses_without_credentials(tokens: Path) -> None:
    good = token_of(tokens, "acme")
    expired = token_of(tokens, "acme", expires=NOW - timedelta(seconds=1))
    gone, secret = add_token(tokens, tenant="acme", now=NOW)
    revoke(tokens, now=NOW, token_id=gone.id)
    wrong: list[Any] = [
        (),
        bearer_metadata(SecretStr("wrong")),
        expired,
        bearer_metadata(SecretStr(secret)),
        (("authorization", good[0][1].removesuffix("x") + "x"),),
        (("x-updraft-session", "a" * 32),),
        (("x-forwarded-client-cert", "Subject=O=acme"), ("x-tenant", "acme")),
    ]
    async with running_cloud(HashEngine(), identity=identity(tokens)) as cloud:
        async with aio.insecure_channel(cloud.address) as channel:
            methods = await reflected(channel, good)
            paths = {method.path for method in methods}
            own = {f"/updraft.v1.Collaboration/{name}" for name in ("Session", "Solve", "Describe")}
            assert own | {HEALTH_CHECK} <= paths
            assert any(path.startswith("/grpc.reflection.") for path in paths) and len(paths) >= 5
            for method in methods:
                for metadata in wrong:
                    code = await method.call(channel, metadata)
                    if method.path == HEALTH_CHECK:
                        assert code is grpc.StatusCode.OK
                    else:
                        assert code is grpc.StatusCode.UNAUTHENTICATED, (method, metadata)


async def test_health_answers_strangers_and_says_only_that(tokens: Path) -> None:
    token_of(tokens, "acme")
    async with running_cloud(HashEngine(), identity=identity(tokens)) as cloud:
        async with aio.insecure_channel(cloud.address) as channel:
            request = health_pb2.HealthCheckRequest(service="updraft.v1.Collaboration")
            answer = await health_pb2_grpc.HealthStub(channel).Check(request)
    assert answer == health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def test_a_session_of_a_revoked_token_ends_and_frees_what_it_held(tokens: Path) -> None:
    engine = HashEngine()
    entry, secret = add_token(tokens, tenant="acme", now=NOW)
    other = token_of(tokens, "acme")
    async with running_cloud(engine, identity=identity(tokens)) as cloud:
        edge = RawEdge(cloud.address, metadata=bearer_metadata(SecretStr(secret)))
        async with edge, RawEdge(cloud.address, metadata=other) as bystander:
            for one in (edge, bystander):
                await one.open(PROMPT, max_tokens=400, ignore_end=True)
                await drafted(one)
            revoke(tokens, now=NOW, token_id=entry.id)
            async with asyncio.timeout(10):
                with pytest.raises(aio.AioRpcError) as caught:
                    while await edge.read() is not None:
                        pass
            assert isinstance(error_from_rpc(caught.value), Unauthenticated)
            await until(lambda: cloud.service.active == 1)
            await drafted(bystander)
        await until(lambda: engine.open_sequences == 0 and cloud.service.active == 0)


async def test_an_edge_whose_token_is_revoked_in_mid_answer_says_so_or_goes_on_alone(tokens: Path) -> None:
    entry, secret = add_token(tokens, tenant="acme", now=NOW)
    link = {"token": SecretStr(secret), "reconnect_attempts": 1}
    async with running_cloud(HashEngine(), identity=identity(tokens)) as cloud:
        async with running_agent(edge_engine(), cloud.address, link=link) as agent:
            assert not (await complete(agent, ask("draft")))[1].degraded
            revoke(tokens, now=NOW, token_id=entry.id)
            with pytest.raises(Unauthenticated, match=f"{entry.id} is revoked"):
                await complete(agent, ask("draft"))


async def drafted(edge: RawEdge) -> int:
    """One verdict on an empty draft; positions of the prompt that the cloud computed for it."""
    await edge.draft([])
    verdict = await edge.read_body("verdict")
    edge.log.extend([verdict.token])
    return int(verdict.spent.prefilled)


@asynccontextmanager
async def mutual(folder: Path, engine: HashEngine, **settings: Any) -> AsyncIterator[CloudServer]:
    cert, key = certificate_files(folder, "server")
    listen = ListenSettings(port=0, tls_cert=cert, tls_key=key, client_ca=folder / "ca.pem")
    settings.setdefault("identity", IdentitySettings(recheck_s=0.01))
    async with running_cloud(engine, listen=listen, **settings) as cloud:
        yield cloud


def channel_of(cloud: CloudServer, folder: Path, device: str) -> aio.Channel:
    cert, key = certificate_files(folder, f"client-{device}")
    return open_channel(cloud.address, tls=True, ca=folder / "ca.pem", cert=cert, key=key)


async def test_a_certificate_that_expires_while_connected_ends_its_session(tmp_path: Path) -> None:
    authority, engine = Authority.create(), HashEngine()
    short = authority.client("short", "acme", 2.5 / 86_400)  # whole seconds, so it holds for 1.5 s at least
    pairs = [authority.pair(), authority.server(["127.0.0.1"], 1), authority.client("long", "acme", 1), short]
    write_pairs(tmp_path, pairs)
    async with mutual(tmp_path, engine) as cloud:
        late, fine = (RawEdge("", channel=channel_of(cloud, tmp_path, device)) for device in ("short", "long"))
        async with late, fine:
            for edge in (late, fine):
                await edge.open(PROMPT, max_tokens=400, ignore_end=True)
                await drafted(edge)
            async with asyncio.timeout(20):
                with pytest.raises(aio.AioRpcError) as caught:
                    await late.read()
            assert isinstance(error_from_rpc(caught.value), Unauthenticated)
            await drafted(fine)
        await until(lambda: engine.open_sequences == 0)


async def prefilled(edge: RawEdge, prompt: list[int]) -> int:
    """Positions of the prompt that the cloud computed for a new session."""
    async with edge:
        await edge.open(prompt)
        prefilled = await drafted(edge)
        await edge.close()
        assert await edge.read() is None
    return prefilled


async def test_how_fast_a_prompt_is_computed_tells_no_tenant_what_another_asked(tokens: Path) -> None:
    acme, beta = token_of(tokens, "acme"), token_of(tokens, "beta")
    prompt = [index * 7 % 60 for index in range(200)]
    async with running_cloud(HashEngine(), identity=identity(tokens)) as cloud:
        first = await prefilled(RawEdge(cloud.address, metadata=acme), prompt)
        again = await prefilled(RawEdge(cloud.address, metadata=acme), prompt)
        assert again < first  # a tenant's own prompts are shared
        assert await prefilled(RawEdge(cloud.address, metadata=beta), prompt) == first


async def test_a_session_that_another_tenant_names_gives_nothing(tokens: Path) -> None:
    acme, thieves = token_of(tokens, "acme"), [token_of(tokens, "beta"), token_of(tokens, "gamma")]
    prompt = [index * 11 % 60 for index in range(200)]
    named = (("x-updraft-session", "0123456789abcdef0123456789abcdef"),)
    async with running_cloud(HashEngine(), identity=identity(tokens)) as cloud:
        async with RawEdge(cloud.address, metadata=acme + named) as owner:
            await owner.open(prompt)
            issued = (await owner.read_body("opened")).session
            full = await drafted(owner)
            for whose, guess in zip(thieves, (named, (("x-updraft-session", issued),)), strict=True):
                async with RawEdge(cloud.address, metadata=whose + guess) as thief:
                    await thief.open(prompt)
                    assert (await thief.read_body("opened")).session != issued
                    assert await drafted(thief) == full
            # The owner is not disturbed, and keeps its name when it opens the session again.
            async with RawEdge(cloud.address, metadata=acme + named) as reopened:
                await reopened.open(prompt)
                assert (await reopened.read_body("opened")).session == issued
            await drafted(owner)


async def test_the_log_says_whose_a_session_was_and_with_which_token(tokens: Path) -> None:
    entry, secret = add_token(tokens, tenant="acme", now=NOW, name="laptop")
    written = io.StringIO()
    handler, logger = logging.StreamHandler(written), logging.getLogger("updraft_cloud.service")
    handler.setFormatter(JsonFormatter())
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        async with running_cloud(HashEngine(), identity=identity(tokens)) as cloud:
            await prefilled(RawEdge(cloud.address, metadata=bearer_metadata(SecretStr(secret))), PROMPT)
            await until(lambda: cloud.service.active == 0)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    said = json.loads(written.getvalue())
    assert (said["tenant"], said["device"], said["token"]) == ("acme", "laptop", entry.id)
    assert secret not in written.getvalue()


def test_names_of_sessions() -> None:
    names, said = SessionNames(), (("x-updraft-session", "one"),)
    name = names.name("acme", said)
    assert names.name("acme", said) == name and len(name) == 16
    others = [
        names.name("beta", said),
        names.name("acme", (("x-updraft-session", "two"),)),
        names.name("acmeo", (("x-updraft-session", "ne"),)),
        SessionNames().name("acme", said),
        names.name("acme", ()),
        names.name("acme", ()),
        names.name("acme", (("x-updraft-session", "x" * 1000),)),
        names.name("acme", (("x-updraft-session-bin", b"one"),)),
    ]
    assert len({name, *others}) == 9


async def test_what_is_wrong_is_found_before_a_model_is_loaded(tokens: Path) -> None:
    listen = ListenSettings(port=0)
    with pytest.raises(ConfigError, match="token file"):
        await CloudServer(CloudSettings(listen=listen, identity=identity(tokens), model="no such model")).start()
    missing = ListenSettings(port=0, tls_cert=tokens, tls_key=tokens)
    with pytest.raises(ConfigError, match="TLS file"):
        await CloudServer(CloudSettings(listen=missing, model="no such model")).start()


async def test_tokens_of_a_file_are_tokens_and_tls_is_still_needed(tokens: Path) -> None:
    token_of(tokens, "acme")
    settings = CloudSettings(listen=ListenSettings(host="0.0.0.0", port=0), identity=identity(tokens))
    with pytest.raises(InsecureListen, match="without TLS would"):
        await CloudServer(settings, engine=HashEngine()).start()


async def test_insecure_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    settings = CloudSettings(listen=ListenSettings(host="0.0.0.0", port=0), insecure=True, drain_s=0.1)
    async with CloudServer(settings, engine=HashEngine()):
        pass
    (line,) = [record for record in caplog.records if "INSECURE" in record.getMessage()]
    assert line.levelname == "WARNING" and "without TLS and a token" in line.getMessage()


async def test_one_token_for_all_still_does() -> None:
    listen = ListenSettings(port=0, token=SecretStr("shared-by-all"))
    async with running_cloud(HashEngine(), listen=listen) as cloud, aio.insecure_channel(cloud.address) as channel:
        described = await CollaborationStub(channel).Describe(
            pb.DescribeRequest(), metadata=bearer_metadata(listen.token)
        )
        assert described.vocabulary == 64
