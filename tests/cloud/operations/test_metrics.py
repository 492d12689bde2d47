"""What the cloud counts: sessions, tokens, passes and caches, and what a session's meter makes of its frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from updraft.engine.loop import PassRecord, Share
from updraft.errors import LateReply
from updraft.sampling import SamplingParams
from updraft.tracing import NO_SPAN, OtelTracer, Span
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud.admission.place_queue import Refusal
from updraft_cloud.context import ContextStatistics
from updraft_cloud.frames import (
    Branch,
    Cancel,
    Cost,
    Draft,
    End,
    Failed,
    Open,
    Score,
    Scored,
    Spent,
    TakeOver,
    Verdict,
)
from updraft_cloud.frames import Span as Written
from updraft_cloud.messages import Measured
from updraft_cloud.operations.meter import SessionMeter
from updraft_cloud.operations.metrics import CloudMetrics

RECORD = PassRecord(
    0.02, verify=Share(2, 9), write=Share(1, 1), score=Share(), prefill=Share(1, 48), waiting=3,
    consumed_s=0.002, overhead_s=0.001,
)  # fmt: skip
OPENING = Open("letters", "", [1, 2, 3], [], SamplingParams(seed=1), 20, frozenset(), False, 0, False)
TAKE_OVER = TakeOver(3, [], 0, 0, None)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Told:
    """A session's meter, the metrics that it writes to, and the clock that it reads."""

    def __init__(self, opening: Open = OPENING, span: Span = NO_SPAN) -> None:
        self.metrics, self.clock = CloudMetrics(), Clock()
        self.meter = SessionMeter(self.metrics, opening, span, clock=self.clock)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def verdict(accepted: int, token: int | None = 7, **fields: Any) -> Verdict:
    return Verdict(3 + accepted, accepted, token, 0, End.NOT_YET, [], Spent(passes=1, positions=5), **fields)


def written(tokens: list[int], end: End = End.NOT_YET) -> Written:
    return Written(3, tokens, [], end, 0, Spent(passes=1, positions=1, micros=2000))


def test_a_verdict_is_counted_with_its_draft_and_timed() -> None:
    told = Told()
    told.meter.asked(Draft(3, [8, 9], 0, [1, 2, 3], [Branch(1, [5])]))
    told.clock.now += 0.25
    told.meter.answered(verdict(2, tolerated=1))
    assert told.value("updraft_verdicts_total") == 1
    assert told.value("updraft_draft_tokens_total") == 4
    assert told.value("updraft_draft_accepted_tokens_total") == 2
    assert told.value("updraft_draft_tolerated_tokens_total") == 1
    assert told.value("updraft_accepted_length_tokens_bucket", le="1.0") == 0
    assert told.value("updraft_accepted_length_tokens_bucket", le="2.0") == 1
    assert told.value("updraft_tokens_total", origin="edge") == 4  # two alone, two that stood
    assert told.value("updraft_tokens_total", origin="cloud") == 1
    assert told.value("updraft_cloud_passes_total") == 1
    assert told.value("updraft_answer_seconds_sum", kind="verify") == pytest.approx(0.25)
    assert told.value("updraft_time_to_first_token_seconds_sum") == pytest.approx(0.25)


def test_each_answer_of_a_span_is_timed_from_the_one_before() -> None:
    told = Told()
    told.meter.asked(TAKE_OVER)
    for tokens, end in (([4], End.NOT_YET), ([5], End.NOT_YET), ([6], End.HAND_BACK)):
        told.clock.now += 0.1
        told.meter.answered(written(tokens, end))
    told.meter.answered(written([1]))  # of no frame
    assert told.value("updraft_answer_seconds_count", kind="write") == 3
    assert told.value("updraft_answer_seconds_sum", kind="write") == pytest.approx(0.3)
    assert told.value("updraft_time_to_first_token_seconds_sum") == pytest.approx(0.1)
    assert told.value("updraft_tokens_total", origin="cloud") == 3


def test_a_score_commits_nothing_and_is_no_first_token() -> None:
    told = Told()
    told.meter.asked(Score(3, [], 0, [1, 2], [], True, 0))
    told.meter.answered(Scored([], [], Spent()))
    assert told.value("updraft_answer_seconds_count", kind="score") == 1
    assert told.value("updraft_time_to_first_token_seconds_count") == 0
    assert told.value("updraft_tokens_total", origin="cloud") == 0


def test_a_resumed_session_has_had_its_first_token() -> None:
    told = Told(Open("letters", "", [1], [2, 3], SamplingParams(seed=1), 20, frozenset(), False, 0, False))
    told.meter.asked(TAKE_OVER)
    told.meter.answered(written([4]))
    assert told.value("updraft_time_to_first_token_seconds_count") == 0
    assert told.value("updraft_sessions_opened_total", kind="resumed") == 1
    assert told.value("updraft_sessions_opened_total", kind="new") == 0


def test_sessions_are_counted_by_how_they_end() -> None:
    told = Told()
    other = SessionMeter(told.metrics, OPENING)
    assert told.value("updraft_sessions_active") == 2
    told.meter.end("closed")
    other.end("late_reply")
    assert told.value("updraft_sessions_active") == 0
    assert told.value("updraft_sessions_ended_total", reason="closed") == 1
    assert told.value("updraft_sessions_ended_total", reason="late_reply") == 1


def test_cancel_and_failure_are_neither_asked_nor_answered() -> None:
    told = Told()
    told.meter.asked(Cancel())
    told.meter.answered(Failed("late_reply", "", "", True))
    assert told.value("updraft_answer_seconds_count", kind="write") == 0


