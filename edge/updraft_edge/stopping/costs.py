"""What drafting and asking cost, measured while answers are written."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

from updraft_edge.stopping.price import CloudPrice

__all__ = ["Costs"]


class Costs:
    """What a drafted token and a verdict cost, in seconds, and how fast the answers of this agent grow.

    A verdict on a run of k tokens takes `network_s + cloud_s + (k + 1) * position_s`. The cloud says how long it
    worked, so the link is what is left: the median of a few verdicts, which follows a change of the link within three
    of them and ignores a single late one. The cloud's part is a running least-squares line through (positions, time).
    """

    _RATE = 0.05
    _ROUND_TRIPS = 5
    _FAR = 4.0  # times the expected: a pause of the machine, and no price

    def __init__(
        self,
        *,
        draft_s: float = 0.01,
        network_s: float = 0.005,
        cloud_s: float = 0.02,
        position_s: float = 0.002,
        round_tokens: float = 3.0,
        run_length: float = 4.0,
    ) -> None:
        self.draft_s = draft_s
        self.position_s = position_s
        self._network = deque([network_s], self._ROUND_TRIPS)
        self._positions, self._time = 5.0, cloud_s + 5.0 * position_s
        self._variance, self._covariance = 4.0, 4.0 * position_s
        self._tokens, self._length = round_tokens, run_length
        self._unhidden_s = 2.0 * draft_s
        self._rounds = 0
        self.verdicts = 0
        self.price: CloudPrice | None = None  # as the cloud told it last

    @property
    def network_s(self) -> float:
        """The link's part of a verdict: there and back."""
        return median(self._network)

    @property
    def cloud_s(self) -> float:
        """What a verdict costs the cloud however short its run is."""
        return max(self._time - self._positions * self.position_s, 1e-6)

    @property
    def round_s(self) -> float:
        """What a verdict costs however short its run is, link included."""
        return self.network_s + self.cloud_s

    @property
    def positions(self) -> float:
        """Mean positions of the verdicts' passes."""
        return self._positions

    @property
    def worked_s(self) -> float:
        """Mean time that the cloud worked for a verdict."""
        return self._time

    @property
    def run_length(self) -> float:
        """Mean length of the runs, tokens."""
        return self._length

    @property
    def surcharge_s(self) -> float:
        """What one more position of a run costs the cloud's other sessions, as far as the cloud is loaded."""
        if self.price is None:
            return 0.0
        return self.price.surcharge_s(self._length + 1.0, self.network_s + self._unhidden_s)

    @property
    def rate(self) -> float:
        """Committed tokens a second: mean tokens a round over what such a round costs now.

        The time is put together from its parts, so that a change of the link counts at once.
        """
        return self._tokens / (self._unhidden_s + self.verdict_s(self._length))

    @property
    def threshold(self) -> float:
        """SpecDec++ (arXiv 2405.19715, theorem 3.1): stop when P(some token is rejected) reaches c2 / (c1 + c2), with
        c1 what one more token costs on both tiers and c2 what another verdict costs."""
        return self.round_s / (self.draft_s + self.position_s + self.round_s)

    def verdict_s(self, length: float) -> float:
        """From asking to the verdict on a run of `length` tokens."""
        return self.round_s + (length + 1.0) * self.position_s

    def heed(self, price: CloudPrice) -> None:
        """The cloud has said what its work costs."""
        self.price = price

    def note_draft(self, seconds: float) -> None:
        """The edge has drafted a token."""
        if math.isfinite(seconds) and seconds >= 0.0:
            self.draft_s += self._RATE * (min(seconds, self._FAR * self.draft_s) - self.draft_s)

    def note_verdict(self, positions: int, seconds: float, cloud_s: float) -> None:
        """A verdict has come: positions that the cloud computed, time waited, and how much of it the cloud worked."""
        if not math.isfinite(seconds + cloud_s) or seconds < 0.0 or positions < 1:
            return
        cloud_s = min(max(cloud_s, 0.0), seconds)
        if not self.verdicts:  # nothing is measured yet: the first one replaces what was assumed
            self._network.clear()
            scale = max(cloud_s, 1e-6) / (self.cloud_s + positions * self.position_s)
            self.position_s *= scale
            self._time, self._covariance = self._time * scale, self._covariance * scale
        self.verdicts += 1
        self._network.append(seconds - cloud_s)
        expected = self._time + (positions - self._positions) * self.position_s
        above, late = positions - self._positions, min(cloud_s, self._FAR * expected) - self._time
        # Gains fall as 1/n until the running mean takes over, so that a start is quick and an end is steady.
        gain = max(self._RATE, 1.0 / (self.verdicts + 4))
        self._positions += gain * above
        self._time += gain * late
        self._variance += gain * (above * above - self._variance)
        self._covariance += gain * (above * late - self._covariance)
        # Runs of one length say nothing about the slope; one position never costs more than its share of the whole.
        if self._variance > 0.25:
            self.position_s = min(max(self._covariance / self._variance, 0.0), self._time / self._positions)

    def note_round(self, tokens: int, length: int, unhidden_s: float) -> None:
        """A round is over: tokens that it committed, length of its run, and how long the edge drafted while nobody
        waited for the cloud."""
        self._rounds += 1
        gain = max(self._RATE, 1.0 / (self._rounds + 4))
        self._tokens += gain * (tokens - self._tokens)
        self._length += gain * (length - self._length)
        # A slow reader of the answer is no cost of drafting.
        longest = (length + 1) * self._FAR * self.draft_s
        self._unhidden_s += gain * (min(max(unhidden_s, 0.0), longest) - self._unhidden_s)
