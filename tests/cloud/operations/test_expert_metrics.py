"""Metrics of experts count on over a restart of the engine's process."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from updraft.engine.experts import MoeShape
from updraft_cloud.experts.statistics import ExpertStatistics, expert_numbers
from updraft_cloud.operations.expert_metrics import ExpertMetrics


def value(registry: CollectorRegistry, name: str) -> Any:
    return registry.get_sample_value(f"updraft_expert_{name}")


def test_counts_go_on_after_a_restart() -> None:
    registry = CollectorRegistry()
    metrics = ExpertMetrics(registry)
    counts = ExpertStatistics.of(MoeShape(2, 4, 1, 4, 4, 100))
    counts.layers[1].hits, counts.loaded, counts.most_bytes, counts.stall_s = 5, 3, 400, 0.5
    metrics.measured(counts.metrics())
    counts.layers[0].hits = 2
    metrics.measured(counts.metrics())
    assert value(registry, "hits_total") == 7
    assert (value(registry, "moved_bytes_total"), value(registry, "device_bytes")) == (300, 400)
    metrics.restarted()
    counts.layers[1].hits = 0
    metrics.measured(counts.metrics())
    assert value(registry, "hits_total") == 9
    assert value(registry, "stall_seconds_total") == 1.0


def test_only_engines_with_a_store_have_numbers() -> None:
    class Holder:
        statistics = ExpertStatistics.of(MoeShape(1, 1, 1, 1, 1, 1))

    class Engine:
        experts = Holder()

    assert expert_numbers(object()) is None
    numbers = expert_numbers(Engine())
    assert numbers is not None and numbers["hits_total"] == 0
