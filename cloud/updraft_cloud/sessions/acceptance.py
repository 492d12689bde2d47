"""Acceptance rules: how much of a draft stands."""

from __future__ import annotations

import math
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from updraft.errors import InvalidRequest
from updraft.sampling import Sampled, Sampler

__all__ = ["AcceptanceRule", "AnyRule", "Likelihood", "Lossless", "Tolerance"]

Logits = NDArray[np.float32]


class AcceptanceRule(Protocol):
    """Judges one drafted token against what the cloud's model drew at the same position."""

    def accepts(self, drafted: int, sampled: Sampled, logits: Logits, sampler: Sampler) -> bool:
        """Whether the drafted token stands.

        Args:
            sampled: the cloud's own draw, which is the correction where it does not.
            logits: the row it was drawn from, shape (vocabulary,).
            sampler: knows the answer's bias, penalties and temperature.
        """
        ...


class Lossless(msgspec.Struct, frozen=True, tag=True):
    """A drafted token stands if it is the token that the cloud's model draws itself.

    With coupled sampling this is exact at any temperature: the text is the one the cloud would have written alone.
    """

    def accepts(self, drafted: int, sampled: Sampled, logits: Logits, sampler: Sampler) -> bool:
        return drafted == sampled.token


class Tolerance(msgspec.Struct, frozen=True, tag=True):
    """TokenV3 of speculative cascades (arXiv 2405.19261): a drafted token y stands if p(y) >= (1 - alpha) max p.

    p is what the cloud's tokens are drawn from: after bias, penalties, temperature, top-k, top-p and min-p; the greedy
    rule (temperature 0) compares at temperature 1. With A = {v: p(v) >= (1 - alpha) max p}, the drafted token y ~ q and
    the cloud's own x ~ p, the text gets y if y is in A, else x, so that
    P(v) = q(v) [v in A] + P(x = v, y not in A).
    The published rule draws the correction anew, which makes the last term p(v) q(not A). Here y and x share their
    noise, so x depends on y: where y is outside A, x is likelier to be there, too. Either way a token outside A is
    written only where the cloud itself draws it; the coupled text differs from the cloud's own in fewer places,
    namely with probability P(y in A, y != x). The cloud's own draw always stands, which changes no text. At alpha 0 the
    greedy text is the cloud's own to the token, also where two logits are equal.

    Raises InvalidRequest unless `alpha` is from 0 to 1.
    """

    alpha: float

    def __post_init__(self) -> None:
        _check_share("acceptance.tolerance", self.alpha)

    def accepts(self, drafted: int, sampled: Sampled, logits: Logits, sampler: Sampler) -> bool:
        if drafted == sampled.token:
            return True
        if self.alpha == 0.0 and sampler.params.temperature == 0.0:
            return False
        return sampler.likeness(logits, drafted) >= 1.0 - self.alpha


class Likelihood(msgspec.Struct, frozen=True, tag=True):
    """Sirius (arXiv 2409.03856): a drafted token stands if softmax(logits / temperature) gives it `threshold` or more.

    The temperature is the rule's own; bias and penalties count as in drawing. The first token that falls short ends
    the run, and the cloud's own draw takes its place; that draw itself always stands, so that threshold 1 is lossless.

    Raises InvalidRequest unless `threshold` is from 0 to 1 and `temperature` above 0 and at most 100.
    """

    threshold: float
    temperature: float

    def __post_init__(self) -> None:
        _check_share("acceptance.likelihood.threshold", self.threshold)
        if not 0.0 < self.temperature <= 100.0:
            raise InvalidRequest(
                f"acceptance.likelihood.temperature is {self.temperature}; it must be above 0, at most 100."
            )

    def accepts(self, drafted: int, sampled: Sampled, logits: Logits, sampler: Sampler) -> bool:
        if drafted == sampled.token:
            return True
        adjusted = sampler.adjusted(logits)
        shifted = (adjusted - adjusted.max()) / np.float32(self.temperature)
        # Against the most probable token alone first: most that fall short do so already here.
        bound = math.exp(float(shifted[drafted]))
        return bound >= self.threshold and bound / float(np.exp(shifted).sum(dtype=np.float64)) >= self.threshold


AnyRule = Lossless | Tolerance | Likelihood


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:  # NaN is outside of every range
        raise InvalidRequest(f"{name} is {value}; it must be a number from 0 to 1.", param=name)
