"""One answer as operators see it in both tiers: one trace, equal counts, named log lines, and nothing of its text."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.fakes.engine import HashEngine
from tests.fakes.raw_edge import RawEdge
from tests.fakes.tiers import complete, until
from updraft.config import CloudLinkSettings, CloudSettings, EdgeSettings, ListenSettings, RulesSettings
from updraft.config.operations import OperationsSettings
from updraft.errors import UpdraftError
from updraft.generation import GenerationRequest
from updraft.logging_setup import configure_logging
from updraft.modes import parse_settings
from updraft.sampling import SamplingParams
from updraft.tracing import OtelTracer
from updraft_cloud.server import CloudServer
from updraft_edge.agent import Agent

LENGTH = 24
SECRET = "xyzzy plugh 31337"


@dataclass
class Tiers:
    """Both tiers and what they have exported."""

    agent: Agent
    cloud: CloudServer
    edge_spans: InMemorySpanExporter
    cloud_spans: InMemorySpanExporter

    def spans(self) -> list[ReadableSpan]:
        return [*self.edge_spans.get_finished_spans(), *self.cloud_spans.get_finished_spans()]

    async def session_over(self, sessions: int = 1) -> None:
        await until(lambda: [span.name for span in self.cloud_spans.get_finished_spans()].count("session") >= sessions)

    async def scraped(self) -> str:
        async with httpx.AsyncClient() as http:
            page = await http.get(f"http://{self.cloud.operations.address}/metrics")
        return page.text + self.agent.metrics.render().decode()

    def cloud_value(self, name: str, **labels: str) -> float:
        return self.cloud.metrics.registry.get_sample_value(name, labels) or 0.0

    def edge_value(self, name: str, **labels: str) -> float:
        return self.agent.metrics.registry.get_sample_value(name, labels) or 0.0


def tracer() -> tuple[OtelTracer, InMemorySpanExporter]:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OtelTracer(provider), exporter


@pytest.fixture
async def tiers() -> AsyncIterator[Tiers]:
    (edge_tracer, edge_spans), (cloud_tracer, cloud_spans) = tracer(), tracer()
    listen, operations = ListenSettings(port=0), OperationsSettings(enabled=True, port=0, drain_notice_s=0)
    settings = CloudSettings(listen=listen, operations=operations, drain_s=0.1)
    async with CloudServer(settings, engine=HashEngine(), tracer=cloud_tracer) as cloud:
        edge = EdgeSettings(cloud=CloudLinkSettings(address=cloud.address), rules=RulesSettings(keep_local=()))
        engine = HashEngine(noise=0.8, own_seed=4)
        async with Agent(edge, engine=engine, tracer=edge_tracer) as agent:
            yield Tiers(agent, cloud, edge_spans, cloud_spans)


def ask(mode: str, prompt: str = SECRET, **extra: object) -> GenerationRequest:
    settings = parse_settings({"mode": mode, **extra})
    sampling = SamplingParams(temperature=0.7, seed=5)
    return GenerationRequest(prompt=prompt, max_tokens=LENGTH, sampling=sampling, settings=settings, ignore_end=True)


async def test_a_request_is_one_trace_through_both_tiers(tiers: Tiers) -> None:
    _, completion = await complete(tiers.agent, ask("draft", stop={"rule": "fixed", "length": 4}))
    await tiers.session_over()
    spans = tiers.spans()
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    parents = {span.name: span.parent.span_id if span.parent else None for span in spans}
    ids = {span.name: span.context.span_id for span in spans if span.context}
    assert parents["generate"] is None
    assert parents["cloud.ask"] == parents["session"] == ids["generate"]
    assert parents["verify"] == ids["session"]
    asked = [span.attributes or {} for span in spans if span.name == "cloud.ask"]
    judged = [span.attributes or {} for span in spans if span.name == "verify"]
    assert len(asked) == len(judged) == completion.statistics.round_trips
    for edge, cloud in zip(asked, judged, strict=True):
        assert edge["updraft.accepted"] == cloud["updraft.accepted"]
        assert edge["updraft.drafted"] == cloud["updraft.drafted"]
        assert "updraft.queued_ms" in cloud
        assert edge["updraft.engine_ms"] == pytest.approx(cloud["updraft.engine_ms"])
    whole = next(span.attributes or {} for span in spans if span.name == "generate")
    assert whole["updraft.tokens"] == LENGTH and whole["updraft.share"] == completion.statistics.cloud_share


async def test_a_span_of_the_cloud_is_traced_as_one_question(tiers: Tiers) -> None:
    await complete(tiers.agent, ask("cloud"))
    await tiers.session_over()
    attributes = {span.name: span.attributes or {} for span in tiers.spans()}
    assert attributes["cloud.ask"]["updraft.tokens"] == attributes["write"]["updraft.tokens"] == LENGTH
    assert attributes["session"]["updraft.end"] == "closed"


async def test_both_tiers_count_the_same(tiers: Tiers) -> None:
    _, drafted = await complete(tiers.agent, ask("draft", stop={"rule": "fixed", "length": 4}))
    _, written = await complete(tiers.agent, ask("cloud"))
    await tiers.session_over(2)
    await until(lambda: tiers.cloud_value("updraft_pass_seconds_count") > 0)  # sent once a second
    drafted_of, written_of = drafted.statistics, written.statistics
    for name, expected in (
        ("updraft_draft_tokens_total", drafted_of.drafted),
        ("updraft_draft_accepted_tokens_total", drafted_of.accepted),
        ("updraft_verdicts_total", drafted_of.round_trips),
        ("updraft_accepted_length_tokens_count", drafted_of.round_trips),
        ("updraft_cloud_passes_total", drafted_of.cloud_passes + written_of.cloud_passes),
    ):
        assert tiers.cloud_value(name) == tiers.edge_value(name) == expected, name
    for origin in ("edge", "cloud"):
        assert tiers.cloud_value("updraft_tokens_total", origin=origin) == tiers.edge_value(
            "updraft_tokens_total", origin=origin
        )
    assert tiers.cloud_value("updraft_sessions_opened_total", kind="new") == 2
    assert tiers.cloud_value("updraft_sessions_ended_total", reason="closed") == 2
    assert tiers.cloud_value("updraft_sessions_active") == 0
    assert tiers.cloud_value("updraft_time_to_first_token_seconds_count") == 2
    assert tiers.cloud_value("updraft_answer_seconds_count", kind="write") == LENGTH
    assert tiers.cloud_value("updraft_queue_wait_seconds_count") == drafted_of.round_trips + 1
    assert tiers.cloud_value("updraft_admission_wait_seconds_count") == 2
    assert tiers.edge_value("updraft_escalation_rtt_seconds_count", kind="verify") == drafted_of.round_trips
    assert tiers.edge_value("updraft_escalation_rtt_seconds_count", kind="write") == 1


async def test_readiness_is_the_same_over_http(tiers: Tiers) -> None:
    async with httpx.AsyncClient(base_url=f"http://{tiers.cloud.operations.address}") as http:
        assert (await http.get("/health/ready")).status_code == 200
        assert "updraft_ready 1.0" in (await http.get("/metrics")).text
        tiers.cloud.service.lost()
        assert (await http.get("/health/ready")).json()["reasons"] == ["engine"]
        assert "updraft_engine_restarts_total 1.0" in (await http.get("/metrics")).text
        await until(lambda: tiers.cloud.readiness.ready)  # the engine's next measurement shows that it lives


async def test_lines_of_both_tiers_name_the_answer(
    tiers: Tiers, restored_logging: None, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("debug", "json")
    await complete(tiers.agent, ask("draft"))
    await tiers.session_over()
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    answered = next(line for line in told if str(line["message"]).startswith("answered"))
    ended = next(line for line in told if str(line["message"]).startswith("the session ended"))
    assert answered["request"] == ended["request"]
    assert answered["trace"] == ended["trace"] != ""
    assert ended["session"] and ended["logger"] == "updraft_cloud.service"
    generate = next(span for span in tiers.spans() if span.name == "generate")
    assert answered["trace"] == f"{generate.context.trace_id:032x}" if generate.context else False


async def test_a_secret_is_in_no_line_no_metric_no_span_and_no_error(
    tiers: Tiers, restored_logging: None, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("debug", "json")
    texts = []
    for mode in ("draft", "cloud", "span", "route", "lookup"):
        _, completion = await complete(tiers.agent, ask(mode))
        texts.append(completion.text)
    errors = [await refused(tiers, ask("draft", prompt=SECRET * 60)), await spoilt(tiers, SECRET)]
    with contextlib.suppress(UpdraftError):
        tiers.cloud.service.lost()
        await complete(tiers.agent, ask("draft"))
    await tiers.session_over(len(texts))
    logging.getLogger("updraft").debug("the last line")
    told = capsys.readouterr().err
    assert '"debug"' in told and "the session ended" in told and "answered" in told
    shown = [told, await tiers.scraped(), *(span.to_json() for span in tiers.spans()), *errors]
    ids = [json.dumps(tiers.agent.encode(SECRET))[1:-1], str(tiers.agent.encode(SECRET))]
    for secret in (SECRET, *SECRET.split(), *ids, *(text[:12] for text in texts)):
        assert not [part for part in shown if secret in part], secret


async def refused(tiers: Tiers, request: GenerationRequest) -> str:
    """What a request that cannot be answered is told."""
    with pytest.raises(UpdraftError) as raised:
        await complete(tiers.agent, request)
    return f"{raised.value.message} {raised.value.remedy}"


async def spoilt(tiers: Tiers, prompt: str) -> str:
    """What an edge is told whose log is not the cloud's."""
    async with RawEdge(tiers.cloud.address) as edge:
        await edge.open(tiers.agent.encode(prompt))
        edge.log.extend([1])
        await edge.draft(tiers.agent.encode(prompt))
        error = await edge.read_body("error")
    assert error.code == "log_mismatch"
    return f"{error.message} {error.remedy}"
