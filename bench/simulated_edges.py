"""Edges of a simulation: recorded drafts, the agent's own stop rule and policy, and simulated time."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Final

from updraft.engine.scheduler import Priority
from updraft.sampling import Sampled
from updraft_edge.policies.load import WhileItCarries
from updraft_edge.seams import StopRule
from updraft_edge.stopping.costs import Costs
from updraft_edge.stopping.predictors import Calibration, ScorePredictor, confidence
from updraft_edge.stopping.price import CloudPrice, Crowd
from updraft_edge.stopping.rules import FixedLength, RateStop

from .capacity_record import Script
from .objective import Seen
from .simulated_cloud import Job, SimulatedCloud
from .stopping_replay import Clock, Timeline, agreed, draft_run
from .traffic import Asking, Link

__all__ = ["Mode", "SimulatedEdge", "simulate"]

_LONGEST: Final = 16
_NUMBERS: Final = count()  # of sessions


@dataclass(frozen=True, slots=True)
class Mode:
    """How sessions are served.

    Attributes:
        length: a fixed run length; None for the agent's own rule, which heeds measured costs.
        heeds: the cloud may write where drafting does not carry its load.
        drafts: False for mode `cloud`.
        co_located: the draft model runs on the cloud's engine, too (the baseline of Speculation at a Distance): each
            pass waits for the longest of its drafts, and no link lies between. It needs a length.
    """

    name: str
    length: int | None = None
    heeds: bool = True
    drafts: bool = True
    co_located: bool = False


@dataclass(slots=True)
class SimulatedEdge:
    """One edge: what it has learned stays with it from answer to answer."""

    mode: Mode
    link: Link
    clock: Clock = field(default_factory=Clock)
    costs: Costs = field(default_factory=Costs)
    predictor: ScorePredictor = field(default_factory=lambda: ScorePredictor(confidence, Calibration()))
    busy: bool = False

    def rule(self) -> StopRule:
        if self.mode.length is not None:
            return FixedLength(self.mode.length)
        return RateStop(
            self.predictor,
            self.costs,
            shortest=1,
            longest=_LONGEST,
            ready=self.clock.available,
            clock=self.clock,
            heed_load=self.mode.heeds,
        )

    def policy(self) -> WhileItCarries | None:
        if self.mode.length is None and self.mode.heeds and not self.mode.co_located:
            return WhileItCarries(self.costs, self.predictor, _LONGEST)
        return None


Steps = Generator[tuple[float, Job], None, None]


class _Session:
    """One answer: a generator that says when a job sets out for the cloud, and goes on when its answer is back."""

    def __init__(self, cloud: SimulatedCloud, edge: SimulatedEdge, script: Script, asking: Asking) -> None:
        self._cloud = cloud
        self._edge = edge
        self._script = script
        self._text = script.recording.text[: asking.tokens]
        self._half_s = 0.0 if edge.mode.co_located else edge.link.round_trip_s / 2
        self._pace = script.pace(asking.script * 31)
        self._job: Job | None = None  # at the cloud, until the prompt is computed
        self._read = False
        self.arrivals: list[float] = []

    def begin(self, ended: Callable[[], None]) -> None:
        """Open the session, and call `ended` after the last token."""
        self._ended = ended
        self._cloud.sessions += 1
        self._number = next(_NUMBERS)
        self._after(self._half_s, self._open)
        self._advance(self._collaborate() if self._edge.mode.drafts else self._written(self._now, len(self._text)))

    @property
    def _now(self) -> float:
        return self._cloud.time.now

    def _after(self, seconds: float, what: Callable[[], None]) -> None:
        self._cloud.time.at(self._now + seconds, what)

    def _open(self) -> None:
        positions = len(self._script.prompt) - 1
        self._cloud.submit(Job(Priority.PREFILL, positions, 0, self._computed))

    def _computed(self) -> None:
        self._read = True
        if self._job is not None:
            self._cloud.submit(self._job)

    def _arrived(self, job: Job) -> None:
        if job.priority is Priority.VERIFY:
            self._cloud.crowd.asked(self._number, job.positions - 1, self._now)
        if self._read:
            self._cloud.submit(job)
        else:
            self._job = job

    def _advance(self, steps: Steps) -> None:
        step = next(steps, None)
        if step is None:
            self._cloud.sessions -= 1
            self._cloud.crowd.left(self._number)
            self._ended()
            return
        when, job = step
        job.done = partial(self._computed_job, steps, job, job.done)
        self._cloud.time.at(when + self._half_s, partial(self._arrived, job))

    def _computed_job(self, steps: Steps, job: Job, seen: Callable[[], None]) -> None:
        """In the cloud, after a pass: the answer sets out, and with the last one what the cloud's work costs."""
        self._note(job)
        price = self._price() if job.tokens == 0 else None
        self._after(self._half_s, partial(self._answered, steps, price, seen))

    def _note(self, job: Job) -> None:
        """What the cloud sees of its sessions."""
        if job.priority is Priority.WRITE:
            self._cloud.crowd.wrote(self._number, 1)
        elif job.priority is Priority.VERIFY:
            self._cloud.crowd.judged(self._number, job.accepted)

    def _answered(self, steps: Steps, price: CloudPrice | None, seen: Callable[[], None]) -> None:
        seen()
        if price is not None:
            self._edge.costs.heed(price)
            self._advance(steps)

    def _price(self) -> CloudPrice:
        cloud, seen = self._cloud, self._cloud.crowd.figures
        crowd = None if seen is None else Crowd(seen.acceptance, seen.away_s, seen.prompt)
        return CloudPrice(cloud.curve.pass_s, cloud.curve.position_s, cloud.load, cloud.sessions, crowd)

    def _written(self, when: float, tokens: int) -> Steps:
        """The cloud writes so many tokens; each arrives half a round trip after its pass."""
        yield when, Job(Priority.WRITE, 1, 1, lambda: self.arrivals.append(self._now), tokens=tokens)

    def _collaborate(self) -> Steps:
        """Mode `draft`: runs by the stop rule, and spans where the policy lets the cloud write."""
        edge, clock = self._edge, self._edge.clock
        rule, policy = edge.rule(), edge.policy()
        clock.now = self._now
        timeline = self._timeline()
        while (left := len(self._text) - len(self.arrivals)) > 0:
            if policy is not None and policy.yields():
                yield from self._written(clock.now, min(left, policy.span))
                clock.now = self._now
                timeline.settle(None, clock.now)
                continue
            place = len(self.arrivals)
            proposals = self._script.recording.run(place, 2 * _LONGEST)
            run = draft_run(proposals, left, rule, clock, timeline)[: left - 1]
            asked = clock.now
            drafts_s = len(run) * self._script.median_s if edge.mode.co_located else 0.0
            accepted = agreed(run, self._text[place:])
            job = Job(Priority.VERIFY, len(run) + 1, len(run) + 1, lambda: None, draft_s=drafts_s, accepted=accepted)
            yield asked, job
            clock.now = self._now
            self._settle(timeline, run, accepted, place)
            if place:  # the first one has waited for the prompt
                edge.costs.note_verdict(len(run) + 1, clock.now - asked, clock.now - asked - 2 * self._half_s)
            rule.learn(run, accepted)
            self.arrivals += [clock.now] * min(accepted + 1, left)

    def _timeline(self) -> Timeline:
        """Drafted tokens as they were recorded; where the model is the cloud's, the passes wait for them."""
        costs, now = self._edge.costs, self._edge.clock.now
        if self._edge.mode.co_located:
            return Timeline(lambda: 0.0, 2 * _LONGEST, costs, now)
        return Timeline(lambda: next(self._pace), 2 * _LONGEST, costs, now + self._script.read_s)

    def _settle(self, timeline: Timeline, run: Sequence[Sampled], accepted: int, place: int) -> None:
        now = self._edge.clock.now
        timeline.work_until(now)
        following = self._script.recording.run(place, len(run) + 1)[len(run) :]
        own = self._text[place + accepted : place + accepted + 1]
        kept = accepted == len(run) and tuple(drawn.token for drawn in following) == own
        timeline.settle(len(run) + 1 if kept else None, now)