def test_a_frames_wait_for_its_first_pass_is_counted_once() -> None:
    told = Told()
    told.meter.asked(TAKE_OVER)
    told.meter.answered(Written(3, [4], [], End.NOT_YET, 0, Spent(queued=30_000)))
    told.meter.answered(written([5], End.HAND_BACK))
    assert told.value("updraft_queue_wait_seconds_count") == 1
    assert told.value("updraft_queue_wait_seconds_sum") == pytest.approx(0.03)


def test_a_session_is_part_of_the_trace_and_its_frames_of_the_session() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    session_span = OtelTracer(provider).start("session")
    told = Told(span=session_span)
    told.meter.asked(Draft(3, [8], 0, [1, 2, 3]))
    told.meter.answered(verdict(2))
    told.meter.asked(TAKE_OVER)
    for tokens in ([4], [5]):
        told.meter.answered(written(tokens))
    told.meter.end("late_reply")
    session_span.end(LateReply("the secret"))
    verify, write, session = exporter.get_finished_spans()
    assert [span.name for span in (verify, write, session)] == ["verify", "write", "session"]
    assert session.context is not None
    assert {span.parent.span_id for span in (verify, write) if span.parent} == {session.context.span_id}
    wanted = {"position": 4, "drafted": 3, "accepted": 2, "tokens": 3, "passes": 1, "positions": 5}
    assert {f"updraft.{name}": value for name, value in wanted.items()}.items() <= dict(verify.attributes or {}).items()
    told_of = dict(write.attributes or {})
    assert (told_of["updraft.tokens"], told_of["updraft.engine_ms"]) == (2, 4.0)
    assert (session.attributes or {})["error.type"] == "late_reply"
    assert "secret" not in session.to_json() + write.to_json()


def test_passes_are_counted_by_what_they_were_made_of() -> None:
    metrics = CloudMetrics()
    metrics.engine.measured(Measured([RECORD, RECORD], ContextStatistics(), 1, Cost(18_000, 250, 0.75)))
    value = metrics.registry.get_sample_value
    assert value("updraft_pass_seconds_count") == 2
    assert value("updraft_pass_seconds_sum") == pytest.approx(0.04)
    assert value("updraft_pass_positions_total", {"kind": "verify"}) == 18
    assert value("updraft_pass_positions_total", {"kind": "prefill"}) == 96
    assert value("updraft_pass_positions_total", {"kind": "score"}) == 0
    assert value("updraft_pass_runs_total", {"kind": "verify"}) == 4
    assert value("updraft_tasks_waiting") == 3
    assert value("updraft_scheduler_overhead_seconds_total") == pytest.approx(0.002)
    assert value("updraft_sampling_seconds_total") == pytest.approx(0.004)
    assert value("updraft_load_ratio") == 0.75
    assert value("updraft_cost_seconds", {"of": "position"}) == pytest.approx(250e-6)


def test_caches_are_what_is_held_and_what_was_done_also_after_the_engine_died() -> None:
    metrics = CloudMetrics()
    held = ContextStatistics(resident=4, waiting=2, prefixes=1, copies=3, host_bytes=1000, disk_bytes=7)
    done = replace(held, spilled_host=5, spilled_disk=1, dropped=2, restored=4, prefix_hits=6, reused_positions=60)
    metrics.engine.measured(Measured([], done, 1))
    metrics.engine.measured(Measured([], replace(done, spilled_host=6), 1))
    metrics.engine.allocated(5000)
    metrics.engine.restarted()
    metrics.engine.measured(Measured([], replace(held, spilled_host=2), 1))
    value = metrics.registry.get_sample_value
    assert value("updraft_kv_spilled_total", {"place": "host"}) == 8
    assert value("updraft_kv_spilled_total", {"place": "disk"}) == 1
    assert value("updraft_kv_dropped_total") == 2
    assert value("updraft_prefix_hits_total") == 6
    assert value("updraft_prefix_positions_total") == 60
    assert value("updraft_kv_bytes", {"place": "host"}) == 1000
    assert value("updraft_kv_bytes", {"place": "device"}) == 5000
    assert value("updraft_kv_sequences", {"holder": "branch"}) == 3
    assert value("updraft_kv_waiting") == 2
    assert value("updraft_engine_restarts_total") == 1


def test_what_the_front_end_counts_besides() -> None:
    metrics = CloudMetrics()
    metrics.serves("tiny")
    metrics.ready(True)
    metrics.shed(Refusal.QUEUE_FULL)
    metrics.seated(0.3)
    metrics.notice(pb.Notice.KIND_DRAIN)
    metrics.moved("up", 20)
    metrics.moved("down", 30)
    metrics.queued(0.003)
    text = metrics.render().decode()
    for line in (
        'updraft_build_info{model="tiny",version=',
        "updraft_ready 1.0",
        'updraft_load_shed_total{reason="queue_full"} 1.0',
        'updraft_admission_wait_seconds_bucket{le="0.5"} 1.0',
        'updraft_notices_total{kind="drain"} 1.0',
        'updraft_link_bytes_total{direction="up"} 20.0',
        'updraft_queue_wait_seconds_bucket{le="0.005"} 1.0',
        "process_open_fds",
    ):
        assert line in text


def test_two_services_of_one_process_count_apart() -> None:
    one, other = CloudMetrics(), CloudMetrics()
    one.opened(resumed=False)
    assert other.registry.get_sample_value("updraft_sessions_active") == 0
