"""Metrics of answers that strategies worked on."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from updraft.strategies import STRATEGIES
from updraft_cloud.solve_frames import Solved

__all__ = ["SolveMetrics"]


class SolveMetrics:
    """A Solve is `began`, then `ended` exactly once; one that was answered is `solved` in between."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._active = Gauge("updraft_solves_active", "Answers that strategies work on now.", registry=registry)
        self._ended = Counter(
            "updraft_solves",
            "Answers that a strategy worked on, by strategy and by how that ended: why the strategy stopped, "
            "or an error code.",
            ["strategy", "end"],
            registry=registry,
        )
        self._samples = Counter("updraft_solve_samples", "Answers or branches that were begun.", registry=registry)
        self._tokens = Counter("updraft_solve_tokens", "Tokens drawn, of all branches together.", registry=registry)
        self._calls = Counter("updraft_verifier_calls", "Answers or steps that verifiers judged.", registry=registry)
        self._failures = Counter(
            "updraft_verifier_failures", "Answers whose verifier crashed, hung or returned nonsense.", registry=registry
        )

    def began(self) -> None:
        """A Solve was admitted."""
        self._active.inc()

    def solved(self, solved: Solved) -> None:
        """A strategy came to an end."""
        spent = solved.spent
        self._samples.inc(spent.samples)
        self._tokens.inc(spent.tokens)
        self._calls.inc(spent.verifier_calls)
        self._failures.inc(bool(solved.complaints))

    def ended(self, strategy: str, end: str) -> None:
        """An admitted Solve is over: with the strategy's own reason, an error code, or `gone`."""
        self._active.dec()
        self._ended.labels(strategy if strategy in STRATEGIES else "unknown", end).inc()
