"""What estimates that a drafted token stands: the edge's own confidence or a trained head, calibrated from verdicts."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from updraft.acceptance_head import AcceptanceHead, read_acceptance_head
from updraft.engine.base import ModelInfo
from updraft.errors import InvalidRequest
from updraft.exits.isotonic import pool_adjacent_violators
from updraft.mode_settings import StopSettings
from updraft.sampling import Sampled

__all__ = ["Calibration", "Predictor", "Predictors", "ScorePredictor", "confidence", "head_score"]


class Predictor(Protocol):
    """Probability that a drafted token stands, if all before it do."""

    @property
    def mean(self) -> float:
        """Share of judged tokens that stood: what to expect of a token that is not drafted yet."""
        ...

    @property
    def upper(self) -> float:
        """What that share may be at best, as far as one can tell from so few: who gives up below it learns no more."""
        ...

    def __call__(self, sampled: Sampled) -> float:
        """From 0 to 1. Raises InvalidRequest where the token carries no usable score."""
        ...

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        """A verdict on a run."""
        ...


class Calibration:
    """Isotonic regression of "it stood" on a score from 0 to 1, learned online with bounded memory.

    Pooling of adjacent violators (Ayer et al., 1955; for probabilities Zadrozny and Elkan, KDD 2002) over a reservoir
    of bins that are equally wide in -log2(1 - score), since most scores crowd near 1. Old verdicts fade: when the bins
    hold `MEMORY` tokens, all counts are halved, so that another text or another model is learned within as many.

    Args:
        prior: probability expected of a score before anything is learned; it weighs as much as `PRIOR` tokens a bin.
    """

    BINS = 32
    WIDTH = 0.5  # of a bin: 1 - score falls by a factor of sqrt(2)
    PRIOR = 1.0
    MEMORY = 4096.0

    def __init__(self, prior: Callable[[float], float] | None = None) -> None:
        expect = prior or _half_way
        middles = [1.0 - 2.0 ** (-(index + 0.5) * self.WIDTH) for index in range(self.BINS)]
        self._prior = [min(max(expect(middle), 0.0), 1.0) for middle in middles]
        self._stood = [0.0] * self.BINS
        self._judged = [0.0] * self.BINS
        self._places = [0.0] * self.BINS  # sums of where in its bin each of them was
        self._total = 0.0
        self._knots: list[float] = []  # in bins, increasing
        self._levels: list[float] = []
        self._stale = True

    @property
    def mean(self) -> float:
        """Share of judged tokens that stood; the prior's middle bin counts as a few of them."""
        return (sum(self._stood) + 4.0 * 0.7) / (self._total + 4.0)

    @property
    def upper(self) -> float:
        """Two standard deviations above the mean."""
        mean = self.mean
        return min(1.0, mean + 2.0 * math.sqrt(mean * (1.0 - mean) / (self._total + 4.0)))

    def __call__(self, score: float) -> float:
        """The calibrated probability; never falls with the score. Raises InvalidRequest unless 0 <= score <= 1."""
        place = self._place(score)
        if self._stale:
            self._fit()
        after = bisect_right(self._knots, place)
        if after == 0:
            return self._levels[0]
        if after == len(self._knots):
            return self._levels[-1]
        low, high = self._knots[after - 1], self._knots[after]
        share = (place - low) / (high - low)
        return self._levels[after - 1] + share * (self._levels[after] - self._levels[after - 1])

    def learn(self, score: float, stood: bool) -> None:
        """A verdict on one token. Raises InvalidRequest unless 0 <= score <= 1."""
        place = self._place(score)
        index = min(self.BINS - 1, int(place))
        self._places[index] += place
        self._stood[index] += stood
        self._judged[index] += 1.0
        self._total += 1.0
        self._stale = True
        if self._total >= self.MEMORY:
            self._stood = [count / 2.0 for count in self._stood]
            self._judged = [count / 2.0 for count in self._judged]
            self._places = [place / 2.0 for place in self._places]
            self._total /= 2.0

    def _place(self, score: float) -> float:
        """The score in bins, 0 to `BINS`."""
        if not 0.0 <= score <= 1.0:  # NaN is outside of every range
            raise InvalidRequest(
                f"A drafted token has the confidence {score}; it must be from 0 to 1.",
                remedy="The drafter's model returned scores that are not finite; its file is damaged.",
            )
        left = 1.0 - score
        return min(-math.log2(left) / self.WIDTH, self.BINS) if left > 0.0 else float(self.BINS)

    def _fit(self) -> None:
        stood = [count + self.PRIOR * prior for count, prior in zip(self._stood, self._prior, strict=True)]
        judged = [count + self.PRIOR for count in self._judged]
        places = [
            (total + self.PRIOR * (index + 0.5)) / count
            for index, (total, count) in enumerate(zip(self._places, judged, strict=True))
        ]
        starts = [*pool_adjacent_violators(stood, judged), self.BINS]
        self._knots, self._levels = [], []
        for first, last in pairwise(starts):
            self._knots += [places[first], places[last - 1]]
            self._levels += [sum(stood[first:last]) / sum(judged[first:last])] * 2
        self._stale = False


