"""The agent's Prometheus metrics, in a registry of their own."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from updraft.generation import Completion, TokenEvent
from updraft.modes import Origin
from updraft.solution import Solution

__all__ = ["EdgeMetrics"]

# The breaker's states and what they mean for the link: requests go to the cloud only while the breaker is closed.
_LINK_STATES = {"off": "off", "closed": "up", "open": "down", "half_open": "down"}

_FIRST_TOKEN_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_GAP_SECONDS = (0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0, 2.0, 5.0, 20.0)
_ANSWER_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0, 50.0, 100.0, 300.0)
_ROUND_TRIP_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.35, 0.6, 1.0, 2.0, 5.0, 10.0, 30.0)
_ENTROPY_NATS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)


_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0)
_TOKENS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48)
_QUESTIONS = ("verify", "write", "score", "solve")


class EdgeMetrics:
    """What the agent counts. A request is `started`, then `finished` or `failed` exactly once.

    Names and meanings follow vLLM's where both have them, with the prefix `updraft_`. `token` takes about 2
    microseconds. Threads may share one object.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._count_tokens_and_requests(self.registry)
        self._count_cloud_work(self.registry)
        self._count_questions(self.registry)
        self._measure_latency(self.registry)
        self._count_solves(self.registry)

    def _count_tokens_and_requests(self, registry: CollectorRegistry) -> None:
        tokens = Counter(
            "updraft_tokens", "Committed tokens by the tier that wrote them.", ["origin"], registry=registry
        )
        self._exits = Counter(
            "updraft_exit_tokens", "Tokens that left the edge's model early, by layer.", ["layer"], registry=registry
        )
        # Children are looked up once: the look-up costs as much as the increment.
        self._tokens = {origin: tokens.labels(origin.value) for origin in Origin}
        self._requests = Counter(
            "updraft_requests", "Answers that came to an end.", ["mode", "finish_reason"], registry=registry
        )
        self._degraded = Counter(
            "updraft_degraded", "Answers that the edge finished alone, by error code.", ["reason"], registry=registry
        )
        self._withheld = Counter(
            "updraft_withheld", "Answers that a rule or a limit kept on the device.", ["rule"], registry=registry
        )
        self._cost = Counter("updraft_cost", "Money, in the price table's currency.", registry=registry)
        self._errors = Counter("updraft_errors", "Requests that failed, by error code.", ["code"], registry=registry)
        self._running = Gauge("updraft_requests_running", "Answers being written now.", registry=registry)

    def _count_cloud_work(self, registry: CollectorRegistry) -> None:
        self._drafted = Counter("updraft_draft_tokens", "Draft tokens sent for a verdict.", registry=registry)
        self._accepted = Counter(
            "updraft_draft_accepted_tokens", "Draft tokens that the cloud let stand.", registry=registry
        )
        self._passes = Counter(
            "updraft_cloud_passes", "Large-model forward passes, prompts left out.", registry=registry
        )
        self._bytes = Counter(
            "updraft_link_bytes", "Bytes between the tiers; up is towards the cloud.", ["direction"], registry=registry
        )
        self._link = Enum(
            "updraft_link_state", "The link to the cloud.", states=["off", "up", "down"], registry=registry
        )
        self._breaker = Enum(
            "updraft_breaker_state",
            "The link's circuit breaker.",
            states=["closed", "open", "half_open"],
            registry=registry,
        )

    def _count_questions(self, registry: CollectorRegistry) -> None:
        asked = Counter(
            "updraft_escalations", "Questions to the cloud: drafts, spans, scores.", ["kind"], registry=registry
        )
        seconds = Histogram(
            "updraft_escalation_rtt_seconds",
            "From a question to the cloud to its first answer, lost streams included.",
            ["kind"],
            buckets=_ROUND_TRIP_SECONDS,
            registry=registry,
        )
        self._asked = {kind: asked.labels(kind) for kind in _QUESTIONS}
        self._round_trip = {kind: seconds.labels(kind) for kind in _QUESTIONS}
        self._verdicts = Counter("updraft_verdicts", "Drafts that were judged.", registry=registry)
        self._accepted_length = Histogram(
            "updraft_accepted_length_tokens",
            "Draft tokens that stood in a verdict.",
            buckets=_TOKENS,
            registry=registry,
        )
        self._tolerated = Counter(
            "updraft_draft_tolerated_tokens", "Of these, what its model would not have drawn.", registry=registry
        )
        self._share = Histogram(
            "updraft_cloud_share_ratio", "Cloud-written tokens of an answer.", buckets=_SHARES, registry=registry
        )
        self._waited = Counter("updraft_cloud_waited_seconds", "Time that answers waited.", registry=registry)
        self._reopened = Counter(
            "updraft_sessions_reopened", "Sessions opened again, after a loss or a notice.", registry=registry
        )
        self._notices = Counter("updraft_notices", "Advice to edges, by kind.", ["kind"], registry=registry)
        for kind in ("drain", "slow_down"):
            self._notices.labels(kind)

    def _count_solves(self, registry: CollectorRegistry) -> None:
        self._solves = Counter(
            "updraft_solves",
            "Answers of the mode solve, by strategy (vote: the edge's own) and by why it stopped.",
            ["strategy", "end"],
            registry=registry,
        )
        self._samples = Counter("updraft_solve_samples", "Answers or branches that were begun.", registry=registry)
        tokens = Counter(
            "updraft_solve_tokens", "Tokens drawn, of all branches together, by tier.", ["origin"], registry=registry
        )
        self._drawn = {origin: tokens.labels(origin.value) for origin in Origin}
        self._calls = Counter("updraft_verifier_calls", "Answers or steps that verifiers judged.", registry=registry)
        self._failures = Counter(
            "updraft_verifier_failures", "Answers whose verifier crashed, hung or returned nonsense.", registry=registry
        )

    def _measure_latency(self, registry: CollectorRegistry) -> None:
        self._first = Histogram(
            "updraft_time_to_first_token_seconds",
            "From the request's arrival to its first token.",
            buckets=_FIRST_TOKEN_SECONDS,
            registry=registry,
        )
        self._gap = Histogram(
            "updraft_inter_token_latency_seconds",
            "Between two tokens of one answer.",
            buckets=_GAP_SECONDS,
            registry=registry,
        )
        self._whole = Histogram(
            "updraft_e2e_request_latency_seconds",
            "From the request's arrival to the end of its answer.",
            buckets=_ANSWER_SECONDS,
            registry=registry,
        )
        self._entropy = Histogram(
            "updraft_token_entropy_nats",
            "Entropy of the distribution that a token came from.",
            buckets=_ENTROPY_NATS,
            registry=registry,
        )

    def started(self) -> None:
        """A request was taken."""
        self._running.inc()

    def token(self, event: TokenEvent, gap_seconds: float) -> None:
        """A token was committed, `gap_seconds` after the one before it; the first counts as time to first token."""
        self._tokens[event.origin].inc()
        if not math.isnan(event.entropy):  # an endpoint does not tell
            self._entropy.observe(event.entropy)
        if event.layer is not None:
            self._exits.labels(str(event.layer)).inc()
        if event.index == 0:
            self._first.observe(event.seconds)
        else:
            self._gap.observe(gap_seconds)

    def finished(self, completion: Completion) -> None:
        """A request came to its end, also if the caller cancelled it."""
        if completion.solution is not None:
            self._solved(completion.solution)
        statistics = completion.statistics
        self._running.dec()
        self._requests.labels(completion.mode, completion.finish_reason).inc()
        if completion.withheld is not None:
            self._withheld.labels(completion.withheld).inc()
        self._cost.inc(statistics.cost)
        if completion.degraded:
            self._degraded.labels(completion.degraded_reason or "unknown").inc()
        self._whole.observe(statistics.seconds)
        self._drafted.inc(statistics.drafted)
        self._accepted.inc(statistics.accepted)
        self._tolerated.inc(statistics.tolerated)
        self._waited.inc(statistics.waited_seconds)
        self._reopened.inc(statistics.reopened)
        if statistics.tokens:
            self._share.observe(statistics.cloud_share)
        self._passes.inc(statistics.cloud_passes)
        self._bytes.labels("up").inc(statistics.bytes_up)
        self._bytes.labels("down").inc(statistics.bytes_down)

    def failed(self, code: str) -> None:
        """A request ended with an error; `code` is `UpdraftError.code`."""
        self._running.dec()
        self._errors.labels(code).inc()

    def asked(self, kind: str) -> None:
        """The cloud is asked to `verify`, `write` or `score`."""
        self._asked[kind].inc()

    def answered(self, kind: str, seconds: float) -> None:
        """It has begun to answer, so long after it was asked."""
        self._round_trip[kind].observe(seconds)

    def _solved(self, solution: Solution) -> None:
        compute = solution.compute
        self._solves.labels(solution.strategy, solution.ended).inc()
        self._samples.inc(compute.samples)
        self._drawn[Origin.EDGE].inc(compute.edge_tokens)
        self._drawn[Origin.CLOUD].inc(compute.cloud_tokens)
        self._calls.inc(compute.verifier_calls)
        self._failures.inc(bool(solution.complaints))

    def judged(self, accepted: int) -> None:
        """A verdict let so many draft tokens stand."""
        self._verdicts.inc()
        self._accepted_length.observe(accepted)

    def notice(self, kind: str) -> None:
        """The cloud gave advice: `drain` or `slow_down`."""
        self._notices.labels(kind).inc()

    def link(self, state: str) -> None:
        """The state of the link's circuit breaker, or "off" where there is no link.

        Raises:
            ValueError: there is no such state.
        """
        if state not in _LINK_STATES:
            raise ValueError(f"There is no link state {state!r}; states are {', '.join(_LINK_STATES)}.")
        self._link.state(_LINK_STATES[state])
        if state != "off":
            self._breaker.state(state)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format; `content_type` goes with it."""
        return generate_latest(self.registry)
