"""Frames of hidden states at the cloud's door: what does not fit is refused with its reason."""

from __future__ import annotations

from typing import Any

import grpc.aio
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from tests.cloud.sessions.test_pending_states import LIMITS, states_of
from tests.fakes.engine import HashEngine
from tests.fakes.raw_edge import RawEdge
from tests.fakes.staged_engine import FakeStagedEngine
from tests.fakes.tiers import idle, running_cloud, until
from updraft.engine.base import Engine
from updraft.errors import UpdraftError
from updraft.exits.carry import CARRIES, Carry, pack, packed_bytes
from updraft.v1 import collaboration_pb2 as pb
from updraft.v1.collaboration_pb2_grpc import CollaborationStub
from updraft_cloud import wire
from updraft_cloud.frames import Hidden

PROMPT = [1, 2, 3]
NAN = np.array([np.nan] * 8, "<f2").tobytes()
GOOD: dict[str, Any] = {"position": 0, "count": 1, "width": 8, "carry": pb.CARRY_FLOAT16, "data": bytes(16)}
INT8: dict[str, Any] = {**GOOD, "carry": pb.CARRY_INT8, "data": b"\x7f" * 8, "scales": [1.0]}


def entry(**changes: Any) -> pb.HiddenEntry:
    fields = {"layers": 2, "carry": pb.CARRY_FLOAT16, "fingerprint": "staged-0-3", **changes}
    return pb.HiddenEntry(**fields)


async def refusal(address: str, frame: pb.EdgeFrame, **opening: Any) -> pb.Error:
    """The error with which a session ends."""
    async with RawEdge(address) as edge:
        await edge.open(PROMPT, **opening)
        await edge.read_body("opened")
        await edge.send(frame)
        answer = await edge.read()
        assert answer is not None
        assert await edge.read() is None
        return answer.error


async def test_a_session_of_states_answers_over_the_wire() -> None:
    engine = FakeStagedEngine()
    async with running_cloud(engine) as cloud:
        async with RawEdge(cloud.address) as edge:
            await edge.open(PROMPT, entry=entry())
            packed = pack(states_of(PROMPT), "float16")
            await edge.send(pb.EdgeFrame(hidden=pb.Hidden(**{**GOOD, "count": 3, "data": packed.data})))
            await edge.draft([])
            verdict = await edge.read_body("verdict")
        async with RawEdge(cloud.address) as edge:
            await edge.open(PROMPT)
            await edge.draft([])
            assert (await edge.read_body("verdict")).token == verdict.token
        await until(lambda: idle(cloud))
    assert verdict.spent.layers == 3 * 4


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"width": 9}, "width 9; this cloud's model has 8"),
        ({"width": 0}, "width 0"),
        ({"carry": pb.CARRY_UNSPECIFIED}, "precision 0"),
        ({"carry": 9}, "precision 9"),
        ({"carry": pb.CARRY_FLOAT32, "data": bytes(32)}, "float32; the session takes float16"),
        ({**INT8}, "int8; the session takes float16"),
        ({"count": 0}, "0 hidden states"),
        ({"count": 2}, "16 bytes as float16, not 32"),
        ({"count": 2**31}, "the context holds 512"),
        ({"position": 512}, "the context holds 512"),
        ({"position": 2**32 - 1}, "the context holds 512"),
        ({"position": 1}, "start at 1; those before end at 0"),
        ({"data": b""}, "0 bytes"),
        ({"data": bytes(15)}, "15 bytes"),
        ({"data": bytes(17)}, "17 bytes"),
        ({"scales": [1.0]}, "20 bytes"),
        ({**INT8, "scales": []}, "8 bytes as int8, not 12"),
        ({**INT8, "scales": [float("nan")]}, "not finite"),
        ({**INT8, "scales": [3e38]}, "not finite"),
        ({"data": NAN}, "not finite"),
        ({"data": b"\x00\x7c" * 8}, "not finite"),
    ],
)
async def test_states_that_no_correct_edge_sends_end_the_session(changes: dict[str, Any], match: str) -> None:
    engine = FakeStagedEngine()
    async with running_cloud(engine) as cloud:
        hidden = pb.EdgeFrame(hidden=pb.Hidden(**{**GOOD, **changes}))
        error = await refusal(cloud.address, hidden, entry=entry())
        assert (error.code, match in error.message) == ("protocol_violation", True), error.message
        await until(lambda: idle(cloud))
    assert engine.forwards == 0


async def test_states_and_spans_where_they_do_not_belong_end_the_session() -> None:
    hidden, span = pb.EdgeFrame(hidden=pb.Hidden(**GOOD)), pb.EdgeFrame(take_over=pb.TakeOver(position=3))
    async with running_cloud(FakeStagedEngine()) as cloud:
        error = await refusal(cloud.address, hidden)
        assert (error.code, error.message) == (
            "protocol_violation",
            "Hidden states arrived in a session that was not opened for them.",
        )
        assert "no spans" in (await refusal(cloud.address, span, entry=entry())).message


