"""Metrics of experts that are not all on the model's device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["ExpertMetrics"]

_COUNTERS: Final = {
    "hits_total": "Experts that were on the device when a layer needed them.",
    "late_total": "Experts that were on their way when a layer needed them.",
    "misses_total": "Experts that nobody had sent for when a layer needed them.",
    "loads_total": "Experts copied to the device.",
    "evictions_total": "Experts that made room for others.",
    "prefetches_total": "Experts copied before a layer asked for them.",
    "prefetches_useful_total": "Prefetched experts that were needed before they were evicted.",
    "prefetches_useless_total": "Prefetched experts that were evicted before they were needed.",
    "on_host_total": "Experts computed on the host instead of being copied.",
    "failures_total": "Copies of experts that failed; their passes fail.",
    "hops_total": "Ways of tokens from an expert of one layer to one of the next, where experts are placed.",
    "crossings_total": "Hops that went from one device to another.",
    "sent_bytes_total": "Bytes of hidden states that went to experts on other devices and back.",
    "moved_bytes_total": "Bytes of experts copied to the device.",
    "stall_seconds_total": "Time that passes waited for experts.",
    "copy_seconds_total": "Time that copies of experts took.",
}


class ExpertMetrics:
    """Takes what `ExpertStatistics.metrics` gives, which counts from the start of the engine's process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counters = {
            name: Counter(f"updraft_expert_{name.removesuffix('_total')}", meaning, registry=registry)
            for name, meaning in _COUNTERS.items()
        }
        self._bytes = Gauge(
            "updraft_expert_device_bytes", "Bytes of the device taken for routed experts.", registry=registry
        )
        self.restarted()

    def measured(self, numbers: Mapping[str, float]) -> None:
        """What was counted since the last of these."""
        for name, counter in self._counters.items():
            counter.inc(max(0.0, numbers[name] - self._counted[name]))
            self._counted[name] = numbers[name]
        self._bytes.set(numbers["device_bytes_max"])

    def restarted(self) -> None:
        """The process died; the next one counts from zero."""
        self._counted = dict.fromkeys(self._counters, 0.0)
