"""The answer being written: its token log, its text, and the events that the user sees."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from math import exp

from updraft.auto.learner import Ticket
from updraft.detokenize import StreamDecoder
from updraft.engine.base import Tokenizer
from updraft.generation import Completion, FinishReason, Statistics, TokenEvent
from updraft.modes import Mode, Origin
from updraft.sampling import Sampled
from updraft.solution import ProgressEvent, Solution
from updraft.token_log import TokenLog
from updraft_edge.watch import Watch

__all__ = ["Answer", "StopText"]


class StopText:
    """Lets text through up to the first stop string, holding back what may be the start of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Text that is certain to belong to the answer now."""
        self._held += text
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            safe, self._held = self._held[: min(found)], ""
            return safe
        return self._release(len(self._held) - self._undecided())

    def flush(self) -> str:
        """What is still held; call it once the answer has ended otherwise."""
        return self._release(len(self._held))

    def _release(self, length: int) -> str:
        safe, self._held = self._held[:length], self._held[length:]
        return safe

    def _undecided(self) -> int:
        """Length of the longest tail that is a proper beginning of a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0


class Answer:
    """Commits tokens to the log and turns them into events.

    Args:
        log: prompt and answer; only `commit` extends it.
        ends: token ids that end the answer; they add no text.
        most: longest answer, tokens.
        started: `time.perf_counter()` at the request's arrival.
    """

    def __init__(
        self,
        log: TokenLog,
        tokenizer: Tokenizer,
        *,
        ends: frozenset[int],
        stop: Sequence[str],
        most: int,
        started: float,
    ) -> None:
        self.log = log
        self.ends = ends
        self.most = most
        self.statistics = Statistics(prompt_tokens=log.prompt_length)
        self.finished: FinishReason | None = None
        self.degraded: str | None = None
        self.withheld: str | None = None
        self.solution: Solution | None = None
        self.notes: list[ProgressEvent] = []  # that happened on the way, until somebody takes them
        self.ticket: Ticket | None = None  # what `auto` chose for it
        self.watch = Watch()
        self._tokenizer = tokenizer
        self._decoder = StreamDecoder()
        self._stop_text = StopText(stop)
        self._text: list[str] = []
        self.started = started

    def take_notes(self) -> list[ProgressEvent]:
        """What happened on the way since the last time."""
        notes, self.notes = self.notes, []
        return notes

    def done(self) -> bool:
        """Whether the answer is finished."""
        return self.finished is not None

    @property
    def room(self) -> int:
        """Tokens that the answer may still get."""
        return self.most - self.log.generated_length

    def shown(self, token: int) -> str:
        """A token's text by itself, for readers; parts of characters are replaced."""
        return "" if token in self.ends else self._tokenizer.piece(token).decode(errors="replace")

    def commit(
        self, tokens: Iterable[Sampled], origin: Origin, *, verified: bool, finish: FinishReason | None = None
    ) -> list[TokenEvent]:
        """Append tokens until the answer is finished; `finish` says that and why the cloud ended it with the last."""
        events: list[TokenEvent] = []
        tokens = list(tokens)
        for number, sampled in enumerate(tokens, 1):
            if self.finished:
                break
            self.log.extend([sampled.token])
            self._finish_after(sampled.token, finish if number == len(tokens) else None)
            events.append(self._event(sampled, origin, verified))
        return events

    def completion(self, *, mode: str, model: str, seed: int) -> Completion:
        self.statistics.seconds = time.perf_counter() - self.started
        return Completion(
            text="".join(self._text),
            token_ids=self.log.generated,
            finish_reason=self.finished or "cancelled",
            mode=mode,
            model=model,
            seed=seed,
            degraded=self.degraded is not None,
            degraded_reason=self.degraded,
            statistics=self.statistics,
            withheld=self.withheld,
            routed=self._tier() if mode == Mode.ROUTE else None,
            solution=self.solution,
        )

    def _tier(self) -> str:
        return (Origin.CLOUD if self.statistics.cloud_tokens else Origin.EDGE).value

    def _finish_after(self, token: int, finish: FinishReason | None) -> None:
        if token in self.ends:
            self.finished = "stop"
        else:
            self.finished = finish or ("length" if self.room <= 0 else None)

    def _event(self, sampled: Sampled, origin: Origin, verified: bool) -> TokenEvent:
        piece = b"" if sampled.token in self.ends else self._tokenizer.piece(sampled.token)
        text = self._stop_text.feed(self._decoder.feed(piece))
        if self.finished and not self._stop_text.stopped:
            text += self._stop_text.feed(self._decoder.flush())
        if self._stop_text.stopped:
            self.finished = "stop"
        elif self.finished:
            text += self._stop_text.flush()
        self._text.append(text)
        statistics = self.statistics
        statistics.tokens += 1
        if origin is Origin.EDGE:
            statistics.edge_tokens += 1
            if not verified:
                statistics.unverified += 1
                statistics.unverified_probability += exp(sampled.logprob) if sampled.logprob <= 0.0 else 0.0  # or NaN
            if sampled.layer is not None:
                statistics.exit_tokens[sampled.layer] = statistics.exit_tokens.get(sampled.layer, 0) + 1
        else:
            statistics.cloud_tokens += 1
        seconds = time.perf_counter() - self.started
        if statistics.tokens == 1:
            statistics.first_token_seconds = seconds
        return TokenEvent(
            index=statistics.tokens - 1,
            token=sampled.token,
            text=text,
            logprob=sampled.logprob,
            entropy=sampled.distribution.entropy,
            energy=sampled.distribution.energy,
            origin=origin,
            verified=verified,
            seconds=seconds,
            top=sampled.top,
            piece=piece,
            layer=sampled.layer if origin is Origin.EDGE else None,
        )