async def test_a_question_that_comes_before_its_states_ends_the_session() -> None:
    async with running_cloud(FakeStagedEngine()) as cloud, RawEdge(cloud.address) as edge:
        await edge.open(PROMPT, entry=entry())
        await edge.send(pb.EdgeFrame(hidden=pb.Hidden(**GOOD)))
        await edge.draft([])
        await edge.read_body("opened")
        frame = await edge.read()
        assert frame is not None
        assert (frame.error.code, "1 positions of 3" in frame.error.message) == ("protocol_violation", True)


@pytest.mark.parametrize(
    ("engine", "changes", "code", "match"),
    [
        (FakeStagedEngine(), {"fingerprint": "another"}, "trunk_mismatch", "serves 'staged-0-3'"),
        (FakeStagedEngine(), {"fingerprint": ""}, "trunk_mismatch", "serves 'staged-0-3'"),
        (FakeStagedEngine(), {"layers": 3}, "trunk_mismatch", "after 3 layers; this cloud takes them after 2, 4"),
        (FakeStagedEngine(), {"layers": 6}, "trunk_mismatch", "after 2, 4"),
        (FakeStagedEngine(), {"layers": 0}, "trunk_mismatch", "after 2, 4"),
        (FakeStagedEngine(), {"carry": 0}, "protocol_violation", "precision 0"),
        (FakeStagedEngine(deepest=1), {}, "trunk_mismatch", "no stages"),
        (HashEngine(), {}, "trunk_mismatch", "no stages"),
    ],
)
async def test_sessions_that_cannot_continue_the_edges_model_are_refused(
    engine: Engine, changes: dict[str, Any], code: str, match: str
) -> None:
    async with running_cloud(engine) as cloud, RawEdge(cloud.address) as edge:
        await edge.open(PROMPT, entry=entry(**changes))
        frame = await edge.read()
        assert frame is not None
        assert (frame.error.code, frame.error.retryable) == (code, False)
        assert match in frame.error.message
        assert frame.error.remedy


async def test_a_model_without_stages_takes_no_states() -> None:
    async with running_cloud(HashEngine()) as cloud:
        error = await refusal(cloud.address, pb.EdgeFrame(hidden=pb.Hidden(**GOOD)))
        assert (error.code, error.message) == (
            "protocol_violation",
            "Hidden states of width 8; this cloud's model has 0.",
        )


async def test_an_idle_session_of_states_is_closed() -> None:
    engine = FakeStagedEngine()
    async with running_cloud(engine, idle_timeout_s=0.05) as cloud, RawEdge(cloud.address) as edge:
        await edge.open(PROMPT, entry=entry())
        await edge.send(pb.EdgeFrame(hidden=pb.Hidden(**GOOD)))
        await edge.read_body("opened")
        frame = await edge.read()
        assert frame is not None
        assert frame.error.code == "late_reply"
        await until(lambda: idle(cloud))


async def test_describe_names_the_boundaries() -> None:
    for engine, boundaries in ((FakeStagedEngine(stages=4), [2, 4, 6]), (HashEngine(), [])):
        async with running_cloud(engine) as cloud, grpc.aio.insecure_channel(cloud.address) as channel:
            described = await CollaborationStub(channel).Describe(pb.DescribeRequest())
            assert list(described.boundaries) == boundaries
            assert described.width == engine.info.width


@given(
    position=st.integers(0, 2**32 - 1) | st.integers(0, 520),
    count=st.integers(0, 2**32 - 1) | st.integers(0, 4),
    width=st.sampled_from([0, 7, 8, 2**32 - 1]),
    carry=st.integers(0, 4),
    data=st.binary(max_size=64) | st.sampled_from([bytes(8), bytes(16), bytes(32)]),
    scales=st.lists(st.floats(width=32), max_size=3),
)
def test_any_hidden_frame_is_read_or_refused(**fields: Any) -> None:
    message = pb.EdgeFrame(sequence=1, hidden=pb.Hidden(**fields))
    try:
        frame = wire.read_frame(message, LIMITS)
    except UpdraftError as error:
        assert error.code == "protocol_violation"
        return
    assert isinstance(frame, Hidden)
    assert frame.states.shape == (fields["count"], 8)
    assert np.isfinite(frame.states).all()
    assert frame.position + len(frame.states) <= LIMITS.context


@given(st.data(), st.sampled_from(CARRIES))
def test_damaged_bytes_are_read_or_refused(data: st.DataObject, carry: Carry) -> None:
    number = {"float32": pb.CARRY_FLOAT32, "float16": pb.CARRY_FLOAT16, "int8": pb.CARRY_INT8}[carry]
    packed = pack(np.ones((2, 8), np.float32), carry)
    fields = {**GOOD, "count": 2, "carry": number, "data": packed.data, "scales": packed.scales.tolist()}
    raw = bytearray(pb.EdgeFrame(sequence=1, hidden=pb.Hidden(**fields)).SerializeToString())
    assert len(raw) >= 2 * packed_bytes(carry, 8)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        wire.read_frame(pb.EdgeFrame.FromString(bytes(raw)), LIMITS)
    except (DecodeError, UpdraftError):
        pass
