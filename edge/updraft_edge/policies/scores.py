"""Scores of single tokens, high where the edge is unsure: what the mode `span` compares over a window."""

from __future__ import annotations

import hashlib
import math
from typing import Final, Protocol

from updraft.mode_settings import SpanSettings
from updraft.routing.features import FeatureWindow
from updraft.routing.router import Router
from updraft.sampling import Distribution, Sampled

__all__ = [
    "DEFAULT_THRESHOLDS",
    "SHAPED",
    "EnergyScore",
    "EntropyScore",
    "LearnedScore",
    "MarginScore",
    "RandomScore",
    "TokenScore",
    "TwoSidedScore",
    "lead",
    "make_score",
    "uniform",
]

DEFAULT_THRESHOLDS: Final[dict[str, float | None]] = {
    "entropy": 2.0,
    "two_sided": 2.0,
    "energy": None,  # a level of log-sum-exp means something for one model file only
    "margin": 0.75,
    "learned": 0.5,
    "random": None,
}
"""What `span.escalate` is when left out; None: as much as the budget's share, or 20 % of the tokens without one."""

SHAPED: Final = frozenset({"margin", "learned"})
"""Scores that need `Sampler(shape=True)`."""


class TokenScore(Protocol):
    """How unsure the edge was of a token."""

    def note(self, sampled: Sampled, place: int) -> float:
        """The score of the answer's next edge token, at `place` of it; high is unsure, NaN if the model gave none."""
        ...

    def of_mean(self, mean: float) -> float:
        """What the mean over a window counts as, against the threshold."""
        ...

    def restart(self) -> None:
        """The cloud has written."""
        ...


class _Plain:
    """A score without a memory, whose mean counts as it is."""

    def of_mean(self, mean: float) -> float:
        return mean

    def restart(self) -> None:
        pass


class EntropyScore(_Plain):
    """Entropy in nats (EAD, arXiv 2502.06833)."""

    def note(self, sampled: Sampled, place: int) -> float:
        return sampled.distribution.entropy


class TwoSidedScore(_Plain):
    """Entropy, and also its want: a mean at `floor` counts as one at `threshold`, and a lower one as a higher one.

    A model that repeats itself is very sure of every token.
    """

    def __init__(self, threshold: float, floor: float) -> None:
        self._turn = threshold + floor

    def note(self, sampled: Sampled, place: int) -> float:
        return sampled.distribution.entropy

    def of_mean(self, mean: float) -> float:
        return max(mean, self._turn - mean)


class EnergyScore(_Plain):
    """E-LANG's free energy: less the log-sum-exp of the raw logits (arXiv 2203.00748, section 3)."""

    def note(self, sampled: Sampled, place: int) -> float:
        return -sampled.distribution.energy


class MarginScore(_Plain):
    """One less the lead of the best token over the second, 0 to 1."""

    def note(self, sampled: Sampled, place: int) -> float:
        return 1.0 - lead(sampled.distribution)


class LearnedScore:
    """The router's probability that the cloud would reject the token; `hopeless` is its other output for it."""

    def __init__(self, router: Router, prompt_length: int) -> None:
        self._router = router
        self._window = FeatureWindow(prompt_length)
        self.hopeless = 0.0

    def note(self, sampled: Sampled, place: int) -> float:
        verdicts = self._router.token(self._window.note(sampled, place))
        self.hopeless = verdicts.hopeless
        return verdicts.rejected

    def of_mean(self, mean: float) -> float:
        return mean

    def restart(self) -> None:
        self._window.restart()


class RandomScore(_Plain):
    """The baseline: a number from 0 to 1 that depends on seed and place alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def note(self, sampled: Sampled, place: int) -> float:
        return uniform(self._seed, place)


def lead(distribution: Distribution) -> float:
    """The lead of the best token; NaN where nobody measured it."""
    return math.nan if distribution.margin is None else distribution.margin


def uniform(seed: int, place: int) -> float:
    """A number from 0 to 1, the same for the same seed and place."""
    digest = hashlib.blake2b(f"{seed} {place}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def make_score(
    settings: SpanSettings, *, threshold: float | None, seed: int, prompt_length: int, router: Router | None
) -> TokenScore:
    """The score that the settings name; the learned one needs a router."""
    if settings.score == "two_sided":
        return TwoSidedScore(2.0 if threshold is None else threshold, settings.floor)
    if settings.score == "learned":
        if router is None:
            raise RuntimeError("the learned score needs a router")
        return LearnedScore(router, prompt_length)
    if settings.score == "random":
        return RandomScore(seed)
    plain: dict[str, type[EntropyScore | EnergyScore | MarginScore]] = {
        "entropy": EntropyScore,
        "energy": EnergyScore,
        "margin": MarginScore,
    }
    return plain[settings.score]()
