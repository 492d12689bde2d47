"""Spans: what is exported, what travels between the tiers, and that nothing happens when nobody asked for it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from tests.house import loaded_by
from updraft import __version__
from updraft.config.operations import TracingSettings
from updraft.errors import LateReply, MissingExtra
from updraft.tracing import NO_SPAN, NO_TRACER, OtelTracer, Span, open_tracer


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> OtelTracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OtelTracer(provider)


def sampled(span: Span) -> bool:
    """As the other tier reads it; the second bit says that trace ids are random."""
    return bool(int(dict(span.headers)["traceparent"].rpartition("-")[2], 16) & 1)


def test_children_have_their_parent_and_attributes_their_prefix(
    tracer: OtelTracer, exporter: InMemorySpanExporter
) -> None:
    with tracer.start("generate", mode="draft") as span:
        span.child("cloud.ask", drafted=4).end()
        span.note(tokens=7)
    ask, generate = exporter.get_finished_spans()
    assert ask.parent is not None and generate.context is not None
    assert ask.parent.span_id == generate.context.span_id
    assert dict(ask.attributes or {}) == {"updraft.drafted": 4}
    assert dict(generate.attributes or {}) == {"updraft.mode": "draft", "updraft.tokens": 7}
    assert span.trace_id == f"{generate.context.trace_id:032x}"


def test_a_span_goes_on_in_another_process(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    other_exporter, other = InMemorySpanExporter(), TracerProvider()
    other.add_span_processor(SimpleSpanProcessor(other_exporter))
    with tracer.start("generate") as here:
        assert [name for name, _ in here.headers] == ["traceparent"]
        with OtelTracer(other).start("session", caller=[("authorization", "Bearer x"), *here.headers]) as there:
            assert there.trace_id == here.trace_id
    far, near = other_exporter.get_finished_spans()[0], exporter.get_finished_spans()[0]
    assert far.parent is not None and near.context is not None
    assert far.parent.span_id == near.context.span_id


@pytest.mark.parametrize(
    "value", ["", "garbage", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "ff-" + "1" * 32 + "-" + "1" * 16 + "-01"]
)
def test_a_callers_broken_header_begins_a_new_trace(tracer: OtelTracer, value: str) -> None:
    span = tracer.start("session", caller=[("traceparent", value), ("binary-bin", b"\xff")])
    assert int(span.trace_id, 16) not in (0, 0x11111111111111111111111111111111)
    span.end()


def test_an_error_leaves_its_code_and_nothing_that_it_says(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(LateReply), tracer.start("generate"):
        raise LateReply("the secret")
    with pytest.raises(KeyError), tracer.start("session"):
        raise KeyError("the secret")
    late, unforeseen = exporter.get_finished_spans()
    assert (late.attributes or {})["error.type"] == "late_reply" and late.status.status_code is StatusCode.ERROR
    assert (unforeseen.attributes or {})["error.type"] == "KeyError"
    assert "secret" not in late.to_json() + unforeseen.to_json()


def test_a_caller_that_goes_away_is_no_error(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(asyncio.CancelledError), tracer.start("generate"):
        raise asyncio.CancelledError
    assert exporter.get_finished_spans()[0].status.status_code is StatusCode.UNSET


def test_a_span_ends_once(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    with tracer.start("generate") as span:
        span.end()
    assert len(exporter.get_finished_spans()) == 1


def test_what_is_not_sampled_still_tells_the_other_tier_so() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with OtelTracer(provider).start("generate") as span:
        span.child("cloud.ask").end()
        assert not sampled(span)
    assert exporter.get_finished_spans() == ()


def test_no_tracer_gives_spans_that_do_nothing() -> None:
    with NO_TRACER.start("generate", mode="draft") as span:
        assert span is NO_SPAN and span.child("ask", drafted=1) is NO_SPAN
        span.note(tokens=1)
        assert (span.headers, span.trace_id) == ([], "")
    NO_TRACER.close()


def test_without_a_collector_nothing_is_traced_and_nothing_imported() -> None:
    assert open_tracer(TracingSettings(), "updraft-edge") is NO_TRACER
    code = (
        "from updraft.config.operations import TracingSettings\n"
        "from updraft.tracing import open_tracer\n"
        "open_tracer(TracingSettings(), 'updraft-edge').start('generate').end()"
    )
    assert loaded_by(code, {"opentelemetry", "opentelemetry.sdk"}) == set()
    assert loaded_by("import updraft_edge.server, updraft_cloud.server", {"opentelemetry"}) == set()


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_the_standard_variables_name_a_collector(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    tracer = open_tracer(TracingSettings(), "updraft-edge")
    assert isinstance(tracer, OtelTracer)
    tracer.close()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert open_tracer(TracingSettings(), "updraft-edge") is NO_TRACER


def test_the_ratio_decides_for_traces_that_begin_here_and_the_caller_for_his() -> None:
    tracer = open_tracer(TracingSettings(endpoint="http://127.0.0.1:1", ratio=0.0), "updraft-edge")
    assert not sampled(tracer.start("generate"))
    called = tracer.start("session", caller=[("traceparent", f"00-{1:032x}-{1:016x}-01")])
    assert sampled(called)  # not ended: nothing to send
    tracer.close()


def test_a_missing_extra_is_an_error_only_where_the_settings_ask(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtra) as raised:
        open_tracer(TracingSettings(endpoint="http://127.0.0.1:4317"), "updraft-edge")
    assert "[otel]" in raised.value.remedy
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    assert open_tracer(TracingSettings(), "updraft-edge") is NO_TRACER
    assert "nothing is traced" in caplog.text


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4317", "ftp://a:1", "http://"])
def test_an_endpoint_is_a_url(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint is a URL"):
        TracingSettings(endpoint=endpoint)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.requests: list[trace_service_pb2.ExportTraceServiceRequest] = []

    def Export(  # the service names it
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector and its URL."""
    server, service = grpc.server(ThreadPoolExecutor(1)), Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def test_spans_reach_a_collector_with_the_services_name(collector: tuple[Collector, str]) -> None:
    service, url = collector
    tracer = open_tracer(TracingSettings(endpoint=url), "updraft-edge")
    with tracer.start("generate", mode="draft") as span:
        span.child("cloud.ask").end()
    tracer.close()
    sent = [group for request in service.requests for group in request.resource_spans]
    names = {attribute.key: attribute.value.string_value for attribute in sent[0].resource.attributes}
    assert names["service.name"] == "updraft-edge" and names["service.version"] == __version__
    assert [span.name for group in sent for scope in group.scope_spans for span in scope.spans] == [
        "cloud.ask",
        "generate",
    ]


def test_a_collector_that_is_away_costs_the_traces_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0.2")
    tracer = open_tracer(TracingSettings(endpoint="http://127.0.0.1:1"), "updraft-edge")
    with tracer.start("generate"):
        pass
    tracer.close()
