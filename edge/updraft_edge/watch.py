"""What operators learn of one answer: counts, log lines, its trace, and its questions to the cloud."""

from __future__ import annotations

import contextlib
import logging
import secrets
import time
from types import TracebackType
from typing import Self

from updraft.errors import Cancelled, UpdraftError
from updraft.generation import Completion
from updraft.logging_setup import log_fields
from updraft.tracing import NO_TRACER, Span, Tracer, Value
from updraft_edge.metrics import EdgeMetrics

__all__ = ["Ask", "Watch"]

log = logging.getLogger(__name__)


class Watch:
    """One answer, from the request to its end: a context manager around all that is done for it.

    Without metrics and tracer it counts and traces nothing.

    Attributes:
        name: random; the same in the logs of both tiers.
        span: the answer's trace.
    """

    def __init__(self, metrics: EdgeMetrics | None = None, tracer: Tracer = NO_TRACER) -> None:
        self.name = secrets.token_hex(16)
        self.span: Span = tracer.start("generate", request=self.name)
        self._metrics = metrics
        self._open = contextlib.ExitStack()

    def ask(self, kind: str, **attributes: Value) -> Ask:
        """A question to the cloud begins: `verify`, `write`, `score` or `solve`. A context manager around all of its
        attempts."""
        if self._metrics is not None:
            self._metrics.asked(kind)
        return Ask(self._metrics, kind, self.span.child("cloud.ask", kind=kind, **attributes))

    def noticed(self, kind: str) -> None:
        """The cloud gave advice: `drain` or `slow_down`."""
        if self._metrics is not None:
            self._metrics.notice(kind)

    def finished(self, completion: Completion) -> None:
        """The answer is written."""
        if self._metrics is not None:
            self._metrics.finished(completion)
        statistics = completion.statistics
        told: dict[str, Value] = {
            "mode": completion.chosen or completion.mode,
            "finish": completion.finish_reason,
            "prompt_tokens": statistics.prompt_tokens,
            "tokens": statistics.tokens,
            "share": statistics.cloud_share,
            "degraded": completion.degraded,
            "reopened": statistics.reopened,
        }
        self.span.note(**told)
        log.info(
            "answered: %d tokens, %d of them by the cloud, in %.2f s",
            statistics.tokens,
            statistics.cloud_tokens,
            statistics.seconds,
            extra=told,
        )

    def __enter__(self) -> Self:
        if self._metrics is not None:
            self._metrics.started()
        self._open.enter_context(log_fields(request=self.name, trace=self.span.trace_id))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            # Anything else than ours is the caller's going away.
            code = error.code if isinstance(error, UpdraftError) else Cancelled.code
            if self._metrics is not None:
                self._metrics.failed(code)
            log.info("not answered: %s", code)
        self.span.end(error)
        self._open.close()


class Ask:
    """One question to the cloud."""

    def __init__(self, metrics: EdgeMetrics | None, kind: str, span: Span) -> None:
        self._metrics = metrics
        self._kind = kind
        self._span = span
        self._asked = time.perf_counter()
        self._tokens = 0

    def judged(self, accepted: int, engine_s: float) -> None:
        """A verdict came, of whose time the cloud took `engine_s` seconds."""
        self._answered()
        if self._metrics is not None:
            self._metrics.judged(accepted)
        self._span.note(accepted=accepted, engine_ms=1000 * engine_s)

    def scored(self, engine_s: float) -> None:
        """The scores came."""
        self._answered()
        self._span.note(engine_ms=1000 * engine_s)

    def wrote(self, tokens: int) -> None:
        """Tokens of a span came; the first are the answer."""
        if not self._tokens:
            self._answered()
        self._tokens += tokens

    def _answered(self) -> None:
        if self._metrics is not None:
            self._metrics.answered(self._kind, time.perf_counter() - self._asked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._tokens:
            self._span.note(tokens=self._tokens)
        self._span.end(error)
