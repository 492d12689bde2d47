"""Stop rules: how long a drafted run gets before the cloud is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from updraft.mode_settings import StopSettings
from updraft.sampling import Sampled

__all__ = ["AcceptanceEstimate", "Costs", "EntropyStop", "FixedLength", "RejectionRisk", "WhileReady", "make_stop_rule"]


class FixedLength:
    """Runs of one length."""

    def __init__(self, length: int) -> None:
        self._length = length

    def ends(self, run: Sequence[Sampled]) -> bool:
        return len(run) >= self._length

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        pass


class WhileReady:
    """Runs of whatever is ready: nobody is asked about them, so they are only the stride of the loop."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready

    def ends(self, run: Sequence[Sampled]) -> bool:
        return not self._ready()

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        pass


class EntropyStop:
    """Ends a run at the first token drawn from a distribution whose entropy (nats) reaches the threshold."""

    def __init__(self, threshold: float, longest: int) -> None:
        self._threshold = threshold
        self._longest = longest

    def ends(self, run: Sequence[Sampled]) -> bool:
        return len(run) >= self._longest or run[-1].distribution.entropy >= self._threshold

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        pass


class AcceptanceEstimate:
    """Share of drafted tokens that stood, by the edge's own top probability, learned from verdicts.

    Ten bins, each a running mean that starts from the bin's own confidence as if it had been seen `PRIOR` times.
    """

    BINS = 10
    PRIOR = 8.0

    def __init__(self) -> None:
        # Models of one family agree more often than the edge is sure, so the prior is above the bin's middle.
        self._mean = [(1 + (index + 0.5) / self.BINS) / 2 for index in range(self.BINS)]
        self._weight = [self.PRIOR] * self.BINS

    def __call__(self, top_probability: float) -> float:
        return self._mean[self._bin(top_probability)]

    def learn(self, top_probability: float, stood: bool) -> None:
        index = self._bin(top_probability)
        self._weight[index] += 1
        self._mean[index] += (stood - self._mean[index]) / self._weight[index]

    def _bin(self, top_probability: float) -> int:
        return min(self.BINS - 1, int(top_probability * self.BINS))


class Costs:
    """What a drafted token and a verdict cost, in seconds, learned while answers are written.

    A verdict is taken to cost `round_s` once and `position_s` for every token of its run: a running least-squares
    line through (run length, time waited).
    """

    _RATE = 0.05

    def __init__(self, *, draft_s: float = 0.01, round_s: float = 0.02, position_s: float = 0.002) -> None:
        self.draft_s = draft_s
        self.position_s = position_s
        self._length, self._time = 4.0, round_s + 4.0 * position_s
        self._variance, self._covariance = 4.0, 4.0 * position_s

    def note_draft(self, seconds: float) -> None:
        self.draft_s += self._RATE * (seconds - self.draft_s)

    def note_verdict(self, length: int, seconds: float) -> None:
        above, late = length - self._length, seconds - self._time
        self._length += self._RATE * above
        self._time += self._RATE * late
        self._variance += self._RATE * (above * above - self._variance)
        self._covariance += self._RATE * (above * late - self._covariance)
        # Runs of one length say nothing about the slope; one position never costs more than its share of the whole.
        if self._variance > 0.25:
            self.position_s = min(max(self._covariance / self._variance, 0.0), self._time / (self._length + 1))

    @property
    def round_s(self) -> float:
        """What a verdict costs however short its run is."""
        return max(self._time - self._length * self.position_s, 1e-6)

    @property
    def threshold(self) -> float:
        """Stop when P(some token is rejected) reaches this: c2 / (c1 + c2), SpecDec++ (arXiv 2405.19715, theorem 3.1),
        with c1 what one more token costs on both tiers and c2 what another verdict costs."""
        return self.round_s / (self.draft_s + self.position_s + self.round_s)


class RejectionRisk:
    """Ends a run when the probability that some token in it will be rejected passes a threshold (SpecDec++)."""

    def __init__(
        self, estimate: AcceptanceEstimate, threshold: Callable[[], float], *, shortest: int, longest: int
    ) -> None:
        self._estimate = estimate
        self._threshold = threshold
        self._shortest = shortest
        self._longest = longest

    def ends(self, run: Sequence[Sampled]) -> bool:
        if len(run) < self._shortest or len(run) >= self._longest:
            return len(run) >= self._longest
        all_stand = 1.0
        for sampled in run:
            all_stand *= self._estimate(sampled.distribution.top_probability)
        return 1.0 - all_stand >= self._threshold()

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        """Tokens after the first rejected one were never judged and teach nothing."""
        for index, sampled in enumerate(run[: accepted + 1]):
            self._estimate.learn(sampled.distribution.top_probability, index < accepted)


def make_stop_rule(
    settings: StopSettings, estimate: AcceptanceEstimate, costs: Costs
) -> FixedLength | EntropyStop | RejectionRisk:
    """The stop rule that the settings name; `estimate` and `costs` are shared by all requests of an agent."""
    match settings.rule:
        case "fixed":
            return FixedLength(settings.length)
        case "entropy":
            return EntropyStop(settings.entropy, settings.longest)
        case "risk":
            fixed = settings.risk
            threshold = (lambda: costs.threshold) if fixed is None else (lambda: fixed)
            return RejectionRisk(estimate, threshold, shortest=settings.shortest, longest=settings.longest)
