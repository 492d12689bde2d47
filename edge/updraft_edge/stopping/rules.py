"""Stop rules: how long a drafted run gets before the cloud is asked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from updraft.mode_settings import StopSettings
from updraft.sampling import Sampled
from updraft_edge.stopping.costs import Costs
from updraft_edge.stopping.predictors import Predictor

__all__ = [
    "Costs",
    "EntropyStop",
    "FixedLength",
    "RateStop",
    "RejectionRisk",
    "WhileReady",
    "at_most",
    "make_stop_rule",
]


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


class RejectionRisk:
    """Ends a run when the probability that some token in it will be rejected reaches a threshold.

    SpecDec++ (arXiv 2405.19715, section 3.2): the tokens' acceptance probabilities are multiplied.
    """

    def __init__(self, predictor: Predictor, threshold: Callable[[], float], *, shortest: int, longest: int) -> None:
        self._predictor = predictor
        self._threshold = threshold
        self._shortest = shortest
        self._longest = longest
        self._judged = 0  # tokens of the run that are in `_stands`
        self._stands = 1.0

    def ends(self, run: Sequence[Sampled]) -> bool:
        stands = self.stands(run)
        if len(run) < self._shortest or len(run) >= self._longest:
            return len(run) >= self._longest
        return 1.0 - stands >= self._threshold()

    def stands(self, run: Sequence[Sampled]) -> float:
        """Probability that the whole run stands; a run is asked about as it grows, so only its new tokens are read."""
        if len(run) <= self._judged:
            self._judged, self._stands = 0, 1.0
        for sampled in run[self._judged :]:
            self._stands *= self._predictor(sampled)
        self._judged = len(run)
        return self._stands

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        self._judged, self._stands = 0, 1.0
        self._predictor.learn(run, accepted)


class RateStop:
    """Ends a run where one more token no longer pays: the cost-aware form of SpecDec++'s rule, for a pipelined drafter.

    A round drafts k tokens, asks, and commits E = 1 + sum_j P_j tokens, where P_j is the probability that the first j
    stand. By renewal and reward the tokens a second are greatest where every round maximises
    E - rate x time at the greatest rate itself (Dinkelbach's fixed point, 1967: `Costs.rate` is measured on the rounds
    that this rule made, so it climbs to it). One more token brings P_k x a, with a the acceptance to expect of it, and
    costs

        wait + position_s + surcharge_s + P_k x (1 - a) x a x saved_s

    seconds: `wait` is draft_s, or 0 if the drafter has run ahead and the token is there; `surcharge_s` is what the
    cloud's other sessions wait for it, as far as the cloud is loaded (`CloudPrice`); the last term is that a longer
    run is rarer accepted as a whole, and only then what is drafted during the round trip can be used, which saves
    `saved_s` of the next round. The gain falls with k, so stopping at the first token that does not pay is optimal.
    Solved for P_k it is SpecDec++'s threshold (theorem 3.1) on 1 - P_k; without the pipeline (`saved_s` and waits as
    for a drafter that stands still) and other sessions the two are one.

    Args:
        ready: the next drafted token is there already.
        heed_load: what others wait for a position counts, too.
        clock: seconds.
    """

    def __init__(
        self,
        predictor: Predictor,
        costs: Costs,
        *,
        shortest: int,
        longest: int,
        ready: Callable[[], bool],
        heed_load: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._risk = RejectionRisk(predictor, lambda: 1.0 - self._least(), shortest=shortest, longest=longest)
        self._predictor = predictor
        self._costs = costs
        self._longest = longest
        self._ready = ready
        self._heed_load = heed_load
        self._clock = clock
        self._begun: float | None = None  # when the last verdict was learned
        self._drafted = 0.0  # when the run's last token came

    def ends(self, run: Sequence[Sampled]) -> bool:
        self._drafted = self._clock()
        return self._risk.ends(run)

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        if run and self._begun is not None:
            self._costs.note_round(accepted + 1, len(run), self._drafted - self._begun)
        self._begun = self._clock()
        self._risk.learn(run, accepted)

    def _least(self) -> float:
        """The probability of standing as a whole that a run needs to go on."""
        costs, rate, next_stands = self._costs, self._costs.rate, self._predictor.mean
        wait_s = 0.0 if self._ready() else costs.draft_s
        position_s = costs.position_s + (costs.surcharge_s if self._heed_load else 0.0)
        gain = next_stands - rate * (1.0 - next_stands) * next_stands * self._saved_s()
        return rate * (wait_s + position_s) / gain if gain > 0.0 else math.inf

    def _saved_s(self) -> float:
        """What the next round saves if this one's run stands and the drafter guessed the cloud's own token, too."""
        costs = self._costs
        ahead = math.ceil(costs.verdict_s(costs.run_length) / max(costs.draft_s, 1e-6)) - 1
        return costs.draft_s * max(0.0, min(ahead, costs.run_length, 2.0 * self._longest - costs.run_length))


def at_most(settings: StopSettings, longest: int) -> StopSettings:
    """The settings with no run longer than that, which is what the cloud takes; 0 where it has not said."""
    if longest < 1:
        return settings
    names = ("length", "shortest", "longest")
    return settings.model_copy(update={name: min(getattr(settings, name), longest) for name in names})


def make_stop_rule(
    settings: StopSettings, predictor: Predictor, costs: Costs, ready: Callable[[], bool]
) -> FixedLength | EntropyStop | RejectionRisk | RateStop:
    """The stop rule that the settings name.

    Args:
        predictor, costs: shared by all requests of an agent.
        ready: the drafter has its next token.
    """
    match settings.rule:
        case "fixed":
            return FixedLength(settings.length)
        case "entropy":
            return EntropyStop(settings.entropy, settings.longest)
        case "risk":
            fixed, shortest, longest = settings.risk, settings.shortest, settings.longest
            if fixed is not None:
                return RejectionRisk(predictor, lambda: fixed, shortest=shortest, longest=longest)
            heed_load = settings.heed_load
            return RateStop(predictor, costs, shortest=shortest, longest=longest, ready=ready, heed_load=heed_load)
