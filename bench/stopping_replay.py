"""Exact replay of drafting and asking: what any stop rule would cost on any link, from one recording of the two models.

Greedy decoding is a function of the text, so what an edge model would draft from each place of the cloud's own text can
be recorded once. The wall time of a rule then follows from the recorded costs by walking the agent's pipeline: the edge
drafts on while a verdict is on its way; what it drafted is kept if the whole run stands and it guessed the cloud's own
token, too; else it ends the pass that it is in and begins again after the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from updraft.sampling import Sampled
from updraft_edge.seams import StopRule
from updraft_edge.stopping.costs import Costs

__all__ = ["Clock", "Machine", "Outcome", "Recording", "RuleMaker", "Timeline", "agreed", "draft_run", "replay"]


@dataclass(frozen=True, slots=True)
class Recording:
    """What an edge model drafts along the cloud's own text.

    Attributes:
        text: the cloud's tokens.
        drafts: for every place, the token that the edge draws after the text before it.
        tails: for the places where that is not the cloud's, what it would draft after its own token.
    """

    text: tuple[int, ...]
    drafts: tuple[Sampled, ...]
    tails: dict[int, tuple[Sampled, ...]]

    def run(self, start: int, count: int) -> list[Sampled]:
        """The first `count` tokens that it drafts at a place; fewer at the end of the text or of a tail."""
        found: list[Sampled] = []
        for place in range(start, min(start + count, len(self.text))):
            found.append(self.drafts[place])
            if self.drafts[place].token != self.text[place]:
                found += self.tails[place][: start + count - place - 1]
                break
        return found

    @property
    def share(self) -> float:
        """Places where the edge's token is the cloud's."""
        return sum(drawn.token == token for drawn, token in zip(self.drafts, self.text, strict=True)) / len(self.text)


@dataclass(frozen=True, slots=True)
class Machine:
    """Measured costs, seconds.

    Attributes:
        draft_s: of a drafted token.
        verify_s: of the cloud's pass over so many positions, from 1; beyond the last it grows as between the last two.
        overhead_s: of a verdict on a link without delay, besides the pass.
        first_s: from the question to the first draft.
    """

    draft_s: float
    verify_s: tuple[float, ...]
    overhead_s: float = 0.0
    first_s: float = 0.0

    def pass_s(self, positions: int) -> float:
        known = self.verify_s
        if positions <= len(known):
            return known[positions - 1]
        slope = known[-1] - known[-2] if len(known) > 1 else 0.0
        return known[-1] + slope * (positions - len(known))


class Clock:
    """The replay's time, and whether the drafter has its next token at it: what a rule sees of the agent."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ready = False

    def __call__(self) -> float:
        return self.now

    def available(self) -> bool:
        return self.ready


RuleMaker = Callable[[Costs, Clock], StopRule]


@dataclass(slots=True)
class Outcome:
    """What answers cost."""

    tokens: int = 0
    rounds: int = 0
    run_tokens: int = 0
    accepted: int = 0
    drafted: int = 0  # also beyond what was ever asked about
    positions: int = 0
    seconds: float = 0.0
    lengths: list[int] = field(default_factory=list)

    def add(self, other: Self) -> None:
        self.tokens += other.tokens
        self.rounds += other.rounds
        self.run_tokens += other.run_tokens
        self.accepted += other.accepted
        self.drafted += other.drafted
        self.positions += other.positions
        self.seconds += other.seconds
        self.lengths += other.lengths

    def row(self) -> dict[str, float]:
        """Per token and per round."""
        tokens, rounds = max(1, self.tokens), max(1, self.rounds)
        return {
            "wall_ms_per_token": 1e3 * self.seconds / tokens,
            "mean_accepted": self.accepted / rounds,
            "mean_run": self.run_tokens / rounds,
            "cloud_passes_per_token": self.rounds / tokens,
            "cloud_positions_per_token": self.positions / tokens,
            "edge_tokens_per_token": self.drafted / tokens,
        }


