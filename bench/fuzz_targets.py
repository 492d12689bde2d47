"""What reads bytes that somebody else wrote: each decoder with samples for it, and what it may raise."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from google.protobuf.message import DecodeError

from updraft.config import StrategySettings, load_cloud_settings
from updraft.engine.saved_state import pack_state, unpack_state
from updraft.errors import UpdraftError
from updraft.exits.carry import CARRIES, Packed, pack, unpack
from updraft.sampling import Distribution, Sampled, SamplingParams
from updraft.token_log import TokenLog
from updraft.transport.token_file import read_tokens
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud import messages
from updraft_cloud import wire as cloud_wire
from updraft_cloud.frames import Limits
from updraft_edge import wire as edge_wire
from updraft_edge.solving.wire import Asking, read_answer, read_progress

from .mutation import damaged, random_message

__all__ = ["LIMITS", "TARGETS", "Target", "fed"]

LIMITS: Final = Limits(vocabulary=64, context=512, max_draft=62, width=4)
_KEPT: Final = 200  # earlier samples, to splice from


class Target(Protocol):
    """A decoder under test."""

    def sample(self, chance: random.Random) -> bytes:
        """Bytes to feed it: made up, damaged, or right."""
        ...

    def feed(self, data: bytes) -> None:
        """Have it read them. It may raise UpdraftError, or DecodeError where protobuf reads first; nothing else."""
        ...

    def close(self) -> None:
        """Leave nothing. Raises AssertionError where something is left that should have gone."""
        ...


def fed(target: Target, data: bytes) -> bool:
    """Whether the bytes were taken; False if they were refused in order. Raises whatever else happens."""
    try:
        target.feed(data)
    except (UpdraftError, DecodeError):
        return False
    return True


@dataclass(slots=True)
class Decoder:
    """A decoder whose samples are right ones, mostly damaged."""

    right: Callable[[random.Random], bytes]
    read: Callable[[bytes], object]
    kept: list[bytes] = field(default_factory=list)

    def sample(self, chance: random.Random) -> bytes:
        if len(self.kept) < _KEPT or chance.random() < 0.2:
            data = self.right(chance)
            self.kept.append(data)
        else:
            data = chance.choice(self.kept)
        del self.kept[:-_KEPT]
        return data if chance.random() < 0.3 else damaged(data, chance, self.kept)

    def feed(self, data: bytes) -> None:
        self.read(data)

    def close(self) -> None:
        if isinstance(self.read, _File):
            self.read.close()


def _edge_frame(chance: random.Random) -> bytes:
    return random_message(pb.EdgeFrame, chance).SerializeToString()


def _read_edge_frame(data: bytes) -> object:
    """As the cloud does."""
    return cloud_wire.read_frame(pb.EdgeFrame.FromString(data), LIMITS)


def _cloud_frame(chance: random.Random) -> bytes:
    """Half of them fit the log that `_read_cloud_frame` has."""
    frame = random_message(pb.CloudFrame, chance)
    log, tokens = TokenLog(_PROMPT), [chance.randrange(64) for _ in range(chance.randint(0, 3))]
    if chance.random() < 0.5:
        frame.span.position, frame.span.log_hash = len(log), log.hash_with(tokens)
        frame.span.ClearField("reports")
        frame.span.reports.extend(random_message(pb.TokenReport, chance) for _ in tokens)
        frame.span.tokens[:] = tokens
    return frame.SerializeToString()


_PROMPT: Final = [1, 2, 3]
_RUN: Final = [4, 5, 6]
_BRANCHES: Final = [(1, [7, 8])]


def _read_cloud_frame(data: bytes) -> object:
    """As the edge does, with a log, a run and a branch that a verdict may fit."""
    frame, log = pb.CloudFrame.FromString(data), TokenLog(_PROMPT)
    edge_wire.read_price(frame)
    match frame.WhichOneof("body"):
        case "verdict":
            return edge_wire.read_verdict(frame.verdict, log, _RUN, _BRANCHES)
        case "span":
            return edge_wire.read_span(frame.span, log)
        case "scored":
            return edge_wire.read_scored(frame.scored, _RUN, [1, 2], each=len(frame.scored.reports) > 0)
        case "error":
            return edge_wire.read_error(frame.error)
        case _:
            return None


def _solve_request(chance: random.Random) -> bytes:
    """Some of them are right."""
    request = random_message(pb.SolveRequest, chance)
    if chance.random() < 0.5:
        request = pb.SolveRequest(tokenizer_hash="letters", prompt=_PROMPT, max_tokens=9, strategy="rpc")
        request.sampling.seed, request.budget.samples = 1, chance.randrange(3)
        request.strategy_json = chance.choice(("", "{}", "[]", '{"a": 1e999}', "{" * 99))
        request.given.add(tokens=_RUN, logprob=-chance.random())
    return request.SerializeToString()


def _read_solve_request(data: bytes) -> object:
    """As the cloud does; what is taken goes to the engine and is the same there."""
    order = cloud_wire.read_solve(pb.SolveRequest.FromString(data), LIMITS, StrategySettings())
    message = messages.Solve(1, "tenant", order)
    assert messages.decode_to_engine(messages.encode(message)) == message  # noqa: S101 (what it promises)
    return order


_ASKING: Final = Asking("letters", _PROMPT, (), SamplingParams(seed=1), 9, (), 0, True, True, 64)
_GIVEN: Final = [[Sampled(token, -0.5, Distribution(1.0, 1.0, 0.5)) for token in _RUN]]


def _solve_event(chance: random.Random) -> bytes:
    """Half of them fit what `_read_solve_event` has asked."""
    event = random_message(pb.SolveEvent, chance)
    if chance.random() < 0.5:
        sample = pb.SolveSample(tokens=_RUN, logprob=-1.0, given=chance.randrange(2))
        event = pb.SolveEvent(answer=pb.SolveAnswer(sample=sample, confidence=chance.random()))
        event.answer.alternatives.add(sample=sample, weight=chance.random())
    return event.SerializeToString()


def _read_solve_event(data: bytes) -> object:
    """As the edge does."""
    event = pb.SolveEvent.FromString(data)
    match event.WhichOneof("body"):
        case "progress":
            return read_progress(event.progress)
        case "answer":
            return read_answer(event.answer, _ASKING, _GIVEN)
        case "error":
            return edge_wire.read_error(event.error)
        case _:
            return None


def _to_engine(chance: random.Random) -> bytes:
    """What a front end would send for a frame that it has taken."""
    while True:
        try:
            if chance.random() < 0.1:
                request = pb.SolveRequest.FromString(_solve_request(chance))
                return messages.encode(
                    messages.Solve(1, "", cloud_wire.read_solve(request, LIMITS, StrategySettings()))
                )
            frame: Any = cloud_wire.read_frame(random_message(pb.EdgeFrame, chance), LIMITS)
            if type(frame).__name__ == "Open":
                return messages.encode(messages.Begin(chance.randrange(9), "tenant", frame))
            if type(frame).__name__ != "Close":
                return messages.encode(messages.Deliver(chance.randrange(9), frame, chance.random()))
        except UpdraftError:
            return messages.encode(messages.Finish(chance.randrange(9)))


def _from_engine(chance: random.Random) -> bytes:
    from updraft_cloud.context import ContextStatistics
    from updraft_cloud.frames import End, Failed, Report, Span, Spent

    tokens = [chance.randrange(64) for _ in range(chance.randint(0, 4))]
    reports = [Report(-chance.random(), chance.random(), 0.0, [(1, -0.5)]) for _ in tokens]
    span = Span(
        position=chance.randrange(512),
        tokens=tokens,
        reports=reports,
        end=chance.choice(list(End)),
        log_hash=chance.randrange(2**32),
        spent=Spent(),
    )
    match chance.randrange(3):
        case 0:
            return messages.encode(messages.Emitted([(chance.randrange(9), span)] * chance.randint(0, 3)))
        case 1:
            failed = Failed.of(UpdraftError("it failed"))
            return messages.encode(messages.Emitted([(chance.randrange(9), failed)]))
        case _:
            return messages.encode(messages.Measured([], ContextStatistics(), chance.randrange(9)))


def _hidden(chance: random.Random) -> bytes:
    """Precision, count and width in front of the values and scales of packed states."""
    carry = chance.choice(CARRIES)
    states = np.array([[chance.uniform(-9, 9) for _ in range(4)] for _ in range(chance.randint(1, 5))], np.float32)
    packed = pack(states, carry)
    head = bytes([CARRIES.index(carry), packed.count, packed.width, len(packed.scales)])
    return head + packed.scales.astype("<f4").tobytes() + packed.data


def _read_hidden(data: bytes) -> object:
    head = data[:4].ljust(4, b"\0")
    carry, count, width, scales = CARRIES[head[0] % len(CARRIES)], head[1], head[2], head[3]
    end = 4 + 4 * min(scales, (len(data) - 4) // 4 if len(data) > 4 else 0)
    states = unpack(Packed(carry, count, width, data[end:], np.frombuffer(data[4:end], "<f4")))
    assert states.shape == (count, width) and np.isfinite(states).all()  # noqa: S101 (what `unpack` promises)
    return states


_STATE: Final[dict[str, Any]] = {"fingerprint": "fuzz", "sequences": 8}


def _state(chance: random.Random) -> bytes:
    length = chance.randint(0, 512)
    return pack_state(chance.randbytes(chance.randint(0, 300)), length=length, **_STATE)


def _read_state(data: bytes) -> object:
    return unpack_state(data, context=512, **_STATE)


class _File:
    """Something that is read from a file."""

    def __init__(self, name: str, read: Callable[[Path], object]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="updraft-fuzz-")
        self._path = Path(self._folder.name) / name
        self._path.touch(mode=0o600)
        self._read = read

    def __call__(self, data: bytes) -> object:
        self._path.write_bytes(data)
        return self._read(self._path)

    def close(self) -> None:
        self._folder.cleanup()


_ENTRY: Final = (
    '{"id": "%012x", "sha256": "%064x", "tenant": "one", "created": "2026-01-02T03:04:05Z", "expires": null}\n'
)


def _token_file(chance: random.Random) -> bytes:
    lines = [_ENTRY % (chance.getrandbits(48), chance.getrandbits(256)) for _ in range(chance.randint(0, 4))]
    return "".join(["# tokens\n", *lines]).encode()


def _settings(chance: random.Random) -> bytes:
    values = ("4", "-1", "true", '"x"', "[]", "1e400", "nan", "{}", "99999999999999999999", '"127.0.0.1"')
    keys = ("context", "sequences", "max_sessions", "pass_tokens", "drain_s", "model", "listen.port", "listen.host")
    lines = [f"{chance.choice(keys)} = {chance.choice(values)}" for _ in range(chance.randint(1, 4))]
    return "\n".join(["[cloud]", *lines]).encode()


def _session() -> Target:
    from .fuzz_session import SessionTarget

    return SessionTarget()


# Each with its share of the frames; what reads files takes longest.
TARGETS: Final[dict[str, tuple[Callable[[], Target], float]]] = {
    "edge-frame": (lambda: Decoder(_edge_frame, _read_edge_frame), 0.25),
    "cloud-frame": (lambda: Decoder(_cloud_frame, _read_cloud_frame), 0.15),
    "solve-request": (lambda: Decoder(_solve_request, _read_solve_request), 0.05),
    "solve-event": (lambda: Decoder(_solve_event, _read_solve_event), 0.05),
    "session": (_session, 0.2),
    "to-engine": (lambda: Decoder(_to_engine, messages.decode_to_engine), 0.1),
    "from-engine": (lambda: Decoder(_from_engine, messages.decode_from_engine), 0.1),
    "hidden-states": (lambda: Decoder(_hidden, _read_hidden), 0.05),
    "saved-state": (lambda: Decoder(_state, _read_state), 0.043),
    "token-file": (lambda: Decoder(_token_file, _File("tokens.jsonl", read_tokens)), 0.005),
    "settings": (lambda: Decoder(_settings, _File("updraft.toml", load_cloud_settings)), 0.002),
}
