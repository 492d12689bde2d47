"""The cloud's own sessions on an engine, without a network: what they cost a row of logits, and what the loop costs."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from updraft.engine.base import Engine
from updraft.engine.loop import PassRecord
from updraft.errors import UpdraftError, from_code
from updraft.sampling import SamplingParams
from updraft.token_log import TokenLog
from updraft_cloud.engine.worker import Worker, WorkerOptions
from updraft_cloud.frames import Draft, End, Failed, Open, Reply, Span, TakeOver, Verdict
from updraft_cloud.messages import Begin, Deliver, Emitted, Finish, FromEngine, Measured, encode
from updraft_cloud.solve_frames import SolveReply

__all__ = ["SessionsRun", "session_rows"]

_WAIT_S: Final = 600.0


@dataclass(slots=True)
class _Edge:
    """One session's other side, which asks again as soon as it is answered.

    Attributes:
        text: what the cloud writes after the prompt.
        drafted: how much of it has been judged.
    """

    opening: Open
    log: TokenLog
    text: list[int]
    drafted: int = 0
    over: bool = False


class SessionsRun:
    """A worker as the engine's process has it; every answer is encoded as for the wire between the processes.

    Args:
        engine: is shut down with `close`.
        prompts: token ids, one session each.
        tokens: of each answer.
    """

    def __init__(self, engine: Engine, prompts: Sequence[list[int]], sampling: SamplingParams, tokens: int) -> None:
        self._worker = Worker(engine, os.getpid(), WorkerOptions(), self._heard)
        self._tokenizer_hash = engine.info.tokenizer_hash
        self._prompts, self._sampling, self._tokens = prompts, sampling, tokens
        self._edges: dict[int, _Edge] = {}
        self._texts: list[list[int]] = [[] for _ in prompts]
        self._numbers = 0
        self._records: list[PassRecord] = []
        self._run = 0
        self._finished = threading.Event()
        self._measured = threading.Event()
        self._error: UpdraftError | None = None
        self._worker.start()

    def write(self) -> list[PassRecord]:
        """Every session writes its answer. The passes without prefill."""
        self._begin()
        for number, edge in self._edges.items():
            self._deliver(number, TakeOver(len(edge.log), [], edge.log.hash, self._tokens, None))
        return self._end()

    def verify(self, run: int) -> list[PassRecord]:
        """Every session has the text that `write` made judged, `run` tokens at a time, which all stand."""
        self._run = run
        self._begin()
        for number, edge in self._edges.items():
            self._draft(number, edge)
        return self._end()

    def close(self) -> None:
        self._worker.stop()

    def _begin(self) -> None:
        self._finished.clear()
        first = self._numbers
        for place, prompt in enumerate(self._prompts):
            opening = Open(
                tokenizer_hash=self._tokenizer_hash,
                fingerprint="",
                prompt=prompt,
                generated=[],
                sampling=self._sampling,
                max_tokens=self._tokens,
                stop_tokens=frozenset(),
                report=True,
                top_logprobs=0,
                ignore_end=True,
            )
            self._edges[first + place] = _Edge(opening, TokenLog(prompt), self._texts[place])
            self._worker.take(Begin(first + place, "", opening))
        self._numbers += len(self._prompts)

    def _end(self) -> list[PassRecord]:
        """Wait for the last answer; sessions go, so that the next run finds free sequences."""
        if not self._finished.wait(_WAIT_S):
            raise TimeoutError("the sessions did not finish")
        for number in self._edges:
            self._worker.take(Finish(number))
        self._edges.clear()
        self._measured.clear()
        self._worker.measure()
        self._measured.wait(_WAIT_S)
        if self._error is not None:
            raise self._error
        records, self._records = self._records, []
        return [record for record in records if not record.prefill.runs]

    def _heard(self, message: FromEngine) -> None:
        """In the loop's thread, where the engine's process would send."""
        encode(message)
        if isinstance(message, Measured):
            self._records += message.passes
            self._measured.set()
        elif isinstance(message, Emitted):
            for number, reply in message.replies:
                self._answered(number, self._edges[number], reply)

    def _answered(self, number: int, edge: _Edge, reply: Reply | SolveReply) -> None:
        if isinstance(reply, Failed):
            self._error = from_code(reply.code, reply.message, reply.remedy)
        elif isinstance(reply, Span):
            edge.text += reply.tokens
        elif isinstance(reply, Verdict):
            stood = edge.text[edge.drafted : edge.drafted + reply.accepted]
            edge.log.extend(stood if reply.token is None else [*stood, reply.token])
            edge.drafted = len(edge.log) - len(edge.opening.prompt)
        if isinstance(reply, Failed) or (isinstance(reply, Span | Verdict) and reply.end is not End.NOT_YET):
            edge.over = True
            if all(other.over for other in self._edges.values()):
                self._finished.set()
        elif isinstance(reply, Verdict):
            self._draft(number, edge)

    def _draft(self, number: int, edge: _Edge) -> None:
        run = edge.text[edge.drafted : edge.drafted + self._run]
        self._deliver(number, Draft(len(edge.log), [], edge.log.hash, run))

    def _deliver(self, number: int, work: Draft | TakeOver) -> None:
        self._worker.take(Deliver(number, work, 0.0))


def session_rows(name: str, sessions: int, rows: int, records: Sequence[PassRecord]) -> dict[str, Any]:
    """Medians over the passes in which every session had `rows` positions computed, each with a row of logits."""
    whole = [record for record in records if record.write.positions + record.verify.positions == sessions * rows]
    turns = [record.seconds + record.consumed_s + record.overhead_s for record in whole]
    return {
        "name": name,
        "sessions": sessions,
        "rows": sessions * rows,
        "passes": len(whole),
        "pass_ms": 1e3 * median(record.seconds for record in whole),
        "session_us_per_row": 1e6 * median(record.consumed_s for record in whole) / (sessions * rows),
        "session_share": median(record.consumed_s / turn for record, turn in zip(whole, turns, strict=True)),
        "overhead_us": 1e6 * median(record.overhead_s for record in whole),
        "overhead_share": median(record.overhead_s / turn for record, turn in zip(whole, turns, strict=True)),
    }
