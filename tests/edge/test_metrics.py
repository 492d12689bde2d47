"""The agent's metrics: what is counted, and what counting costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from tests.fakes.solutions import SOLUTION
from updraft.generation import Completion, Statistics, TokenEvent
from updraft.modes import Origin
from updraft_edge.metrics import EdgeMetrics

EVENT = TokenEvent(0, 5, "x", -0.5, 1.25, 3.0, Origin.EDGE, False, seconds=0.3)


def completion(**fields: object) -> Completion:
    statistics = Statistics(tokens=3, drafted=8, accepted=6, cloud_passes=2, bytes_up=100, bytes_down=50, seconds=0.9)
    return replace(Completion("xyz", [1, 2, 3], "stop", "draft", "pair", 1, statistics=statistics), **fields)  # type: ignore[arg-type]


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_tokens_are_counted_by_origin_and_timed() -> None:
    metrics = EdgeMetrics()
    metrics.token(EVENT, 0.3)
    metrics.token(replace(EVENT, index=1, origin=Origin.CLOUD, seconds=0.32), 0.02)
    metrics.token(replace(EVENT, index=2, seconds=0.36, layer=16), 0.04)
    registry = metrics.registry
    assert value(registry, "updraft_tokens_total", origin="edge") == 2
    assert value(registry, "updraft_exit_tokens_total", layer="16") == 1
    assert value(registry, "updraft_tokens_total", origin="cloud") == 1
    assert value(registry, "updraft_time_to_first_token_seconds_sum") == pytest.approx(0.3)
    assert value(registry, "updraft_inter_token_latency_seconds_count") == 2
    assert value(registry, "updraft_inter_token_latency_seconds_sum") == pytest.approx(0.06)
    assert value(registry, "updraft_token_entropy_nats_sum") == pytest.approx(3.75)
    assert value(registry, "updraft_token_entropy_nats_bucket", le="1.0") == 0
    assert value(registry, "updraft_token_entropy_nats_bucket", le="1.5") == 3


def test_a_finished_request_adds_its_statistics() -> None:
    metrics = EdgeMetrics()
    metrics.started()
    metrics.started()
    assert value(metrics.registry, "updraft_requests_running") == 2
    metrics.finished(completion())
    metrics.finished(completion(mode="span", finish_reason="length", degraded=True, degraded_reason="late_reply"))
    registry = metrics.registry
    assert value(registry, "updraft_requests_running") == 0
    assert value(registry, "updraft_requests_total", mode="draft", finish_reason="stop") == 1
    assert value(registry, "updraft_requests_total", mode="span", finish_reason="length") == 1
    assert value(registry, "updraft_degraded_total", reason="late_reply") == 1
    assert value(registry, "updraft_draft_tokens_total") == 16
    assert value(registry, "updraft_draft_accepted_tokens_total") == 12
    assert value(registry, "updraft_cloud_passes_total") == 4
    assert value(registry, "updraft_link_bytes_total", direction="up") == 200
    assert value(registry, "updraft_link_bytes_total", direction="down") == 100
    assert value(registry, "updraft_e2e_request_latency_seconds_sum") == pytest.approx(1.8)


def test_an_answers_share_waiting_and_reopened_sessions_are_counted() -> None:
    metrics = EdgeMetrics()
    metrics.started()
    statistics = Statistics(tokens=4, cloud_tokens=1, tolerated=2, reopened=3, waited_seconds=0.5)
    metrics.finished(completion(statistics=statistics))
    metrics.started()
    metrics.finished(completion(statistics=Statistics()))  # nothing was written: it has no share
    registry = metrics.registry
    assert value(registry, "updraft_cloud_share_ratio_count") == 1
    assert value(registry, "updraft_cloud_share_ratio_bucket", le="0.2") == 0
    assert value(registry, "updraft_cloud_share_ratio_bucket", le="0.3") == 1
    assert value(registry, "updraft_sessions_reopened_total") == 3
    assert value(registry, "updraft_draft_tolerated_tokens_total") == 2
    assert value(registry, "updraft_cloud_waited_seconds_total") == 0.5


def test_questions_are_counted_and_timed_by_kind() -> None:
    metrics = EdgeMetrics()
    metrics.asked("verify")
    metrics.asked("verify")
    metrics.answered("verify", 0.03)
    metrics.judged(5)
    metrics.notice("drain")
    registry = metrics.registry
    assert value(registry, "updraft_escalations_total", kind="verify") == 2
    assert value(registry, "updraft_escalations_total", kind="write") == 0
    assert value(registry, "updraft_escalation_rtt_seconds_count", kind="verify") == 1
    assert value(registry, "updraft_escalation_rtt_seconds_sum", kind="verify") == pytest.approx(0.03)
    assert value(registry, "updraft_verdicts_total") == 1
    assert value(registry, "updraft_accepted_length_tokens_sum") == 5
    assert value(registry, "updraft_notices_total", kind="drain") == 1


def test_a_failed_request_is_counted_by_code() -> None:
    metrics = EdgeMetrics()
    metrics.started()
    metrics.failed("overloaded")
    assert value(metrics.registry, "updraft_errors_total", code="overloaded") == 1
    assert value(metrics.registry, "updraft_requests_running") == 0


@pytest.mark.parametrize(
    ("state", "link", "breaker"),
    [
        ("closed", "up", "closed"),
        ("open", "down", "open"),
        ("half_open", "down", "half_open"),
        ("off", "off", "closed"),
    ],
)
def test_the_breakers_state_is_the_links(state: str, link: str, breaker: str) -> None:
    metrics = EdgeMetrics()
    metrics.link(state)
    assert value(metrics.registry, "updraft_link_state", updraft_link_state=link) == 1
    assert value(metrics.registry, "updraft_breaker_state", updraft_breaker_state=breaker) == 1


def test_an_unknown_link_state_is_refused() -> None:
    with pytest.raises(ValueError, match="'broken'"):
        EdgeMetrics().link("broken")


def test_two_agents_of_one_process_count_apart() -> None:
    one, other = EdgeMetrics(), EdgeMetrics()
    one.started()
    assert value(other.registry, "updraft_requests_running") == 0
    assert b"updraft_requests_running 1.0" in one.render()


def test_solves_are_counted_with_what_they_cost() -> None:
    metrics = EdgeMetrics()
    metrics.started()
    metrics.finished(completion(mode="solve", solution=SOLUTION))
    registry = metrics.registry
    assert value(registry, "updraft_solves_total", strategy="rpc", end="confident") == 1
    assert value(registry, "updraft_solve_samples_total") == SOLUTION.compute.samples
    assert value(registry, "updraft_solve_tokens_total", origin="cloud") == SOLUTION.compute.cloud_tokens
    assert value(registry, "updraft_solve_tokens_total", origin="edge") == SOLUTION.compute.edge_tokens
    assert value(registry, "updraft_verifier_calls_total") == SOLUTION.compute.verifier_calls
    assert value(registry, "updraft_verifier_failures_total") == 1
