"""The session protocol as a state machine: whatever is sent, the model's answer comes, or a clean Error; nothing stays.

A model of a session says what each frame must bring. Frames that no correct edge sends must bring an Error with one of
the codes that fit, and the end of the stream; the service must have forgotten the session afterwards.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar, cast

import grpc.aio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule, run_state_machine_as_test

from tests.fakes.engine import HashEngine
from tests.fakes.tiers import idle, running_cloud, until
from updraft.sampling import Sampler, SamplingParams
from updraft.sampling_wire import sampling_to_proto
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud.engine.host import LocalHost

T = TypeVar("T")

END = 63  # the engine's end token
MOST = 24
PATIENCE_S = 20.0
SESSION = "/updraft.v1.Collaboration/Session"
TRUTH = HashEngine()
SEQUENCES = 6

tokens = some.integers(0, END)
prompts = some.lists(tokens, min_size=1, max_size=80)


class Service:
    """A cloud service in a thread of its own, for tests that are not coroutines."""

    def __init__(self) -> None:
        self.engine = HashEngine(sequences=SEQUENCES)
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.cloud = self.wait(self._stack.enter_async_context(running_cloud(self.engine)))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, PATIENCE_S), self._loop)
        return future.result()

    def stop(self) -> None:
        self.wait(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def connect(self) -> Peer:
        channel = grpc.aio.insecure_channel(self.cloud.address)
        return Peer(channel, cast("Any", channel).stream_stream(SESSION)())

    async def forgotten(self) -> None:
        """Wait until no session is left, in the engine or in front of it; what stays there must be in order."""
        await until(lambda: idle(self.cloud))
        assert isinstance(self.cloud.host, LocalHost)
        worker = self.cloud.host.worker
        await asyncio.wrap_future(worker.loop.call(worker.context.check_integrity))


class Peer:
    """The other end of a stream of bytes."""

    def __init__(self, channel: grpc.aio.Channel, call: Any) -> None:
        self._channel = channel
        self._call = call
        self.late = False  # the stream ended during a write: gRPC then hides what the service said last

    async def send(self, *frames: bytes) -> bool:
        """Whether the stream was still there to be written to."""
        try:
            for frame in frames:
                await self._call.write(frame)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            self.late = True
        return not self.late

    async def read(self) -> pb.CloudFrame | None:
        """The next frame but notices; None at the end of the stream, which must have ended in order."""
        while not self.late and (data := await self._call.read()) is not cast("Any", grpc.aio).EOF:
            frame = pb.CloudFrame.FromString(data)
            if not frame.HasField("notice"):
                return frame
        assert self.late or await self._call.code() is grpc.StatusCode.OK
        return None

    async def close(self) -> None:
        self._call.cancel()
        await self._channel.close(None)


class Session:
    """What a session is according to the protocol."""

    def __init__(self, peer: Peer, prompt: list[int], generated: list[int], temperature: float, ends: bool) -> None:
        self.peer = peer
        self.log = TokenLog(prompt, generated)
        self.sampling = SamplingParams(temperature=temperature, seed=7)
        self.ends = ends
        self.sent = 0
        self.last = b""
        self.finished = len(generated) >= MOST

    def numbered(self, frame: pb.EdgeFrame) -> bytes:
        if not frame.sequence:
            self.sent += 1
            frame.sequence = self.sent
        self.last = frame.SerializeToString()
        return self.last

    def open(self) -> bytes:
        opening = pb.Open(
            tokenizer_hash="letters",
            prompt=self.log.tokens[: self.log.prompt_length],
            generated=self.log.generated,
            sampling=sampling_to_proto(self.sampling),
            max_tokens=MOST,
            ignore_end=not self.ends,
        )
        return self.numbered(pb.EdgeFrame(open=opening))

    def draft(self, run: list[int], committed: list[int] | None = None, **changes: Any) -> bytes:
        alone = committed or []
        fields: dict[str, Any] = {
            "position": len(self.log),
            "log_hash": self.log.hash_with(alone),
            "run": run,
            "committed": alone,
        }
        return self.numbered(pb.EdgeFrame(draft=pb.Draft(**fields | changes)))

    def take_over(self, most: int) -> bytes:
        take = pb.TakeOver(position=len(self.log), log_hash=self.log.hash, max_tokens=most)
        return self.numbered(pb.EdgeFrame(take_over=take))

    def truth(self, count: int) -> list[int]:
        """The model's own next tokens, to the end of the answer at most."""
        log, sampler = list(self.log.tokens), Sampler(self.sampling, self.log.tokens[: self.log.prompt_length])
        sampler.commit(self.log.generated)
        found: list[int] = []
        while len(found) < count and len(log) - self.log.prompt_length < MOST:
            token = sampler.draw(TRUTH._row(tuple(log)), len(log)).token
            sampler.commit([token])
            log.append(token)
            found.append(token)
            if self.ends and token == END:
                break
        return found

    def take(self, expected: list[int]) -> None:
        self.log.extend(expected)
        self.finished = self.log.generated_length >= MOST or (self.ends and END in expected)