def simulate(
    cloud: SimulatedCloud,
    mode: Mode,
    clients: Sequence[Sequence[Asking]],
    scripts: Sequence[Script],
    links: Sequence[Link],
    until_s: float = math.inf,
) -> list[Seen]:
    """What the readers of all sessions see. No session begins after `until_s`.

    Args:
        clients: what each asks, one session after the other; each at its time, or when the last one has ended. An
            edge has one session at a time; edges of a link are used again.
    """
    edges: list[list[SimulatedEdge]] = [[] for _ in links]
    seen: list[Seen] = []

    def begin(asked: list[Asking]) -> None:
        asking, asked_s = asked[0], cloud.time.now
        if asked_s > until_s:
            return
        own = edges[asking.edge]
        edge = next((edge for edge in own if not edge.busy), None)
        if edge is None:
            edge = SimulatedEdge(mode, links[asking.edge])
            own.append(edge)
        edge.busy = True
        session = _Session(cloud, edge, scripts[asking.script], asking)

        def ended() -> None:
            edge.busy = False
            seen.append(Seen(asked_s, tuple(when - asked_s for when in session.arrivals)))
            if asked[1:]:
                cloud.time.at(asked[1].at_s, partial(begin, asked[1:]))

        session.begin(ended)

    for client in clients:
        if client:
            cloud.time.at(client[0].at_s, partial(begin, list(client)))
    cloud.time.run()
    return sorted(seen, key=lambda one: one.asked_s)
