"""Hidden states on their way up: in order, as often as needed, and still right after the stream was lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.relay import Relay
from tests.cloud.sessions.test_pending_states import drawn, states_of
from tests.cloud.sessions.test_session import PROMPT, TRUTH, opening
from tests.edge.test_faults import relay_to
from tests.fakes.engine import HashEngine, LetterTokenizer
from tests.fakes.staged_engine import FakeStagedEngine
from tests.fakes.tiers import idle, running_cloud, until
from updraft.config import CloudLinkSettings, EdgeSettings
from updraft.errors import CloudUnavailable, InvalidRequest, ProtocolViolation, TrunkMismatch
from updraft.exits.carry import CARRIES, Carry, FloatRows, Packed, rounded, unpack
from updraft.generation import Statistics
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire
from updraft_edge.cloud_session import CloudSession
from updraft_edge.exits import upload as hidden_upload
from updraft_edge.exits.upload import HiddenUpload
from updraft_edge.link import CloudLink
from updraft_edge.rules.guard import Rules

NAMES: dict[int, Carry] = {pb.CARRY_FLOAT32: "float32", pb.CARRY_FLOAT16: "float16", pb.CARRY_INT8: "int8"}


def rows(count: int, seed: int) -> FloatRows:
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


class Receiver:
    """Takes frames as a cloud does: a gap is an error, an overlap replaces."""

    def __init__(self) -> None:
        self.states = np.empty((0, 8), np.float32)
        self.frames = 0

    async def put(self, frame: pb.EdgeFrame) -> None:
        await asyncio.sleep(0)
        hidden = frame.hidden
        assert hidden.position <= len(self.states)
        scales = np.array(hidden.scales, np.float32)
        states = unpack(Packed(NAMES[hidden.carry], hidden.count, hidden.width, hidden.data, scales))
        self.states = np.concatenate([self.states[: hidden.position], states])
        self.frames += 1


@given(
    st.sampled_from(CARRIES),
    st.lists(st.tuples(st.sampled_from(["add", "again", "rewind", "lose", "flush"]), st.integers(0, 9)), max_size=20),
)
def test_whatever_is_added_lost_and_replaced_the_cloud_has_the_last_states(
    carry: Carry, actions: list[tuple[str, int]]
) -> None:
    async def play() -> None:
        upload, receiver = HiddenUpload(wire.HiddenCarry(2, 8, carry, "")), Receiver()
        upload._most = 3
        truth = np.empty((0, 8), np.float32)
        for seed, (action, number) in enumerate(actions):
            if action in ("add", "again"):
                start = len(truth) if action == "add" else min(number, len(truth))
                truth = np.concatenate([truth[:start], rows(1 + number, seed)])
                upload.add(start, truth[start:])
            elif action == "rewind":
                receiver.states = receiver.states[:number]
                upload.rewind(number)
            elif action == "lose":
                receiver = Receiver()
                upload.rewind(0)
            else:
                await asyncio.gather(upload.flush(receiver.put), upload.flush(receiver.put))
        await upload.flush(receiver.put)
        assert not upload.behind
        expected = rounded(truth, carry) if len(truth) else truth
        assert np.array_equal(receiver.states, expected)

    asyncio.run(play())


async def test_long_prompts_go_up_in_frames_that_the_cloud_takes() -> None:
    upload, receiver = HiddenUpload(wire.HiddenCarry(2, 8, "float32", "")), Receiver()
    upload.add(0, np.ones((3 * hidden_upload.FRAME_BYTES // 32, 8), np.float32))
    await upload.flush(receiver.put)
    assert receiver.frames == 3
    wide = HiddenUpload(wire.HiddenCarry(2, 2 * hidden_upload.FRAME_BYTES, "float32", ""))
    assert wide._most == 1


class Talk:
    """A session with a cloud, driven as an early-exit drafter drives it."""

    def __init__(
        self, address: str, *, carry: Carry = "float16", link: dict[str, Any] | None = None, **hidden: Any
    ) -> None:
        frame = opening()
        fields: dict[str, Any] = {"layers": 2, "width": 8, "carry": carry, "fingerprint": "staged-0-3", **hidden}
        self.log = TokenLog(PROMPT)
        self.statistics = Statistics()
        options = {"address": address, "reconnect_backoff_s": 0.01, **(link or {})}
        self.link = CloudLink(CloudLinkSettings(**options), Rules(EdgeSettings(), LetterTokenizer(64).piece))
        start = wire.Opening(
            "letters", frame.sampling, frame.max_tokens, (), False, 0, True, hidden=wire.HiddenCarry(**fields)
        )
        self.session = CloudSession(self.link, start, self.log, self.statistics)
        self._uploaded = 0

    def upload(self) -> None:
        """The states of all tokens of the log that have not gone up."""
        self.session.upload(self._uploaded, states_of(self.log.tokens)[self._uploaded :])
        self._uploaded = len(self.log)

    async def ask(self) -> int:
        if self._uploaded < len(self.log):
            self.upload()
        verdict = await self.session.verify([])
        assert verdict.own is not None
        self.log.extend([verdict.own.token])
        return verdict.own.token


@contextlib.asynccontextmanager
async def talking(address: str, **options: Any) -> AsyncIterator[Talk]:
    talk = Talk(address, **options)
    try:
        yield talk
    finally:
        await talk.session.close()
        await talk.link.close()


async def describes(link: CloudLink) -> None:
    """Wait until gRPC has connected again."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(CloudUnavailable):
                await link.describe()
                return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("carry", CARRIES)
