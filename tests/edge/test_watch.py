"""What an answer tells operators: its questions in metrics and as parts of its trace."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from updraft.errors import LateReply
from updraft.generation import Completion, Statistics
from updraft.logging_setup import configure_logging
from updraft.tracing import OtelTracer
from updraft_edge.metrics import EdgeMetrics
from updraft_edge.watch import Watch


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> OtelTracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OtelTracer(provider)


def test_questions_are_parts_of_the_answers_trace(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    with Watch(EdgeMetrics(), tracer) as watch:
        with watch.ask("verify", drafted=4) as ask:
            ask.judged(3, 0.02)
        with watch.ask("write") as ask:
            for tokens in (1, 2):
                ask.wrote(tokens)
        with pytest.raises(LateReply), watch.ask("score"):
            raise LateReply("slow")
        statistics = Statistics(prompt_tokens=9, tokens=4, cloud_tokens=1)
        watch.finished(Completion("the secret", [1], "stop", "auto", "pair", 1, statistics=statistics, chosen="draft"))
    verify, write, score, generate = exporter.get_finished_spans()
    assert dict(verify.attributes or {}) == {
        "updraft.kind": "verify",
        "updraft.drafted": 4,
        "updraft.accepted": 3,
        "updraft.engine_ms": 20.0,
    }
    assert dict(write.attributes or {}) == {"updraft.kind": "write", "updraft.tokens": 3}
    assert (score.attributes or {})["error.type"] == "late_reply"
    told = dict(generate.attributes or {})
    assert (told["updraft.mode"], told["updraft.share"], told["updraft.request"]) == ("draft", 0.25, watch.name)
    assert generate.context is not None
    assert {span.parent.span_id for span in (verify, write, score) if span.parent} == {generate.context.span_id}
    assert "secret" not in "".join(span.to_json() for span in exporter.get_finished_spans())


def test_a_question_is_answered_once_and_one_that_failed_never() -> None:
    metrics = EdgeMetrics()
    watch = Watch(metrics)
    with watch.ask("write") as ask:
        ask.wrote(1)
        ask.wrote(1)
    with pytest.raises(LateReply), watch.ask("write"):
        raise LateReply("slow")
    with watch.ask("score") as ask:
        ask.scored(0.1)
    watch.noticed("slow_down")
    value = metrics.registry.get_sample_value
    assert value("updraft_escalations_total", {"kind": "write"}) == 2
    assert value("updraft_escalation_rtt_seconds_count", {"kind": "write"}) == 1
    assert value("updraft_escalation_rtt_seconds_count", {"kind": "score"}) == 1
    assert value("updraft_notices_total", {"kind": "slow_down"}) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(LateReply("slow"), "late_reply"), (GeneratorExit(), "cancelled"), (asyncio.CancelledError(), "cancelled")],
)
def test_an_answer_that_fails_is_counted_by_its_code(error: BaseException, code: str) -> None:
    metrics = EdgeMetrics()
    with pytest.raises(type(error)), Watch(metrics):
        raise error
    value = metrics.registry.get_sample_value
    assert value("updraft_errors_total", {"code": code}) == 1
    assert value("updraft_requests_running") == 0


def test_lines_of_an_answer_carry_its_name_and_trace(
    tracer: OtelTracer, capsys: pytest.CaptureFixture[str], restored_logging: None
) -> None:
    configure_logging("info", "json")
    with Watch(EdgeMetrics(), tracer) as watch:
        watch.finished(Completion("the secret", [1], "stop", "draft", "pair", 1))
    logging.getLogger("updraft").info("another")
    answered, another = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (answered["request"], answered["trace"]) == (watch.name, watch.span.trace_id)
    assert answered["mode"] == "draft" and "secret" not in json.dumps(answered)
    assert "request" not in another


def test_without_metrics_and_tracer_nothing_happens() -> None:
    watch = Watch()
    with watch.ask("verify") as ask:
        ask.judged(1, 0.1)
    watch.noticed("drain")
    assert watch.span.trace_id == ""
    assert watch.name != Watch().name
