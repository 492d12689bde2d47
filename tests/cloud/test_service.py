"""The cloud service over real gRPC: opening, limits, refusals, and freeing what a session held."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.fakes.engine import HashEngine
from tests.fakes.raw_edge import RawEdge
from tests.fakes.tiers import idle, running_cloud, until
from updraft.v1 import collaboration_pb2 as pb
from updraft.v1.collaboration_pb2_grpc import CollaborationStub

PROMPT = [1, 2, 3]


async def test_a_session_opens_answers_and_frees_its_sequence() -> None:
    engine = HashEngine()
    async with running_cloud(engine) as cloud:
        async with RawEdge(cloud.address) as edge:
            await edge.open(PROMPT)
            opened = await edge.read_body("opened")
            assert (opened.context, opened.max_draft) == (engine.context, engine.max_run - 1)
            await edge.draft([1, 2])
            assert (await edge.read_body("verdict")).has_token
            await edge.close()
            assert await edge.read() is None
        await until(lambda: idle(cloud))


async def test_frames_are_numbered_in_both_directions() -> None:
    async with running_cloud(HashEngine()) as cloud, RawEdge(cloud.address) as edge:
        await edge.open(PROMPT)
        await edge.take_over(max_tokens=3)
        numbers = [frame.sequence for frame in [await edge.read() for _ in range(4)] if frame is not None]
        assert numbers == [1, 2, 3, 4]


async def test_an_edge_that_goes_away_frees_its_sequence() -> None:
    engine = HashEngine()
    async with running_cloud(engine) as cloud:
        async with RawEdge(cloud.address) as edge:
            await edge.open(PROMPT, max_tokens=400, ignore_end=True)
            await edge.take_over()
            await edge.read_body("span")
        await until(lambda: idle(cloud))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"tokenizer_hash": "words"}, "tokenizer_mismatch"),
        ({"fingerprint": "another"}, "invalid_request"),
        ({"prompt": []}, "invalid_request"),
        ({"prompt": [1] * 512}, "context_length_exceeded"),
        ({"prompt": [64]}, "protocol_violation"),
        ({"max_tokens": 0}, "invalid_request"),
        ({"generated": [1] * 20}, "protocol_violation"),
        ({"top_logprobs": 21}, "invalid_request"),
        ({"stop_tokens": [1] * 65}, "protocol_violation"),
        ({"sampling": {"temperature": -1.0, "seed": 1}}, "invalid_request"),
        ({"sampling": {"temperature": float("nan"), "seed": 1}}, "invalid_request"),
        ({"sampling": {"temperature": 1.0}}, "invalid_request"),
    ],
)
async def test_what_cannot_be_opened_is_refused_with_its_code(changes: dict[str, Any], code: str) -> None:
    async with running_cloud(HashEngine()) as cloud, RawEdge(cloud.address) as edge:
        await edge.open(changes.pop("prompt", PROMPT), **changes)
        frame = await edge.read()
        assert frame is not None
        assert frame.error.code == code
        assert frame.error.message
        assert frame.error.remedy
        assert await edge.read() is None


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (pb.EdgeFrame(), "protocol_violation"),
        (pb.EdgeFrame(sequence=7, cancel=pb.Cancel()), "protocol_violation"),
        (pb.EdgeFrame(sequence=1, cancel=pb.Cancel()), "protocol_violation"),
        (pb.EdgeFrame(open=pb.Open(prompt=[1])), "invalid_request"),
        (pb.EdgeFrame(draft=pb.Draft(position=3, run=[64])), "protocol_violation"),
        (pb.EdgeFrame(draft=pb.Draft(position=3, run=[1] * 63)), "protocol_violation"),
        (pb.EdgeFrame(draft=pb.Draft(position=9)), "log_mismatch"),
        (pb.EdgeFrame(draft=pb.Draft(position=3, log_hash=1)), "log_mismatch"),
        (pb.EdgeFrame(take_over=pb.TakeOver(hand_back=pb.HandBack(window=0))), "protocol_violation"),
        (
            pb.EdgeFrame(take_over=pb.TakeOver(hand_back=pb.HandBack(window=1, threshold=float("nan")))),
            "protocol_violation",
        ),
    ],
)
async def test_frames_that_no_correct_edge_sends_end_the_session(frame: pb.EdgeFrame, code: str) -> None:
    engine = HashEngine()
    async with running_cloud(engine) as cloud:
        async with RawEdge(cloud.address) as edge:
            await edge.open(PROMPT)
            await edge.read_body("opened")
            await edge.send(frame)
            answer = await edge.read()
            assert answer is not None
            assert answer.error.code == code
            assert await edge.read() is None
        await until(lambda: idle(cloud))


async def test_the_first_frame_must_open() -> None:
    async with running_cloud(HashEngine()) as cloud, RawEdge(cloud.address) as edge:
        await edge.close()
        frame = await edge.read()
        assert frame is not None
        assert frame.error.code == "protocol_violation"


async def test_sessions_take_turns_on_one_sequence() -> None:
    async with running_cloud(HashEngine(sequences=1)) as cloud:
        async with RawEdge(cloud.address) as first, RawEdge(cloud.address) as second:
            for edge in (first, second):
                await edge.open(PROMPT)
            for edge in (first, second, first, second):
                await edge.draft([])
                edge.log.extend([(await edge.read_body("verdict")).token])


async def test_more_sessions_than_allowed_are_turned_away() -> None:
    async with running_cloud(HashEngine(), max_sessions=1) as cloud:
        async with RawEdge(cloud.address) as first, RawEdge(cloud.address) as second:
            await first.open(PROMPT)
            await first.read_body("opened")
            await second.open(PROMPT)
            frame = await second.read()
            assert frame is not None
            assert (frame.error.code, frame.error.retryable) == ("overloaded", True)


async def test_an_idle_session_is_closed() -> None:
    engine = HashEngine()
    async with running_cloud(engine, idle_timeout_s=0.05) as cloud, RawEdge(cloud.address) as edge:
        await edge.open(PROMPT)
        await edge.read_body("opened")
        frame = await edge.read()
        assert frame is not None
        assert frame.error.code == "late_reply"
        await until(lambda: idle(cloud))


async def test_an_engine_failure_ends_the_session_and_not_the_service() -> None:
    engine = HashEngine(fail_after=1)
    async with running_cloud(engine) as cloud:
        async with RawEdge(cloud.address) as edge:
            await edge.open(PROMPT)
            await edge.draft([])
            await edge.read_body("opened")
            frame = await edge.read()
            assert frame is not None
            assert frame.error.code == "engine_failure"
        engine.fail_after = None
        async with RawEdge(cloud.address) as edge:
            await edge.open(PROMPT)
            await edge.draft([])
            assert (await edge.read_body("verdict")).has_token


async def test_sessions_share_passes_and_each_gets_its_own_text() -> None:
    async def tokens(address: str, prompt: list[int]) -> list[int]:
        async with RawEdge(address) as edge:
            await edge.open(prompt, max_tokens=30, ignore_end=True)
            await edge.take_over()
            written: list[int] = []
            while len(written) < 30:
                written.extend((await edge.read_body("span")).tokens)
            return written

    prompts = [[index, index + 1, 7] for index in range(8)]
    engine = HashEngine()
    async with running_cloud(engine) as cloud:
        alone = [await tokens(cloud.address, prompt) for prompt in prompts]
        together = await asyncio.gather(*(tokens(cloud.address, prompt) for prompt in prompts))
    assert together == alone
    assert max(len(batch) for batch in engine.batches) > 1


async def test_describe_health_and_reflection_answer() -> None:
    async with running_cloud(HashEngine()) as cloud, grpc.aio.insecure_channel(cloud.address) as channel:
        described = await CollaborationStub(channel).Describe(pb.DescribeRequest())
        assert (described.tokenizer_hash, described.vocabulary) == ("letters", 64)
        request = health_pb2.HealthCheckRequest(service="updraft.v1.Collaboration")
        health = await health_pb2_grpc.HealthStub(channel).Check(request)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(ask)
        answer = await call.read()
        names = {service.name for service in answer.list_services_response.service}
        assert {"updraft.v1.Collaboration", "grpc.health.v1.Health"} <= names
        call.cancel()


async def test_draining_tells_sessions_and_takes_no_new_ones() -> None:
    async with running_cloud(HashEngine(), drain_s=5.0) as cloud:
        async with RawEdge(cloud.address) as edge:
            await edge.open(PROMPT)
            await edge.read_body("opened")
            draining = asyncio.create_task(cloud.service.drain(5.0))
            assert (await edge.read_body("notice")).kind == pb.Notice.KIND_DRAIN
            await edge.draft([])
            assert (await edge.read_body("verdict")).has_token
            async with RawEdge(cloud.address) as late:
                await late.open(PROMPT)
                frame = await late.read()
                assert frame is not None
                assert frame.error.code == "cloud_unavailable"
            await edge.close()
            await asyncio.wait_for(draining, 5)