class ScorePredictor:
    """A score of the token, calibrated: SpecDec++'s acceptance probability (arXiv 2405.19715, section 3.2)."""

    def __init__(self, score: Callable[[Sampled], float], calibration: Calibration) -> None:
        self._score = score
        self._calibration = calibration

    @property
    def mean(self) -> float:
        return self._calibration.mean

    @property
    def upper(self) -> float:
        return self._calibration.upper

    def __call__(self, sampled: Sampled) -> float:
        return self._calibration(self._score(sampled))

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        """Tokens after the first rejected one were never judged and teach nothing."""
        for index, sampled in enumerate(run[: accepted + 1]):
            self._calibration.learn(self._score(sampled), index < accepted)


def confidence(sampled: Sampled) -> float:
    """The edge's own largest probability."""
    return min(sampled.distribution.top_probability, 1.0)


def head_score(head: AcceptanceHead) -> Callable[[Sampled], float]:
    """What a trained head says of a token. The score of each token is computed once."""
    last: list[tuple[Sampled, float]] = []

    def score(sampled: Sampled) -> float:
        for known, value in last:
            if known is sampled:
                return value
        if sampled.hidden is None:
            raise InvalidRequest("A drafted token carries no hidden state for the acceptance head.")
        distribution = sampled.distribution
        value = head(sampled.hidden, distribution.top_probability, distribution.entropy, sampled.logprob)
        last.append((sampled, value))
        del last[:-_KEPT]
        return value

    return score


class Predictors:
    """The predictors that an agent's requests share: one for each kind of predictor and each way of judging.

    What stands depends on the acceptance rule and on whether tokens are drawn greedily, so verdicts of one way of
    judging teach nothing of another. The least recently used of more than `MOST` is forgotten.

    Args:
        model: the edge's model.
        head: file of the acceptance head, if there is one.

    Raises: as `read_acceptance_head` and `AcceptanceHead.check` do.
    """

    MOST = 16

    def __init__(self, model: ModelInfo, head: Path | None) -> None:
        self._head: AcceptanceHead | None = None
        self._made: dict[Hashable, ScorePredictor] = {}
        if head is not None:
            self._head = read_acceptance_head(head)
            self._head.check(width=model.width, fingerprint=model.fingerprint)

    def reads_hidden(self, settings: StopSettings) -> bool:
        """The drafter's tokens must carry their hidden states."""
        return settings.rule == "risk" and settings.predictor == "head"

    def of(self, settings: StopSettings, judging: Hashable = None) -> Predictor:
        """The predictor that the settings name, as it is for one way of judging.

        Raises InvalidRequest where the settings name a head and the agent has none.
        """
        key = (self.reads_hidden(settings), judging)
        found = self._made.pop(key, None) or self._make(hidden=key[0])
        self._made[key] = found  # the most recently used comes last
        if len(self._made) > self.MOST:
            del self._made[next(iter(self._made))]
        return found

    def _make(self, *, hidden: bool) -> ScorePredictor:
        if not hidden:
            return ScorePredictor(confidence, Calibration())
        if self._head is None:
            raise InvalidRequest(
                "The predictor is a trained head, and this agent has none.",
                remedy="Train one with `updraft train acceptance` and name its file in edge.acceptance_head.",
                param="updraft.stop.predictor",
            )
        return ScorePredictor(head_score(self._head), Calibration(prior=lambda score: score))


_KEPT = 64  # tokens whose scores are looked up again when their verdict comes


def _half_way(score: float) -> float:
    """Models of one family agree more often than the edge is sure: half-way between its confidence and certainty."""
    return (1.0 + score) / 2.0
