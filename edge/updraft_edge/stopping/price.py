"""What a drafted position costs a shared cloud, and when the cloud had better write itself.

Edges that draft share the cloud's passes as the customers of a closed queue share a server that takes them in batches.
A session is away for `away_s` (link and drafting), then in the cloud for one turn, which takes

    turn = pass_s + position_s x (its own positions + those of the others that are there, too)

and one of the others is there in turn / (turn + away_s) of the time (mean-value analysis: a session that arrives sees
what the others would do without it). With n sessions whose rounds have p positions each that is the positive root of

    turn^2 + turn x (away_s - pass_s - n x position_s x p) - (pass_s + position_s x p) x away_s = 0.

A round of a run of g tokens with acceptance a commits (1 - a^(g+1)) / (1 - a) tokens. A session that the cloud writes
for is in every pass: pass_s + n x position_s a token. Where passes are mostly `pass_s` (memory-bound), drafts win;
where they are mostly positions (compute-bound), a position that is rejected is a position that somebody else waits
for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["CloudPrice", "committed"]


@dataclass(frozen=True, slots=True)
class CloudPrice:
    """What the cloud says of itself.

    Attributes:
        pass_s, position_s: seconds that a pass takes whatever is in it, and that each position adds.
        load: share of the recent time that passes took, 0 to 1.
        sessions: open sessions, this one included.
    """

    pass_s: float
    position_s: float
    load: float
    sessions: int

    def turn_s(self, positions: float, away_s: float) -> float:
        """A turn in the cloud if every session's rounds have so many positions and it is away for so long."""
        own = self.position_s * positions
        half = 0.5 * (away_s - self.pass_s - self._sessions * own)
        return math.sqrt(half * half + (self.pass_s + own) * away_s) - half

    def surcharge_s(self, positions: float, away_s: float) -> float:
        """What one more position costs a round beyond its own time, since the others wait for it, too.

        The derivative of the turn by the positions of all sessions, less the position itself, weighted with the load:
        nothing for a session that is alone or in an idle cloud, and the time of all others where they always meet.
        """
        turn = self.turn_s(positions, away_s)
        below = 2.0 * turn + away_s - self.pass_s - self._sessions * self.position_s * positions
        if below <= 0.0:
            return 0.0
        slope = (self._sessions * turn + away_s) / below
        return self.load * self.position_s * max(0.0, slope - 1.0)

    def busy(self, positions: float, away_s: float) -> float:
        """Share of the time in which passes would run if every session drafted so: some session is there."""
        turn = self.turn_s(positions, away_s)
        gone = away_s / (turn + away_s) if away_s > 0.0 else 0.0
        return 1.0 - gone**self._sessions

    @property
    def writing_s(self) -> float:
        """Seconds a token if the cloud writes for every session."""
        return self.pass_s + self._sessions * self.position_s

    @property
    def _sessions(self) -> int:
        return max(1, self.sessions)


def committed(acceptance: float, length: int) -> float:
    """Tokens that a round commits: a run of `length`, each of which stands with probability `acceptance`, and one."""
    if acceptance >= 1.0:
        return length + 1.0
    return float(1.0 - acceptance ** (length + 1)) / (1.0 - acceptance)
