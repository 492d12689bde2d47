"""The cloud's limits over real gRPC: who waits, who is slowed, who is turned away with a time to come again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import SecretStr

from tests.fakes.clock import Clock
from tests.fakes.engine import HashEngine
from tests.fakes.raw_edge import RawEdge
from tests.fakes.tiers import running_cloud, until
from updraft.config import AdmissionSettings, IdentitySettings
from updraft.errors import Overloaded, RequestTooLarge
from updraft.token_log import TokenLog
from updraft.transport import bearer_metadata, error_from_rpc
from updraft.transport.token_file import add_token
from updraft.v1 import collaboration_pb2 as pb
from updraft.v1.collaboration_pb2_grpc import CollaborationStub
from updraft_cloud.admission.doors import Admission
from updraft_cloud.admission.place_queue import Refusal
from updraft_cloud.messages import Deliver, ToEngine
from updraft_cloud.server import CloudServer

PROMPT = [1, 2, 3]


def limited(engine: HashEngine | None = None, *, admission: dict[str, Any], **settings: Any) -> Any:
    return running_cloud(engine or HashEngine(), admission=AdmissionSettings(**admission), **settings)


async def error_of(edge: RawEdge) -> pb.Error:
    """What ends the session."""
    while (frame := await edge.read()) is not None:
        if frame.HasField("error"):
            return frame.error
    raise AssertionError("the stream ended without an error")


def empty(cloud: CloudServer) -> bool:
    doors = cloud.service.admission
    return (cloud.service.active, doors.sessions, doors.queue.taken, doors.queue.waiting) == (0, 0, 0, 0)


def stop_the_clock(cloud: CloudServer) -> None:
    """No tokens come back any more, however slow the machine is."""
    doors = cloud.service.admission
    cloud.service.admission = Admission(doors.settings, places=8, max_sessions=8, clock=Clock())


async def test_more_sessions_than_places_wait_and_are_told_so() -> None:
    async with limited(admission={"places": 1}) as cloud:
        async with RawEdge(cloud.address) as first, RawEdge(cloud.address) as second:
            await first.open(PROMPT)
            await first.draft([])
            await first.read_body("verdict")
            await second.open(PROMPT)
            await second.draft([])
            assert (await second.read_body("notice")).kind == pb.Notice.KIND_SLOW_DOWN
            await first.close()
            assert (await second.read_body("verdict")).has_token
        await until(lambda: empty(cloud))


async def test_a_full_queue_says_when_to_come_again() -> None:
    async with limited(admission={"places": 1, "queue_length": 0}) as cloud:
        async with RawEdge(cloud.address) as first, RawEdge(cloud.address) as second:
            await first.open(PROMPT)
            await first.read_body("opened")
            await second.open(PROMPT)
            error = await error_of(second)
            assert (error.code, error.retryable) == ("overloaded", True)
            assert error.retry_after_ms > 0
            assert cloud.service.admission.refused == {Refusal.QUEUE_FULL: 1}


async def test_whoever_waits_too_long_is_turned_away() -> None:
    async with limited(admission={"places": 1, "queue_wait_s": 0.05}) as cloud:
        async with RawEdge(cloud.address) as first:
            await first.open(PROMPT)
            await first.read_body("opened")
            async with RawEdge(cloud.address) as second:
                await second.open(PROMPT)
                assert (await error_of(second)).retry_after_ms > 0
            await first.draft([])
            assert (await first.read_body("verdict")).has_token
        await until(lambda: empty(cloud))


async def test_a_client_that_gives_up_leaves_the_queue() -> None:
    async with limited(admission={"places": 1}) as cloud:
        async with RawEdge(cloud.address) as first:
            await first.open(PROMPT)
            await first.read_body("opened")
            async with RawEdge(cloud.address) as second:
                await second.open(PROMPT)
                await second.read_body("notice")
            await until(lambda: cloud.service.admission.queue.waiting == 0)
        await until(lambda: empty(cloud))


async def test_the_clients_own_deadline_is_heeded() -> None:
    async with limited(admission={"places": 1}) as cloud, RawEdge(cloud.address) as first:
        await first.open(PROMPT)
        await first.read_body("opened")
        async with grpc.aio.insecure_channel(cloud.address) as channel:
            call = CollaborationStub(channel).Session(timeout=1.0)
            opening = pb.Open(tokenizer_hash="letters", prompt=PROMPT, max_tokens=5, sampling={"seed": 1})
            await call.write(pb.EdgeFrame(sequence=1, open=opening))
            await until(lambda: cloud.service.admission.queue.waiting == 1)
            await until(lambda: cloud.service.admission.queue.waiting == 0)
            call.cancel()
        await until(lambda: cloud.service.active == 1)
        await first.draft([])
        assert (await first.read_body("verdict")).has_token


@pytest.mark.parametrize("timeout", [None, 30.0])
async def test_the_clients_deadline_goes_to_the_engine_with_its_frames(
    timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_cloud(HashEngine()) as cloud, grpc.aio.insecure_channel(cloud.address) as channel:
        sent: list[ToEngine] = []
        send = cloud.host.send

        def watched(message: ToEngine) -> None:
            sent.append(message)
            send(message)

        monkeypatch.setattr(cloud.host, "send", watched)
        now = time.monotonic()
        call = CollaborationStub(channel).Session(timeout=timeout)
        opening = pb.Open(tokenizer_hash="letters", prompt=PROMPT, max_tokens=5, sampling={"seed": 1})
        await call.write(pb.EdgeFrame(sequence=1, open=opening))
        draft = pb.Draft(position=len(PROMPT), log_hash=TokenLog(PROMPT).hash)
        await call.write(pb.EdgeFrame(sequence=2, draft=draft))
        await until(lambda: any(isinstance(message, Deliver) for message in sent))
        call.cancel()
    (deadline,) = (message.deadline for message in sent if isinstance(message, Deliver))
    if timeout is None:
        assert deadline is None
    else:  # gRPC reckons what is left by the wall clock, which may be set meanwhile
        assert deadline is not None and now < deadline < time.monotonic() + 2 * timeout


async def test_frames_beyond_the_rate_are_held_back_and_their_edge_is_told() -> None:
    async with limited(admission={"tokens_per_second": 200, "token_burst": 8}) as cloud, RawEdge(cloud.address) as edge:
        stop_the_clock(cloud)
        await edge.open(PROMPT)
        await edge.draft([1, 2, 3, 4, 5])
        notice = await edge.read_body("notice")
        assert notice.kind == pb.Notice.KIND_SLOW_DOWN
        assert notice.retry_after_ms == 5
        assert await edge.read_body("verdict")
        assert cloud.service.admission.slowed == 1


async def test_frames_far_beyond_the_rate_end_the_session() -> None:
    settings = {"tokens_per_second": 1, "token_burst": 8, "slow_wait_s": 0.5}
    async with limited(admission=settings) as cloud, RawEdge(cloud.address) as edge:
        stop_the_clock(cloud)
        await edge.open(PROMPT)
        await edge.draft([1, 2, 3, 4, 5, 6, 7])
        error = await error_of(edge)
        assert (error.code, error.retry_after_ms) == ("overloaded", 3000)
        await until(lambda: empty(cloud))


async def test_a_span_is_paid_for_by_what_comes_after_it() -> None:
    settings = {"tokens_per_second": 1, "token_burst": 20, "slow_wait_s": 0.5}
    async with limited(admission=settings) as cloud:
        async with RawEdge(cloud.address) as edge:
            await edge.open(PROMPT, max_tokens=40, ignore_end=True)
            await edge.take_over()
            while not (await edge.read_body("span")).end:
                pass
        async with RawEdge(cloud.address) as edge:
            await edge.open(PROMPT)
            assert (await error_of(edge)).code == "overloaded"


async def test_a_client_that_says_nothing_is_turned_away() -> None:
    async with limited(admission={"open_timeout_s": 0.05}) as cloud, RawEdge(cloud.address) as edge:
        assert (await error_of(edge)).code == "late_reply"
        await until(lambda: empty(cloud))


async def test_a_client_that_never_reads_is_ended_and_its_sequence_is_free() -> None:
    engine = HashEngine(sequences=1, context=100_000)
    async with running_cloud(engine, write_timeout_s=0.1) as cloud:
        window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024)]
        channel = grpc.aio.insecure_channel(cloud.address, options=window)
        async with RawEdge(cloud.address, channel=channel) as deaf:
            await deaf.open(PROMPT, max_tokens=90_000, ignore_end=True, report=True, top_logprobs=20)
            await deaf.take_over()
            await until(lambda: cloud.service.active == 1)
            await until(lambda: empty(cloud))
            async with RawEdge(cloud.address) as edge:
                await edge.open([4, 5])
                await edge.draft([1])
                assert (await edge.read_body("verdict")).has_token


async def test_an_old_session_is_asked_to_open_again_and_then_ended() -> None:
    async with limited(admission={"session_age_s": 0.1, "age_grace_s": 0.1}) as cloud, RawEdge(cloud.address) as edge:
        await edge.open(PROMPT)
        assert (await edge.read_body("notice")).kind == pb.Notice.KIND_DRAIN
        await edge.draft([1])
        assert (await edge.read_body("verdict")).has_token
        error = await error_of(edge)
        assert (error.code, error.retryable) == ("cloud_unavailable", True)
        await until(lambda: empty(cloud))


@pytest.mark.parametrize(
    ("settings", "opening", "code"),
    [
        ({"prompt_tokens": 2}, {}, "context_length_exceeded"),
        ({"prompt_bytes": 64}, {"generated": [1] * 80, "max_tokens": 100}, "request_too_large"),
        ({"top_logprobs": 3}, {"top_logprobs": 4}, "invalid_request"),
        ({"tenant_sessions": 1}, None, "overloaded"),
        ({"sessions_per_minute": 1}, None, "overloaded"),
    ],
)
async def test_what_is_too_much_is_refused(settings: dict[str, Any], opening: dict[str, Any] | None, code: str) -> None:
    async with limited(admission=settings) as cloud, RawEdge(cloud.address) as first, RawEdge(cloud.address) as edge:
        if opening is None:
            await first.open(PROMPT)
            await first.read_body("opened")
        await edge.open(PROMPT, **(opening or {}))
        assert (await error_of(edge)).code == code


async def test_tenants_have_limits_of_their_own(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    greedy, modest = (
        bearer_metadata(SecretStr(add_token(tokens, tenant=tenant, now=datetime.now(UTC))[1]))
        for tenant in ("greedy", "modest")
    )
    settings = {"tenant_sessions": 1, "tokens_per_second": 1, "token_burst": 4, "slow_wait_s": 0.1}
    async with limited(admission=settings, identity=IdentitySettings(tokens=tokens)) as cloud:
        async with RawEdge(cloud.address, metadata=greedy) as first:
            await first.open(PROMPT)
            await first.read_body("opened")
            async with RawEdge(cloud.address, metadata=greedy) as second:
                await second.open(PROMPT)
                assert (await error_of(second)).code == "overloaded"
            async with RawEdge(cloud.address, metadata=modest) as other:
                await other.open(PROMPT)
                await other.draft([])
                assert (await other.read_body("verdict")).has_token
        await until(lambda: empty(cloud))
        assert cloud.service.admission.refused == {Refusal.TENANT_SESSIONS: 1}


async def test_drafts_are_bounded_and_their_bound_is_told() -> None:
    async with limited(admission={"draft_tokens": 4}) as cloud, RawEdge(cloud.address) as edge:
        await edge.open(PROMPT)
        assert (await edge.read_body("opened")).max_draft == 4
        await edge.draft([1] * 5)
        assert (await error_of(edge)).code == "protocol_violation"


async def test_frames_are_bounded() -> None:
    engine = HashEngine(context=100_000)
    async with limited(engine, admission={"frame_bytes": 4096, "prompt_bytes": 4096}) as cloud:
        async with RawEdge(cloud.address) as edge:
            await edge.open([1] * 20_000)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await edge.read()
            assert isinstance(error_from_rpc(refused.value), RequestTooLarge)
        await until(lambda: empty(cloud))


async def test_calls_beyond_all_streams_are_refused_unread_by_their_status() -> None:
    async with limited(admission={"max_streams": 1}) as cloud, RawEdge(cloud.address) as first:
        await first.open(PROMPT)
        await first.read_body("opened")
        async with grpc.aio.insecure_channel(cloud.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await CollaborationStub(channel).Describe(pb.DescribeRequest())
        error = error_from_rpc(refused.value)
        assert isinstance(error, Overloaded)
        assert error.retry_after_s > 0
        async with RawEdge(cloud.address) as second:
            with pytest.raises(grpc.aio.AioRpcError) as turned_away:
                await second.read()
        assert error_from_rpc(turned_away.value).retry_after_s > 0


async def one_opening(address: str, channel: grpc.aio.Channel, seed: int) -> str:
    """Open, ask for one token, and say what came of it."""
    edge = RawEdge(address, channel=channel)
    try:
        await edge.open([seed % 60, 2, 3])
        await edge.draft([])
        while (frame := await edge.read()) is not None:
            if frame.HasField("error"):
                assert frame.error.code == "overloaded"
                assert frame.error.retry_after_ms > 0
                return "refused"
            if frame.HasField("verdict"):
                return "served"
        raise AssertionError("no answer")
    finally:
        edge.cancel()


@pytest.mark.parametrize("openings", [300, pytest.param(1000, marks=pytest.mark.slow)])
async def test_very_many_openings_at_once_all_get_an_answer(openings: int) -> None:
    engine = HashEngine()
    async with limited(engine, admission={"queue_length": 20}, max_sessions=30) as cloud:
        async with grpc.aio.insecure_channel(cloud.address) as channel:
            answers = await asyncio.gather(*(one_opening(cloud.address, channel, seed) for seed in range(openings)))
            counts = Counter(answers)
            assert counts["served"] >= 16, "as many as there are places at least"
            assert counts["refused"] == cloud.service.admission.refused.total() == openings - counts["served"]
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.SERVING
            await until(lambda: empty(cloud))
            assert await one_opening(cloud.address, channel, 0) == "served"