async def test_the_cloud_continues_from_states_sent_ahead(carry: Carry) -> None:
    engine = FakeStagedEngine()
    async with running_cloud(engine) as cloud:
        async with talking(cloud.address, carry=carry) as talk:
            talk.session.prepare()
            talk.upload()
            written = [await talk.ask() for _ in range(10)]
        await until(lambda: idle(cloud))
    assert written == TRUTH[0.8][:10]
    statistics = talk.statistics
    assert statistics.cloud_layers == (len(PROMPT) + 9) * 4
    packed = {"float32": 32, "float16": 16, "int8": 12}[carry] * (len(PROMPT) + 9)
    assert packed < statistics.hidden_bytes_up < statistics.bytes_up
    assert statistics.reopened == 0


async def test_states_travel_without_being_asked_for() -> None:
    engine = FakeStagedEngine()
    async with running_cloud(engine) as cloud, talking(cloud.address) as talk:
        talk.session.prepare()
        talk.upload()
        await until(lambda: bool(engine.batches))  # the prompt is computed ahead
        assert engine.batches[0][0].entry == 1
        talk.log.extend([7, 8])
        asked = len(talk.log)
        assert await talk.ask() == drawn(talk.log, asked, 0.8)
        assert len(engine.batches) == 2


@pytest.mark.parametrize("seed", range(4))
async def test_a_stream_cut_at_random_moments_gets_all_states_again(seed: int) -> None:
    async def cut_often(relay: Relay) -> None:
        for _ in range(6):
            await asyncio.sleep(chance.uniform(0.005, 0.03))
            relay.cut()

    chance = random.Random(seed)
    async with running_cloud(FakeStagedEngine()) as cloud, relay_to(cloud.address, delay_s=0.001) as relay:
        async with talking(relay.address, link={"reconnect_attempts": 9}) as talk:
            talk.session.prepare()
            cutting = asyncio.create_task(cut_often(relay))
            written = [await talk.ask() for _ in range(38)]
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
    assert written == TRUTH[0.8][:38]
    assert talk.statistics.reopened > 0


