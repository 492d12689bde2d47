"""Trace files: JSON lines, several answers one after the other.

An answer is a line `answer` (version, models, mode, settings, seed, prompt), a line `step` for every decision, a line
`token` for every token, and a line `end` with the completion's statistics. A trace holds the prompt and the text, so it
is written where somebody asks for it and nowhere else, and only its owner may read it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from updraft import __version__
from updraft.errors import ConfigError, InvalidRequest
from updraft.generation import Completion, FinishReason, Statistics, TokenEvent
from updraft.modes import Origin
from updraft.traces.steps import TraceStep

__all__ = ["FORMAT", "AnswerTrace", "TraceEnd", "TraceHead", "TraceToken", "TraceWriter", "read_traces"]

FORMAT: Final = 1
_MAX_LINE: Final = 8_000_000  # a line with a long prompt is far below this


@dataclass(frozen=True, slots=True)
class TraceHead:
    """What is known before the first token.

    Attributes:
        chosen: the mode that `auto` chose; else None.
        written: time of writing, ISO 8601.
    """

    version: int
    updraft: str
    written: str
    prompt: str
    mode: str
    chosen: str | None
    edge: str | None
    cloud: str | None
    seed: int
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TraceToken:
    """A committed token; see `TokenEvent`. Figures are None where not finite."""

    index: int
    token: int
    text: str
    origin: Origin
    verified: bool
    entropy: float | None
    logprob: float | None
    seconds: float
    layer: int | None = None


@dataclass(frozen=True, slots=True)
class TraceEnd:
    finish_reason: FinishReason
    degraded_reason: str | None
    cut: bool
    statistics: Statistics


@dataclass(slots=True)
class AnswerTrace:
    """One answer of a trace file."""

    head: TraceHead
    steps: list[TraceStep]
    tokens: list[TraceToken]
    end: TraceEnd

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    @classmethod
    def of(cls, prompt: str, events: Sequence[TokenEvent], completion: Completion) -> AnswerTrace:
        """From what a client saw. Raises InvalidRequest if the answer was asked for without a trace."""
        trace = completion.trace
        if trace is None:
            raise InvalidRequest(
                "The answer came without a trace.", remedy="The agent is of an older version; restart it."
            )
        head = TraceHead(
            version=FORMAT,
            updraft=__version__,
            written=datetime.now(UTC).isoformat(timespec="seconds"),
            prompt=prompt.encode(errors="replace").decode(),  # arguments may hold bytes that are no text
            mode=completion.mode,
            chosen=completion.chosen,
            edge=trace.edge,
            cloud=trace.cloud,
            seed=completion.seed,
            settings=trace.settings,
        )
        tokens = [_token(event) for event in events if event.index >= 0]
        end = TraceEnd(completion.finish_reason, completion.degraded_reason, trace.cut, completion.statistics)
        return cls(head, list(trace.steps), tokens, end)


def _token(event: TokenEvent) -> TraceToken:
    return TraceToken(
        index=event.index,
        token=event.token,
        text=event.text,
        origin=event.origin,
        verified=event.verified,
        entropy=event.entropy if math.isfinite(event.entropy) else None,
        logprob=event.logprob if math.isfinite(event.logprob) else None,
        seconds=event.seconds,
        layer=event.layer,
    )


Kind = Literal["answer", "step", "token", "end"]

_ADAPTERS: Final[dict[Kind, TypeAdapter[Any]]] = {
    "answer": TypeAdapter(TraceHead),
    "step": TypeAdapter(TraceStep),
    "token": TypeAdapter(TraceToken),
    "end": TypeAdapter(TraceEnd),
}


class TraceWriter:
    """Appends answers to a trace file, which is made with access for its owner alone.

    Raises ConfigError where the file cannot be written, or exists and is no trace.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
            with path.open("rb") as file:
                first = file.readline(_MAX_LINE)
        except OSError as error:
            raise _unwritable(path, error) from error
        if first and not first.startswith(b'{"record":"answer"'):
            raise ConfigError(f"{path} exists and is no trace.", remedy="Name another file, or move this one away.")

    def add(self, answer: AnswerTrace) -> None:
        """Write one answer, with one call, so that answers of several programs do not mix."""
        lines = [
            _line("answer", answer.head),
            *(_line("step", step) for step in answer.steps),
            *(_line("token", token) for token in answer.tokens),
            _line("end", answer.end),
        ]
        try:
            with self._path.open("ab") as file:
                file.write(b"".join(lines))
        except OSError as error:
            raise _unwritable(self._path, error) from error


def _line(kind: Kind, value: object) -> bytes:
    record = {"record": kind, **_ADAPTERS[kind].dump_python(value, mode="json")}
    return json.dumps(record, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path} cannot be written: {error.strerror}.", remedy="Name another file.")


def read_traces(path: Path) -> list[AnswerTrace]:
    """All answers of a trace file, in order.

    A last answer that was not written to its end is left out.

    Raises:
        InvalidRequest: a line is not what it must be (with its number), the version is another one, or there is none.
        ConfigError: the file cannot be read.
    """
    answers: list[AnswerTrace] = []
    head: TraceHead | None = None
    steps: list[TraceStep] = []
    tokens: list[TraceToken] = []
    for number, kind, value in _lines(path):
        if kind == "answer":
            head, steps, tokens = value, [], []
        elif head is None:
            raise _bad(path, number, f"a line {kind!r} without an answer before it")
        elif kind == "step":
            steps.append(value)
        elif kind == "token":
            tokens.append(value)
        else:
            answers.append(AnswerTrace(head, steps, tokens, value))
            head = None
    if not answers:
        raise InvalidRequest(f"{path} holds no whole answer.", remedy="Make one with `updraft run --trace FILE`.")
    return answers


def _lines(path: Path) -> Iterator[tuple[int, Kind, Any]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), b""), 1):
                if not line.endswith(b"\n"):
                    return  # torn by a crash while it was written
                yield number, *_parsed(path, number, line)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", remedy="Name a trace file.") from error


def _parsed(path: Path, number: int, line: bytes) -> tuple[Kind, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad(path, number, "not JSON") from error
    kind = record.pop("record", None) if isinstance(record, dict) else None
    if not isinstance(kind, str) or kind not in _ADAPTERS:
        raise _bad(path, number, "not a line of a trace")
    if kind == "answer" and record.get("version") != FORMAT:
        raise _bad(path, number, f"version {record.get('version')!r}; this version reads {FORMAT}")
    try:
        return kind, _ADAPTERS[kind].validate_json(json.dumps(record), strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise _bad(path, number, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _bad(path: Path, number: int, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"{path}, line {number}: {reason}.", remedy="Make the trace again with `updraft run --trace FILE`."
    )