def replay(
    recording: Recording,
    rule: StopRule,
    costs: Costs,
    clock: Clock,
    machine: Machine,
    round_trip_s: float,
    *,
    ahead: int,
) -> Outcome:
    """Write one answer.

    Args:
        rule: made with `costs`, `clock` and `clock.available`; it learns, and so do the costs.
        ahead: uncommitted tokens that the drafter may hold, as the agent's.
    """
    drafter = Timeline(lambda: machine.draft_s, ahead, costs, clock.now)
    outcome, begun, place = Outcome(tokens=len(recording.text)), clock.now, 0
    while place < len(recording.text):
        run = draft_run(recording.run(place, ahead), len(recording.text) - place, rule, clock, drafter)
        asked, worked = clock.now, machine.pass_s(len(run) + 1)
        clock.now += round_trip_s + machine.overhead_s + worked
        accepted = agreed(run, recording.text[place:])
        drafter.work_until(clock.now)
        following = recording.run(place, len(run) + 1)[len(run) :]
        own = recording.text[place + accepted : place + accepted + 1]
        kept = accepted == len(run) and tuple(drawn.token for drawn in following) == own
        drafter.settle(len(run) + 1 if kept else None, clock.now)
        costs.note_verdict(len(run) + 1, clock.now - asked, worked)
        rule.learn(run, accepted)
        place += accepted + 1
        outcome.rounds += 1
        outcome.run_tokens += len(run)
        outcome.accepted += accepted
        outcome.positions += len(run) + 1
        outcome.lengths.append(len(run))
    outcome.drafted = drafter.drafted
    outcome.seconds = clock.now - begun
    return outcome


def draft_run(
    proposals: Sequence[Sampled], room: int, rule: StopRule, clock: Clock, drafter: Timeline
) -> list[Sampled]:
    """The agent's run: proposals as they come, until the rule ends it or the answer is full."""
    run: list[Sampled] = []
    for number, proposed in enumerate(proposals):
        clock.now = max(clock.now, drafter.time_of(number))
        clock.ready = drafter.time_of(number + 1) <= clock.now if number + 1 < drafter.ahead else False
        run.append(proposed)
        if len(run) >= room or rule.ends(run):
            break
    return run


def agreed(run: Sequence[Sampled], text: Sequence[int]) -> int:
    """Tokens of a run before the first that is not the text's."""
    accepted = 0
    while accepted < min(len(run), len(text)) and run[accepted].token == text[accepted]:
        accepted += 1
    return accepted


class Timeline:
    """When drafted tokens come: one pass after the other, at most `ahead` uncommitted.

    Args:
        draft_s: seconds of the next drafted token.
    """

    def __init__(self, draft_s: Callable[[], float], ahead: int, costs: Costs, now: float) -> None:
        self.ahead = ahead
        self.drafted = 0
        self._draft_s = draft_s
        self._costs = costs
        self._times: list[float] = []  # of the uncommitted tokens, in order
        self._free = now  # when the pass under way ends

    def time_of(self, number: int) -> float:
        """When the uncommitted token of this number is there, counted from 0."""
        while len(self._times) <= number:
            seconds = self._draft_s()
            self._free += seconds
            self._times.append(self._free)
            self.drafted += 1
            self._costs.note_draft(seconds)
        return self._times[number]

    def work_until(self, now: float) -> None:
        """Begin passes until then; the last one goes on to its end."""
        while self._free < now and len(self._times) < self.ahead:
            self.time_of(len(self._times))

    def settle(self, kept: int | None, now: float) -> None:
        """So many of its tokens are committed now, and the rest stands; None: all are forgotten."""
        full = len(self._times) >= self.ahead
        if kept is None or kept > len(self._times):
            self._times.clear()
        else:
            del self._times[:kept]
        if full or not self._times:
            self._free = max(self._free, now)
