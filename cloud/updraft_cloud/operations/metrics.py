"""The cloud tier's Prometheus metrics, in a registry of their own.

Labels are kinds and codes, whose number the code bounds. Tenants and sessions are never labels: each would be a time
series, and there is no bound to how many come by. Logs and traces have them.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from updraft import __version__
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud.admission.place_queue import Refusal
from updraft_cloud.frames import Verdict
from updraft_cloud.operations.engine_metrics import EngineMetrics
from updraft_cloud.operations.solve_metrics import SolveMetrics

__all__ = ["CloudMetrics"]

_WAIT_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SEAT_SECONDS: Final = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
_ANSWER_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.35, 0.6, 1.0, 2.0, 5.0, 20.0)
_FIRST_TOKEN_SECONDS: Final = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_NOTICES: Final = {pb.Notice.KIND_DRAIN: "drain", pb.Notice.KIND_SLOW_DOWN: "slow_down"}
_TOKENS: Final = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48)


class CloudMetrics:
    """What the front end counts; `engine` takes what the engine's process measured, `solves` what
    strategies worked on.

    A name that the edge has too means the same there, and vLLM's names are used where both have them, with the prefix
    `updraft_`. A session is `opened`, then `ended` exactly once.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.engine = EngineMetrics(self.registry)
        self.solves = SolveMetrics(self.registry)
        self._count_sessions(self.registry)
        self._count_tokens(self.registry)
        self._measure_latency(self.registry)
        self._ready = Gauge("updraft_ready", "1 while sessions should come here.", registry=self.registry)
        self._build = Info("updraft_build", "Version and model of this service.", registry=self.registry)

    def _count_sessions(self, registry: CollectorRegistry) -> None:
        self._active = Gauge("updraft_sessions_active", "Sessions that are open.", registry=registry)
        self._opened = Counter(
            "updraft_sessions_opened", "Sessions that began: new, or resumed from a log.", ["kind"], registry=registry
        )
        self._ended = Counter(
            "updraft_sessions_ended", "Sessions that ended, by how or by error code.", ["reason"], registry=registry
        )
        self._shed = Counter(
            "updraft_load_shed", "Sessions and frames turned away, by reason.", ["reason"], registry=registry
        )
        for reason in Refusal:
            self._shed.labels(reason.value)
        self._notices = Counter("updraft_notices", "Advice to edges, by kind.", ["kind"], registry=registry)
        for kind in ("new", "resumed"):
            self._opened.labels(kind)
        for name in _NOTICES.values():
            self._notices.labels(name)
        traffic = Counter(
            "updraft_link_bytes", "Bytes between the tiers; up is towards the cloud.", ["direction"], registry=registry
        )
        self._traffic = {direction: traffic.labels(direction) for direction in ("up", "down")}

    def _count_tokens(self, registry: CollectorRegistry) -> None:
        self._verdicts = Counter("updraft_verdicts", "Drafts that were judged.", registry=registry)
        self._accepted_length = Histogram(
            "updraft_accepted_length_tokens",
            "Draft tokens that stood in a verdict.",
            buckets=_TOKENS,
            registry=registry,
        )
        self._drafted = Counter("updraft_draft_tokens", "Draft tokens sent for a verdict.", registry=registry)
        self._accepted = Counter(
            "updraft_draft_accepted_tokens", "Draft tokens that the cloud let stand.", registry=registry
        )
        self._tolerated = Counter(
            "updraft_draft_tolerated_tokens", "Of these, what its model would not have drawn.", registry=registry
        )
        tokens = Counter(
            "updraft_tokens", "Committed tokens by the tier that wrote them.", ["origin"], registry=registry
        )
        self._by_edge, self._by_cloud = tokens.labels("edge"), tokens.labels("cloud")
        self._passes = Counter(
            "updraft_cloud_passes", "Large-model forward passes, prompts left out.", registry=registry
        )

    def _measure_latency(self, registry: CollectorRegistry) -> None:
        self._first = Histogram(
            "updraft_time_to_first_token_seconds",
            "From the request's arrival to its first token.",
            buckets=_FIRST_TOKEN_SECONDS,
            registry=registry,
        )
        answers = Histogram(
            "updraft_answer_seconds",
            "To an answer from its frame's arrival, in a span from the answer before.",
            ["kind"],
            buckets=_ANSWER_SECONDS,
            registry=registry,
        )
        self._answers = {kind: answers.labels(kind) for kind in ("verify", "write", "score")}
        self._seated = Histogram(
            "updraft_admission_wait_seconds",
            "For a place, of sessions let in.",
            buckets=_SEAT_SECONDS,
            registry=registry,
        )
        self._queued = Histogram(
            "updraft_queue_wait_seconds",
            "From a frame's arrival to the first pass for it.",
            buckets=_WAIT_SECONDS,
            registry=registry,
        )

    def serves(self, model: str) -> None:
        """The engine has loaded a model."""
        self._build.info({"version": __version__, "model": model})

    def ready(self, ready: bool) -> None:
        """Whether sessions should come here."""
        self._ready.set(ready)

    def opened(self, *, resumed: bool) -> None:
        """A session was admitted."""
        self._active.inc()
        self._opened.labels("resumed" if resumed else "new").inc()

    def ended(self, reason: str) -> None:
        """An admitted session is over: `closed` by the edge, `gone` without a word, or failed with an error code."""
        self._active.dec()
        self._ended.labels(reason).inc()

    def shed(self, reason: Refusal) -> None:
        """A session or a frame was turned away."""
        self._shed.labels(reason.value).inc()

    def seated(self, seconds: float) -> None:
        """A session has waited so long for its place."""
        self._seated.observe(seconds)

    def notice(self, kind: pb.Notice.Kind) -> None:
        """Advice was sent."""
        self._notices.labels(_NOTICES[kind]).inc()

    def moved(self, direction: str, size: int) -> None:
        """Bytes of a frame, `up` from the edge or `down` to it."""
        self._traffic[direction].inc(size)

    def committed(self, tokens: int) -> None:
        """Tokens that an edge committed alone."""
        self._by_edge.inc(tokens)

    def judged(self, verdict: Verdict, drafted: int) -> None:
        """A draft of so many tokens was judged."""
        self._verdicts.inc()
        self._drafted.inc(drafted)
        self._accepted_length.observe(verdict.accepted)
        self._accepted.inc(verdict.accepted)
        self._tolerated.inc(verdict.tolerated)
        self._by_edge.inc(verdict.accepted)
        self._by_cloud.inc(verdict.token is not None)

    def wrote(self, tokens: int) -> None:
        """The cloud wrote tokens of a span."""
        self._by_cloud.inc(tokens)

    def answered(self, kind: str, seconds: float, passes: int) -> None:
        """An answer left: to `verify`, `write` or `score`."""
        self._answers[kind].observe(seconds)
        self._passes.inc(passes)

    def queued(self, seconds: float) -> None:
        """A frame waited so long for the first pass that worked on it."""
        self._queued.observe(seconds)

    def first_token(self, seconds: float) -> None:
        """A session has its first token."""
        self._first.observe(seconds)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format; `content_type` goes with it."""
        return generate_latest(self.registry)
