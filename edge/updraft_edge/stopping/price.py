"""What a drafted position costs a shared cloud, and when the cloud had better write itself.

Edges that draft share the cloud's passes as the customers of a closed queue share a server that takes them in
batches. A session is away for `away_s` (link and drafting); back in a cloud where others keep passes running it waits
for the end of the one under way, `wait`, and then takes part in one of its own,

    turn = pass_s + position_s x p x (1 + (n - 1) x turn / cycle),      cycle = away_s + wait + turn

for n sessions whose rounds have p positions each (mean-value analysis: a session that arrives sees the n - 1 others
where they would be without it). One that is away for less than a turn takes part in every other pass, and so do the
others, half of them in each: cycle = 2 turns; else it comes at some moment of a pass, wait = turn / 2, and the turn
is the positive root of

    1.5 turn^2 + turn x (away_s - 1.5 own - (n - 1) position_s p) - own x away_s = 0,      own = pass_s + position_s p.

A round of a run of g tokens with acceptance a commits (1 - a^(g+1)) / (1 - a) tokens. A session that the cloud writes
for is in every pass: pass_s + n x position_s a token. Where passes are mostly `pass_s` (memory-bound), drafts win;
where they are mostly positions (compute-bound), a position that is rejected is a position that somebody else waits
for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["CloudPrice", "Crowd", "committed"]


@dataclass(frozen=True, slots=True)
class Crowd:
    """What the cloud says of all its sessions that draft.

    Attributes:
        acceptance: share of drafted tokens that stand in a session that accepts little.
        away_s: from a verdict to the next draft.
        prompt: prompt positions that are computed for each token that is committed.
    """

    acceptance: float
    away_s: float
    prompt: float


@dataclass(frozen=True, slots=True)
class CloudPrice:
    """What the cloud says of itself.

    Attributes:
        pass_s, position_s: seconds that a pass takes whatever is in it, and that each position adds.
        load: share of the recent time that passes took, 0 to 1.
        sessions: open sessions, this one included.
        crowd: what they are like, where the cloud knows.
    """

    pass_s: float
    position_s: float
    load: float
    sessions: int
    crowd: Crowd | None = None

    def turn_s(self, positions: float, away_s: float) -> float:
        """A pass if every session's rounds have so many positions and it is away for so long."""
        own = self.position_s * positions
        turn = self.pass_s + own * max(1.0, 0.5 * (self._others + 1))
        if away_s < turn:
            return turn
        half = 0.5 * (away_s - 1.5 * (self.pass_s + own) - self._others * own)
        return (math.sqrt(half * half + 1.5 * (self.pass_s + own) * away_s) - half) / 1.5

    def round_s(self, positions: float, away_s: float) -> float:
        """From one verdict to the next: away, waiting for the pass that the others keep running, and a turn."""
        turn = self.turn_s(positions, away_s)
        wait = turn - away_s if away_s < turn else 0.5 * turn
        gone = away_s / (away_s + turn) if away_s > 0.0 else 0.0
        return away_s + (1.0 - gone**self._others) * wait + turn

    def surcharge_s(self, positions: float, away_s: float) -> float:
        """What one more position costs a round beyond its own time, since the others wait for it, too.

        The growth of the round with the positions of all sessions, less the position itself, weighted with the load:
        nothing for a session that is alone or in an idle cloud.
        """
        grown = self.round_s(positions + 0.5, away_s) - self.round_s(positions - 0.5, away_s)
        return self.load * max(0.0, grown - self.position_s)

    def busy(self, positions: float, away_s: float) -> float:
        """Share of the time in which passes would run if every session drafted so: some session is there."""
        turn = self.turn_s(positions, away_s)
        gone = away_s / (turn + away_s) if away_s > 0.0 else 0.0
        return 1.0 - gone ** (self._others + 1)

    @property
    def writing_s(self) -> float:
        """Seconds a token if the cloud writes for every session, and computes the prompts that come with it."""
        prompt = 0.0 if self.crowd is None else self.crowd.prompt
        return self.pass_s + (self._others + 1) * (1.0 + prompt) * self.position_s

    def drafting(self, acceptance: float, length: int, away_s: float) -> tuple[float, float]:
        """Seconds a token if every session drafts runs of `length`, and the share of time in which passes run.

        What the cloud knows of its sessions goes before what is given: acceptance and seconds away of this one.
        """
        prompt = 0.0
        if self.crowd is not None:
            acceptance, away_s, prompt = self.crowd.acceptance, self.crowd.away_s, self.crowd.prompt
        tokens = committed(acceptance, length)
        positions = length + 1.0 + prompt * tokens
        return self.round_s(positions, away_s) / tokens, self.busy(positions, away_s)

    @property
    def _others(self) -> int:
        return max(0, self.sessions - 1)


def committed(acceptance: float, length: int) -> float:
    """Tokens that a round commits: a run of `length`, each of which stands with probability `acceptance`, and one."""
    if acceptance >= 1.0:
        return length + 1.0
    return float(1.0 - acceptance ** (length + 1)) / (1.0 - acceptance)