async def test_two_edges_at_once_each_get_what_they_get_alone() -> None:
    async def write(address: str, first: int) -> list[int]:
        async with talking(address) as talk:
            talk.log.extend([first])
            for _ in range(10):
                asked = len(talk.log)
                assert await talk.ask() == drawn(talk.log, asked, 0.8)
            return talk.log.generated

    engine = FakeStagedEngine()
    async with running_cloud(engine) as cloud:
        texts = await asyncio.gather(*(write(cloud.address, first) for first in (5, 6)))
    assert texts[0] != texts[1]


async def test_a_cloud_that_is_away_takes_no_states_and_says_so_at_the_question() -> None:
    async with running_cloud(FakeStagedEngine()) as cloud, relay_to(cloud.address) as relay:
        async with talking(relay.address, link={"reconnect_attempts": 1}) as talk:
            await talk.ask()
            relay.refuse(True)
            relay.cut()
            talk.log.extend([3])
            talk.upload()
            sent = talk.statistics.hidden_bytes_up
            with pytest.raises(CloudUnavailable):
                await talk.ask()
            talk.log.extend([4])
            talk.upload()  # goes nowhere, and raises nothing
            talk.session.upload(len(talk.log), states_of([])[:0])
            assert talk.statistics.hidden_bytes_up <= sent + 100
            relay.refuse(False)
            await describes(talk.link)
            asked = len(talk.log)
            assert await talk.ask() == drawn(talk.log, asked, 0.8)


async def test_a_slow_link_keeps_frames_in_order() -> None:
    async with running_cloud(FakeStagedEngine()) as cloud:
        async with relay_to(cloud.address, delay_s=0.002, bandwidth_bps=2e5) as relay, talking(relay.address) as talk:
            talk.session.prepare()
            for _ in range(5):
                talk.upload()
                talk.log.extend([9])
            asked = len(talk.log)
            assert await talk.ask() == drawn(talk.log, asked, 0.8)


async def test_a_model_that_is_not_the_edges_is_an_error_that_says_so() -> None:
    async with running_cloud(FakeStagedEngine()) as cloud:
        for changes in ({"fingerprint": "another"}, {"layers": 3}):
            async with talking(cloud.address, **changes) as talk:
                with pytest.raises(TrunkMismatch) as caught:
                    await talk.ask()
                assert "exit.carry" in caught.value.remedy
    async with running_cloud(HashEngine()) as cloud, talking(cloud.address) as talk:
        with pytest.raises(TrunkMismatch, match="no stages"):
            await talk.ask()


async def test_states_that_are_not_finite_or_too_few_fail_the_question() -> None:
    async with running_cloud(FakeStagedEngine()) as cloud:
        async with talking(cloud.address) as talk:
            talk.session.upload(0, np.full((len(PROMPT), 8), np.nan, np.float32))
            with pytest.raises(InvalidRequest, match="not finite"):
                await talk.session.verify([])
        async with talking(cloud.address) as talk:
            talk.session.upload(0, states_of(PROMPT)[:2])
            with pytest.raises(ProtocolViolation, match="2 positions of 5"):
                await talk.session.verify([])


async def test_states_with_a_gap_are_not_sent() -> None:
    upload, receiver = HiddenUpload(wire.HiddenCarry(2, 8, "float16", "")), Receiver()
    upload.add(0, rows(2, 0))
    upload.add(3, rows(1, 1))
    with pytest.raises(InvalidRequest, match="start at 3; those before end at 2"):
        await upload.flush(receiver.put)


async def test_a_plain_session_takes_no_states() -> None:
    async with running_cloud(FakeStagedEngine()) as cloud, talking(cloud.address) as talk:
        start = wire.Opening("letters", opening().sampling, 20, (), False, 0, True)
        plain = CloudSession(talk.link, start, talk.log, talk.statistics)
        plain.upload(0, states_of(PROMPT))
        verdict = await plain.verify([])
        assert verdict.own is not None
        assert verdict.own.token == TRUTH[0.8][0]
        assert talk.statistics.hidden_bytes_up == 0
        await plain.close()
