"""What the cloud's passes cost, measured on themselves, and told to the edges with every answer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from updraft.engine.loop import PassRecord
from updraft_cloud.engine.crowd import CrowdFigures
from updraft_cloud.frames import Cost, Crowd

__all__ = ["PassCosts"]

_MEMORY: Final = 128.0  # passes after which one weighs 1/e
_FAR: Final = 3.0  # standard deviations that a turn may be off the line and still count in full
_LEAST: Final = 0.1  # and so much of the mean turn in any case, so that a line that fitted exactly can be left
_WARM: Final = 8  # passes before the first cost is told
_VARIES: Final = 0.25  # least variance of the passes' positions
_SETTLE_S: Final = 1.0  # after which time of the load the past weighs 1/e
_LONGEST_S: Final = 3600.0  # of a turn
_LARGEST: Final = 0xFFFFFFFF  # of a number on the wire


class PassCosts:
    """Running robust regression `seconds = pass + position * n` over the engine's turns, and the engine's load.

    A turn is what a pass takes others: the pass, the draws of its rows and the loop around it. Recursive least squares
    with an exponential memory; a turn further off the line than `_FAR` standard deviations is pulled in to there
    (Huber's psi), so that a pause of the machine moves nothing and a lasting change is followed within some passes.
    Neither cost is ever below 0. Both gains fall as 1/n at first.

    Args:
        clock: seconds; the load is the share of its time that turns took.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._count = 0
        self._positions = self._seconds = 0.0  # means
        self._variance = self._covariance = 0.0  # of positions; of positions and seconds
        self._slope = 0.0
        self._spread = 0.0  # mean square of what the line leaves
        self._busy, self._seen = 0.0, clock()

    def note(self, record: PassRecord) -> None:
        """A pass is over and handed out. Values that no pass can have are ignored."""
        shares = (record.verify, record.write, record.score, record.prefill)
        positions = sum(share.positions for share in shares)
        seconds = record.seconds + record.consumed_s + record.overhead_s
        if positions < 1 or not 0.0 < seconds < _LONGEST_S:
            return
        self._note_load(seconds)
        self._regress(float(positions), seconds)

    @property
    def load(self) -> float:
        """Share of the recent time that turns took, 0 to 1."""
        return min(1.0, self._busy * math.exp(-max(0.0, self._clock() - self._seen) / _SETTLE_S))

    @property
    def position_s(self) -> float:
        """What one more position costs a pass."""
        return self._slope

    @property
    def pass_s(self) -> float:
        """What a pass costs whatever is in it."""
        return max(self._seconds - self._positions * self.position_s, 0.0)

    def cost(self, sessions: int = 0, crowd: CrowdFigures | None = None) -> Cost | None:
        """What work costs now, with so many open sessions like these; None before enough was measured."""
        if self._count < _WARM:
            return None
        alike = None if crowd is None else Crowd(crowd.acceptance, _micros(crowd.away_s), crowd.prompt)
        return Cost(_micros(self.pass_s), _micros(self.position_s), self.load, sessions, alike)

    def _note_load(self, seconds: float) -> None:
        now = self._clock()
        gap = max(now - self._seen, 0.0)
        past = math.exp(-gap / _SETTLE_S)
        busy = min(seconds, gap) / gap if gap > 0.0 else 1.0
        self._busy, self._seen = past * self._busy + (1.0 - past) * busy, now

    def _regress(self, positions: float, seconds: float) -> None:
        above = positions - self._positions
        expected = self._seconds + above * self._slope
        left = seconds - expected
        if self._count >= _WARM:
            bound = max(_FAR * math.sqrt(self._spread), _LEAST * self._seconds)
            left = min(max(left, -bound), bound)
        self._count += 1
        gain = max(1.0 / _MEMORY, 1.0 / self._count)
        late = expected + left - self._seconds
        self._positions += gain * above
        self._seconds += gain * late
        self._variance = (1.0 - gain) * (self._variance + gain * above * above)
        self._covariance = (1.0 - gain) * (self._covariance + gain * above * late)
        if self._count > 1:  # the first turn is on the line whatever it took
            self._spread += max(1.0 / _MEMORY, 1.0 / (self._count - 1)) * (left * left - self._spread)
        if self._variance > _VARIES:  # passes of one size say nothing of the slope: the last one stays
            slope = self._covariance / self._variance
            # A position costs no more than its share of the whole, which keeps the rest of a pass from below 0.
            self._slope = min(max(slope, 0.0), self._seconds / self._positions)


def _micros(seconds: float) -> int:
    return min(round(seconds * 1e6), _LARGEST)
