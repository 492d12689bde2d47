"""Metrics of the engine's process: what passes were made of, and what its caches hold."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from updraft.engine.loop import PassRecord
from updraft_cloud.context import ContextStatistics
from updraft_cloud.frames import Cost
from updraft_cloud.messages import Measured
from updraft_cloud.operations.expert_metrics import ExpertMetrics

__all__ = ["EngineMetrics"]

_KINDS: Final = ("verify", "write", "score", "prefill")
_PASS_SECONDS: Final = (0.001, 0.002, 0.004, 0.006, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
_COUNTERS: Final = {
    "kept": ("updraft_kv_kept", "Caches given up of which a state was saved before."),
    "dropped": ("updraft_kv_dropped", "Caches given up; they are computed again from the log."),
    "restored": ("updraft_kv_restored", "Caches brought back from host memory or disk."),
    "rebuilt_positions": ("updraft_kv_rebuilt_positions", "Positions to be computed again after a cache was dropped."),
    "faults": ("updraft_kv_faults", "Checks that found the caches' books wrong: a mistake in this program."),
    "failures": ("updraft_kv_failures", "Caches that could not be saved or restored; they were dropped."),
    "finished": ("updraft_prefix_kept", "Sessions that left their cache to later ones."),
    "prefix_hits": ("updraft_prefix_hits", "Sessions that began with the cache of another."),
    "reused_positions": ("updraft_prefix_positions", "Positions that these did not have to compute."),
}


class EngineMetrics:
    """Takes what the engine's process sends in `Measured`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._measure_passes(registry)
        self._measure_cost(registry)
        self._measure_caches(registry)
        self._experts = ExpertMetrics(registry)
        self._restarts = Counter("updraft_engine_restarts", "Times that the engine's process died.", registry=registry)

    def _measure_passes(self, registry: CollectorRegistry) -> None:
        self._pass = Histogram(
            "updraft_pass_seconds", "Forward passes of the engine.", buckets=_PASS_SECONDS, registry=registry
        )
        runs = Counter("updraft_pass_runs", "Runs computed in passes, by what for.", ["kind"], registry=registry)
        positions = Counter(
            "updraft_pass_positions", "Positions computed in passes, by what for.", ["kind"], registry=registry
        )
        self._shares = {kind: (runs.labels(kind), positions.labels(kind)) for kind in _KINDS}
        self._waiting = Gauge(
            "updraft_tasks_waiting", "Sessions that got no place in the last pass.", registry=registry
        )
        self._overhead = Counter(
            "updraft_scheduler_overhead_seconds", "Time between passes that the loop itself took.", registry=registry
        )
        self._consumed = Counter(
            "updraft_sampling_seconds", "Time between passes that drawing tokens and answering took.", registry=registry
        )

    def _measure_cost(self, registry: CollectorRegistry) -> None:
        self._load = Gauge("updraft_load_ratio", "Share of the recent time that passes took.", registry=registry)
        cost = Gauge(
            "updraft_cost_seconds", "What a pass costs, and one more position in it.", ["of"], registry=registry
        )
        self._pass_cost, self._position_cost = cost.labels("pass"), cost.labels("position")

    def _measure_caches(self, registry: CollectorRegistry) -> None:
        held = Gauge(
            "updraft_kv_bytes", "KV caches: allocated on the device, held elsewhere.", ["place"], registry=registry
        )
        self._device = held.labels("device")
        self._bytes = {place: held.labels(place) for place in ("host", "disk")}
        sequences = Gauge("updraft_kv_sequences", "Sequences in use, by what for.", ["holder"], registry=registry)
        self._sequences = {
            field: sequences.labels(holder)
            for field, holder in (("resident", "session"), ("prefixes", "prefix"), ("copies", "branch"))
        }
        self._queue = Gauge("updraft_kv_waiting", "Sessions that wait for a sequence.", registry=registry)
        spilled = Counter("updraft_kv_spilled", "Caches moved off the device, by place.", ["place"], registry=registry)
        self._counters = {f"spilled_{place}": spilled.labels(place) for place in ("host", "disk")}
        self._counters |= {field: Counter(*named, registry=registry) for field, named in _COUNTERS.items()}
        self._counted = dict.fromkeys(self._counters, 0)

    def allocated(self, size: int) -> None:
        """Bytes that the engine took for its caches when it was loaded."""
        self._device.set(size)

    def measured(self, message: Measured) -> None:
        """What the engine's process did since the last of these."""
        for record in message.passes:
            self._passed(record)
        self._held(message.context)
        if message.cost is not None:
            self._costs(message.cost)
        if message.experts is not None:
            self._experts.measured(message.experts)

    def restarted(self) -> None:
        """The process died; the next one counts from zero."""
        self._restarts.inc()
        self._experts.restarted()
        self._counted = dict.fromkeys(self._counters, 0)

    def _passed(self, record: PassRecord) -> None:
        self._pass.observe(record.seconds)
        for kind, (runs, positions) in self._shares.items():
            share = getattr(record, kind)
            runs.inc(share.runs)
            positions.inc(share.positions)
        self._waiting.set(record.waiting)
        self._overhead.inc(record.overhead_s)
        self._consumed.inc(record.consumed_s)

    def _costs(self, cost: Cost) -> None:
        self._load.set(cost.load)
        self._pass_cost.set(cost.pass_micros * 1e-6)
        self._position_cost.set(cost.position_micros * 1e-6)

    def _held(self, context: ContextStatistics) -> None:
        for place, gauge in self._bytes.items():
            gauge.set(getattr(context, f"{place}_bytes"))
        for field, gauge in self._sequences.items():
            gauge.set(getattr(context, field))
        self._queue.set(context.waiting)
        for field, counter in self._counters.items():
            now = getattr(context, field)
            counter.inc(now - self._counted[field])
            self._counted[field] = now