async def verdict(session: Session, run: list[int], frame: bytes) -> None:
    """A draft brings the accepted tokens and the model's own next one."""
    expected = session.truth(len(run) + 1)
    same = [place for place, (mine, drafted) in enumerate(zip(expected, run, strict=False)) if mine != drafted]
    expected = expected[: same[0] + 1] if same else expected
    assert await session.peer.send(frame)
    answer = await session.peer.read()
    assert answer is not None and answer.HasField("verdict"), answer
    session.take(expected)
    assert (answer.verdict.position, answer.verdict.log_hash) == (len(session.log), session.log.hash)
    assert answer.verdict.accepted + answer.verdict.has_token == len(expected)
    assert bool(answer.verdict.end) == session.finished


async def span(session: Session, most: int, frame: bytes) -> None:
    expected = session.truth(most or MOST)
    assert await session.peer.send(frame)
    written: list[int] = []
    while True:
        answer = await session.peer.read()
        assert answer is not None and answer.HasField("span"), answer
        written += answer.span.tokens
        if answer.span.end:
            break
    assert written == expected
    session.take(expected)
    assert answer.span.log_hash == session.log.hash


async def refused(session: Session, *codes: str, already: int = 0) -> None:
    """An Error of one of the codes, after at most so many answers to what came before it, and an orderly end."""
    answer = await session.peer.read()
    for _ in range(already):
        if answer is not None and not answer.HasField("error"):
            answer = await session.peer.read()
    if session.peer.late:
        return
    assert answer is not None
    assert answer.error.code in codes and answer.error.message and answer.error.remedy, answer
    assert await session.peer.read() is None
    await session.peer.close()


