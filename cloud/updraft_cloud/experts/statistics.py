"""What an expert store has done, as numbers for metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from updraft.engine.experts import MoeShape

__all__ = ["ExpertStatistics", "LayerCounts", "expert_numbers"]


@dataclass(slots=True)
class LayerCounts:
    """Experts that one layer needed, counted once a pass: there, on their way, or absent."""

    hits: int = 0
    late: int = 0
    misses: int = 0


@dataclass(slots=True)
class ExpertStatistics:
    """Counts since the start.

    Attributes:
        expert_bytes: of one expert on the device; `loaded` of them were copied there.
        prefetched: of the loaded, those that nobody waited for yet. `useful` were needed before they were evicted,
            `useless` were not.
        evictions: experts that made room for others.
        on_host: experts that were computed on the host instead of being loaded.
        failures: copies that did not come.
        hops: ways of tokens from an expert of one layer to one of the next, where experts are placed on several
            devices; `crossings` of them went from one device to another.
        sent_bytes: of hidden states that went to an expert on another device than the model's, and of what came back.
        stall_s: time that computing waited for experts, seconds.
        copy_s: time that copies took, seconds; what is not stalled of it was hidden behind computing.
        most_bytes: most bytes of experts on the device at any time.
    """

    expert_bytes: int
    layers: list[LayerCounts] = field(default_factory=list)
    loaded: int = 0
    prefetched: int = 0
    useful: int = 0
    useless: int = 0
    evictions: int = 0
    on_host: int = 0
    failures: int = 0
    hops: int = 0
    crossings: int = 0
    sent_bytes: int = 0
    stall_s: float = 0.0
    copy_s: float = 0.0
    most_bytes: int = 0

    @classmethod
    def of(cls, shape: MoeShape) -> ExpertStatistics:
        return cls(shape.expert_bytes, [LayerCounts() for _ in range(shape.layers)])

    @property
    def hits(self) -> int:
        return sum(layer.hits for layer in self.layers)

    @property
    def late(self) -> int:
        return sum(layer.late for layer in self.layers)

    @property
    def misses(self) -> int:
        return sum(layer.misses for layer in self.layers)

    @property
    def needed(self) -> int:
        return self.hits + self.late + self.misses

    @property
    def hit_rate(self) -> float:
        """Share of the needed experts that were there when their layer wanted them; 0 where none was needed."""
        return self.hits / self.needed if self.needed else 0.0

    @property
    def crossing_share(self) -> float:
        """Share of the hops that went from one device to another; 0 where there were none."""
        return self.crossings / self.hops if self.hops else 0.0

    @property
    def bytes_moved(self) -> int:
        return self.loaded * self.expert_bytes

    def metrics(self) -> dict[str, float]:
        """By their names in Prometheus without the prefix `updraft_expert_`; all but the last only grow."""
        return {
            "hits_total": self.hits,
            "late_total": self.late,
            "misses_total": self.misses,
            "loads_total": self.loaded,
            "evictions_total": self.evictions,
            "prefetches_total": self.prefetched,
            "prefetches_useful_total": self.useful,
            "prefetches_useless_total": self.useless,
            "on_host_total": self.on_host,
            "failures_total": self.failures,
            "hops_total": self.hops,
            "crossings_total": self.crossings,
            "sent_bytes_total": self.sent_bytes,
            "moved_bytes_total": self.bytes_moved,
            "stall_seconds_total": self.stall_s,
            "copy_seconds_total": self.copy_s,
            "device_bytes_max": self.most_bytes,
        }


def expert_numbers(engine: object) -> dict[str, float] | None:
    """`ExpertStatistics.metrics` of an engine whose experts are not all on the device, else None."""
    statistics = getattr(getattr(engine, "experts", None), "statistics", None)
    return statistics.metrics() if isinstance(statistics, ExpertStatistics) else None
