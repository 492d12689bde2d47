"""Sessions of an engine that are told right and wrong things: each question must be answered or refused."""

from __future__ import annotations

import random
from collections import deque
from queue import Empty, SimpleQueue
from typing import Any, Final

from updraft.errors import from_code
from updraft.sampling import SamplingParams
from updraft.sampling_wire import sampling_to_proto
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud import wire
from updraft_cloud.engine.worker import Worker, WorkerOptions
from updraft_cloud.frames import Close, Draft, Failed, Frame, Limits, Open, Reply, Score, Span, TakeOver, Verdict
from updraft_cloud.messages import Begin, Deliver, Emitted, Finish, FromEngine
from updraft_cloud.solve_frames import SolveReply

from .fault_runner import tiny_engine
from .mutation import damaged, random_message

__all__ = ["SessionTarget"]

_PATIENCE_S: Final = 30.0
_REFUSALS: Final = frozenset({"log_mismatch", "protocol_violation", "context_length_exceeded"})
_LIMITS: Final = Limits(vocabulary=64, context=512, max_draft=62, width=0)


class SessionTarget:
    """One session after the other in a worker with a tiny engine.

    Its samples follow the log that the session has, so that they come far; a third of them is damaged or made up.
    """

    def __init__(self) -> None:
        self._heard: SimpleQueue[FromEngine] = SimpleQueue()
        engine = tiny_engine(sequences=4)
        self._worker = Worker(engine, 0, WorkerOptions(), send=self._heard.put)
        self._worker.start()
        self._replies: deque[Reply | SolveReply] = deque()
        self._number = 0
        self._open: Open | None = None
        self._log = TokenLog([])

    def sample(self, chance: random.Random) -> bytes:
        if self._open is None or chance.random() < 0.02:
            frame = pb.EdgeFrame(open=_opening(chance))
        else:
            frame = self._question(chance)
        if chance.random() < 0.1:
            body = getattr(frame, frame.WhichOneof("body") or "")
            body.MergeFrom(random_message(type(body), chance))
        data = frame.SerializeToString()
        return damaged(data, chance) if chance.random() < 0.15 else data

    def feed(self, data: bytes) -> None:
        frame = wire.read_frame(pb.EdgeFrame.FromString(data), _LIMITS)
        if isinstance(frame, Open):
            frame.check_model(self._worker.description.info, ())
            self._finish()
            self._replies.clear()
            self._number += 1
            self._open, self._log = frame, TokenLog(frame.prompt, frame.generated)
            self._worker.take(Begin(self._number, "", frame))
        elif isinstance(frame, Close):
            self._finish()
        elif self._open is not None:
            self._deliver(frame)

    def close(self) -> None:
        self._finish()
        self._worker.loop.call(self._worker.context.check_integrity).result(_PATIENCE_S)
        left = self._worker.context.statistics.sessions
        self._worker.stop()
        if left:
            raise AssertionError(f"{left} sessions are left after the last has ended.")

    def _question(self, chance: random.Random) -> pb.EdgeFrame:
        committed = [chance.randrange(64) for _ in range(chance.choice((0, 0, 0, 1, 3)))]
        fields: dict[str, Any] = {
            "position": len(self._log),
            "committed": committed,
            "log_hash": self._log.hash_with(committed),
        }
        some = [chance.randrange(64) for _ in range(chance.choice((0, 1, 4, 30)))]
        match chance.randrange(8):
            case 0:
                hand_back = random_message(pb.HandBack, chance)
                return pb.EdgeFrame(
                    take_over=pb.TakeOver(**fields, max_tokens=chance.randrange(9), hand_back=hand_back)
                )
            case 1:
                return pb.EdgeFrame(take_over=pb.TakeOver(**fields, max_tokens=8, step=True))
            case 2:
                score = pb.Score(**fields, tokens=some, each=True, choices=[1, 63], top_logprobs=chance.randrange(22))
                return pb.EdgeFrame(score=score)
            case 3:
                return pb.EdgeFrame(cancel=pb.Cancel())
            case _:
                branches = [random_message(pb.Branch, chance) for _ in range(chance.choice((0, 0, 1, 3)))]
                return pb.EdgeFrame(draft=pb.Draft(**fields, run=some, branches=branches))

    def _deliver(self, frame: Frame) -> None:
        assert not isinstance(frame, Open | Close)  # noqa: S101 (handled before)
        self._worker.take(Deliver(self._number, frame, 0.0))
        if not isinstance(frame, Draft | Score | TakeOver):
            return
        self._log.extend(frame.committed)
        while True:
            reply = self._next_reply()
            if isinstance(reply, Failed):
                self._open = None
                if reply.code not in _REFUSALS:
                    raise AssertionError(f"The engine was reached by what it cannot compute: {reply.message}")
                raise from_code(reply.code, reply.message)
            if isinstance(reply, Verdict):
                self._follow(reply, frame)
                return
            if isinstance(reply, Span):
                self._log.extend(reply.tokens)
            if not isinstance(reply, Span) or reply.end:
                return

    def _follow(self, verdict: Verdict, frame: Frame) -> None:
        assert isinstance(frame, Draft)  # noqa: S101 (nothing else is judged)
        ways = [frame.run, *(frame.run[: branch.shared] + branch.tokens for branch in frame.branches)]
        own = [] if verdict.token is None else [verdict.token]
        self._log.extend(ways[verdict.branch][: verdict.accepted] + own)
        if (len(self._log), self._log.hash) != (verdict.position, verdict.log_hash):
            raise AssertionError("A verdict leads to another log than its own.")

    def _next_reply(self) -> Reply | SolveReply:
        """The session's next answer."""
        while not self._replies:
            try:
                message = self._heard.get(timeout=_PATIENCE_S)
            except Empty:
                raise AssertionError(f"A question was not answered for {_PATIENCE_S:g} s.") from None
            if isinstance(message, Emitted):
                self._replies.extend(reply for number, reply in message.replies if number == self._number)
        return self._replies.popleft()

    def _finish(self) -> None:
        self._worker.take(Finish(self._number))
        self._open = None


def _opening(chance: random.Random) -> pb.Open:
    if chance.random() < 0.2:
        opening = random_message(pb.Open, chance)
        opening.tokenizer_hash = "letters"
        opening.ClearField("fingerprint")
        return opening
    sampling = SamplingParams(temperature=chance.choice((0.0, 0.8, 2.0)), seed=chance.randrange(9), top_p=0.9)
    return pb.Open(
        tokenizer_hash="letters",
        prompt=[chance.randrange(64) for _ in range(chance.choice((1, 5, 100, 500)))],
        generated=[chance.randrange(64) for _ in range(chance.choice((0, 0, 5)))],
        sampling=sampling_to_proto(sampling),
        max_tokens=chance.choice((6, 24, 400, 2**32 - 1)),
        report=chance.random() < 0.5,
        top_logprobs=chance.randrange(4),
        ignore_end=chance.random() < 0.5,
    )