class Machine(RuleBasedStateMachine):
    """Sessions side by side, each told right and wrong things."""

    service: Service
    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.alive: list[Session] = []

    @initialize()
    def begin(self) -> None:
        self.service.wait(self.service.forgotten())

    @rule(
        target=sessions,
        prompt=prompts,
        generated=some.lists(tokens, max_size=5),
        temperature=some.sampled_from((0.0, 0.8)),
        ends=some.booleans(),
    )
    def opened(self, prompt: list[int], generated: list[int], temperature: float, ends: bool) -> Session:
        session = Session(self.service.wait(self.service.connect()), prompt, generated, temperature, ends)

        async def work() -> None:
            assert await session.peer.send(session.open())
            answer = await session.peer.read()
            assert answer is not None and answer.HasField("opened"), answer

        if len(self.alive) >= SEQUENCES:
            self._leave(self.alive[0])
        self.service.wait(work())
        self.alive.append(session)
        return session

    @rule(session=sessions, right=some.integers(0, 8), wrong=some.lists(tokens, max_size=4))
    def drafted(self, session: Session, right: int, wrong: list[int]) -> None:
        if self._usable(session):
            run = session.truth(right) + wrong
            self.service.wait(verdict(session, run, session.draft(run)))

    @rule(session=sessions, alone=some.lists(some.integers(0, END - 1), min_size=1, max_size=4))
    def committed_alone(self, session: Session, alone: list[int]) -> None:
        if self._usable(session) and session.log.generated_length + len(alone) < MOST:
            frame = session.draft([], alone)
            session.log.extend(alone)
            self.service.wait(verdict(session, [], frame))

    @rule(session=sessions, most=some.integers(0, 6))
    def took_over(self, session: Session, most: int) -> None:
        if self._usable(session):
            self.service.wait(span(session, most, session.take_over(most)))

    @rule(session=sessions)
    def cancelled_nothing(self, session: Session) -> None:
        if session in self.alive:
            assert self.service.wait(session.peer.send(session.numbered(pb.EdgeFrame(cancel=pb.Cancel()))))

    @rule(session=sessions, choices=some.lists(tokens, min_size=1, max_size=3))
    def scored(self, session: Session, choices: list[int]) -> None:
        if session in self.alive:
            score = pb.Score(position=len(session.log), log_hash=session.log.hash, choices=choices)
            frame = session.numbered(pb.EdgeFrame(score=score))

            async def work() -> None:
                assert await session.peer.send(frame)
                answer = await session.peer.read()
                assert answer is not None and len(answer.scored.choices) == len(choices), answer

            self.service.wait(work())

    @rule(session=sessions, ahead=some.integers(1, 3) | some.just(2**31))
    def out_of_order(self, session: Session, ahead: int) -> None:
        frame = pb.EdgeFrame(sequence=session.sent + 1 + ahead, cancel=pb.Cancel())
        self._refused(session, [session.numbered(frame)], "protocol_violation")

    @rule(session=sessions)
    def duplicated(self, session: Session) -> None:
        self._refused(session, [session.last], "protocol_violation")

    @rule(session=sessions, other=sessions)
    def of_the_wrong_session(self, session: Session, other: Session) -> None:
        if other is not session and other.log.hash != session.log.hash:
            last, frame = other.last, other.draft([1])
            other.last, other.sent = last, other.sent - 1
            self._refused(session, [_renumbered(frame, session)], "log_mismatch", "protocol_violation")

    @rule(session=sessions, beyond=some.integers(1, 600) | some.just(2**32 - 600))
    def beyond_the_log(self, session: Session, beyond: int) -> None:
        self._refused(session, [session.draft([], position=len(session.log) + beyond)], "log_mismatch")

    @rule(session=sessions, token=some.integers(END + 1, 2**32 - 1))
    def token_out_of_range(self, session: Session, token: int) -> None:
        self._refused(session, [session.draft([token])], "protocol_violation")

    @rule(session=sessions, flip=some.integers(1, 2**32 - 1))
    def hash_that_does_not_agree(self, session: Session, flip: int) -> None:
        frame = session.draft([], log_hash=session.log.hash ^ flip)
        self._refused(session, [frame], "log_mismatch")

    @rule(session=sessions, length=some.integers(63, 400))
    def oversized(self, session: Session, length: int) -> None:
        self._refused(session, [session.draft([1] * length)], "protocol_violation")

    @rule(session=sessions)
    def committed_too_much(self, session: Session) -> None:
        self._refused(session, [session.draft([], [1] * (MOST + 1))], "protocol_violation")

    @rule(session=sessions)
    def empty(self, session: Session) -> None:
        self._refused(session, [session.numbered(pb.EdgeFrame())], "protocol_violation")

    @rule(session=sessions)
    def opened_twice(self, session: Session) -> None:
        self._refused(session, [session.open()], "protocol_violation")

    @rule(session=sessions)
    def states_that_nobody_asked_for(self, session: Session) -> None:
        hidden = pb.Hidden(position=0, count=1, width=4, carry=pb.CARRY_FLOAT32, data=bytes(16))
        self._refused(session, [session.numbered(pb.EdgeFrame(hidden=hidden))], "protocol_violation")

    @rule(session=sessions, data=some.binary(min_size=1, max_size=40).map(lambda data: b"\x0f" + data))
    def unreadable(self, session: Session, data: bytes) -> None:
        self._refused(session, [data], "protocol_violation")

    @rule(session=sessions)
    def asked_twice_at_once(self, session: Session) -> None:
        if self._usable(session):
            frames = [session.draft([]), session.draft([])]
            self._refused(session, frames, "protocol_violation", "log_mismatch", already=1)

    @rule(session=sessions)
    def after_the_end(self, session: Session) -> None:
        if session in self.alive and session.log.generated_length >= MOST:
            self._refused(session, [session.draft([])], "protocol_violation")

    @rule(session=consumes(sessions))
    def closed(self, session: Session) -> None:
        if session in self.alive:

            async def work() -> None:
                assert await session.peer.send(session.numbered(pb.EdgeFrame(close=pb.Close())))
                await session.peer.send(session.draft([]))  # after close nobody listens
                assert await session.peer.read() is None

            self.service.wait(work())
            self._leave(session)

    @rule(session=consumes(sessions))
    def went_away(self, session: Session) -> None:
        self._leave(session)

    @rule(data=some.binary(max_size=60))
    def stranger(self, data: bytes) -> None:
        """A stream that begins with anything but an Open."""

        async def work() -> None:
            peer = await self.service.connect()
            frame = b"\x0f" + data  # never an Open
            assert await peer.send(frame)
            await refused(Session(peer, [1], [], 0.0, False), "protocol_violation")

        self.service.wait(work())

    def teardown(self) -> None:
        for session in list(self.alive):
            self._leave(session)
        self.service.wait(self.service.forgotten())

    def _usable(self, session: Session) -> bool:
        return session in self.alive and not session.finished

    def _refused(self, session: Session, frames: list[bytes], *codes: str, already: int = 0) -> None:
        if session not in self.alive:
            return

        async def work() -> None:
            await session.peer.send(*frames)
            await refused(session, *codes, already=already)

        self.service.wait(work())
        self.alive.remove(session)

    def _leave(self, session: Session) -> None:
        if session in self.alive:
            self.alive.remove(session)
            self.service.wait(session.peer.close())


def _renumbered(data: bytes, session: Session) -> bytes:
    frame = pb.EdgeFrame.FromString(data)
    session.sent += 1
    frame.sequence = session.sent
    return frame.SerializeToString()


@contextmanager
def running() -> Iterator[type[Machine]]:
    service = Service()
    try:
        yield type("Running", (Machine,), {"service": service})
    finally:
        service.stop()


def test_any_order_of_right_and_wrong_frames() -> None:
    with running() as machine:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=40,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )
