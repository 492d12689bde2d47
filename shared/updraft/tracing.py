"""Traces of a request across both tiers (OpenTelemetry); where no collector is named, nothing happens or is imported.

Spans are handed on as objects and not as a context of the running task: answers are asynchronous generators, and what
such a generator sets would be seen by whoever reads from it. Between the tiers a span travels as W3C `traceparent`
(https://www.w3.org/TR/trace-context/) in gRPC metadata. Attributes are names, counts and times; a text of a user is
never one, and of an error only its code is kept.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from updraft import __version__
from updraft.config.operations import TracingSettings
from updraft.errors import MissingExtra, UpdraftError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["NO_SPAN", "NO_TRACER", "OtelTracer", "Span", "Tracer", "Value", "open_tracer"]

log = logging.getLogger(__name__)

Value = bool | int | float | str
Headers = Iterable[tuple[str, str | bytes]]

_SEND_S: Final = 3.0  # also how long a process waits at its end for a collector that is away
_TIMEOUTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Span(Protocol):
    """A stretch of work. As a context manager it ends with the block, and with the block's error."""

    @property
    def trace_id(self) -> str:
        """32 hex digits; empty where nothing is traced."""
        ...

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Metadata that lets the other tier go on with this trace."""
        ...

    def child(self, name: str, **attributes: Value) -> Span:
        """A part of this work, started now."""
        ...

    def note(self, **attributes: Value) -> None:
        """Add attributes; each is exported under the prefix `updraft.`."""
        ...

    def end(self, error: BaseException | None = None) -> None:
        """The work is over, or has failed. Only the first call counts."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


class Tracer(Protocol):
    """Starts the spans of one process."""

    def start(self, name: str, *, caller: Headers = (), **attributes: Value) -> Span:
        """A span; part of the caller's trace if its metadata names one."""
        ...

    def close(self) -> None:
        """Send what is left. Blocks until that is done or has failed."""
        ...


class _NoSpan:
    """Takes everything and does nothing."""

    trace_id: str = ""

    @property
    def headers(self) -> list[tuple[str, str]]:
        return []

    def child(self, name: str, **attributes: Value) -> Self:
        return self

    def note(self, **attributes: Value) -> None:
        pass

    def end(self, error: BaseException | None = None) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass


class _NoTracer:
    """Traces nothing."""

    def start(self, name: str, *, caller: Headers = (), **attributes: Value) -> Span:
        return NO_SPAN

    def close(self) -> None:
        pass


NO_SPAN: Final[Span] = _NoSpan()
NO_TRACER: Final[Tracer] = _NoTracer()


class OtelTracer:
    """Starts spans of an OpenTelemetry provider, which it shuts down at the end."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer("updraft", __version__)

    def start(self, name: str, *, caller: Headers = (), **attributes: Value) -> Span:
        carrier = {key: value for key, value in caller if isinstance(value, str)}
        return self.begin(name, self._propagator.extract(carrier), attributes)

    def begin(self, name: str, context: Any, attributes: dict[str, Value]) -> _OtelSpan:
        """A span in an OpenTelemetry context."""
        return _OtelSpan(self, self._tracer.start_span(name, context, attributes=_named(attributes)))

    def carried(self, context: Any) -> list[tuple[str, str]]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context)
        return list(carrier.items())

    def close(self) -> None:
        self._provider.shutdown()


class _OtelSpan:
    """An OpenTelemetry span with its way to children and to metadata."""

    def __init__(self, tracer: OtelTracer, span: Any) -> None:
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        self._tracer = tracer
        self._span = span
        # Not the task's own context: whatever library sets one there has nothing to do with this trace.
        self._context = set_span_in_context(span, Context())

    @property
    def trace_id(self) -> str:
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def headers(self) -> list[tuple[str, str]]:
        return self._tracer.carried(self._context)

    def child(self, name: str, **attributes: Value) -> Span:
        return self._tracer.begin(name, self._context, attributes)

    def note(self, **attributes: Value) -> None:
        self._span.set_attributes(_named(attributes))

    def end(self, error: BaseException | None = None) -> None:
        if not self._span.is_recording():
            return
        if error is not None and not isinstance(error, (GeneratorExit, asyncio.CancelledError)):
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", _code(error))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end(error)


def _named(attributes: dict[str, Value]) -> dict[str, Value]:
    return {f"updraft.{name}": value for name, value in attributes.items()}


def _code(error: BaseException) -> str:
    # Messages and stacks may quote what a user wrote.
    return error.code if isinstance(error, UpdraftError) else type(error).__name__


def open_tracer(settings: TracingSettings, service: str) -> Tracer:
    """What traces this process under the name `service`.

    Raises:
        MissingExtra: `settings.endpoint` is set and OpenTelemetry is not installed. Where only the environment asks
            for traces, a warning takes the error's place.
    """
    named = settings.endpoint or next((value for name in _ENDPOINTS if (value := os.environ.get(name))), None)
    if named is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return NO_TRACER
    try:
        return OtelTracer(_provider(settings, service))
    except ImportError as error:
        missing = MissingExtra(
            "Traces need OpenTelemetry, which is not installed.", remedy='pip install "updraft-llm[otel]"'
        )
        if settings.endpoint is None:
            log.warning("nothing is traced: %s", missing.message)
            return NO_TRACER
        raise missing from error


def _provider(settings: TracingSettings, service: str) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    name = os.environ.get("OTEL_SERVICE_NAME", service)
    resource = Resource.create({"service.name": name, "service.version": __version__})
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(settings.ratio)), resource=resource)
    # What is left out the exporter reads from its variables: headers and certificates, too.
    patience = None if any(name in os.environ for name in _TIMEOUTS) else _SEND_S
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.endpoint, timeout=patience)))
    return provider
