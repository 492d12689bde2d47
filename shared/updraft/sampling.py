"""Coupled sampling: the token drawn is a pure function of the logits, the parameters, the seed and the position.

Noise for (seed, position, token id) comes from a counter-based hash (`updraft.noise`), so the edge and the cloud draw
with the same noise and a draft is verified by equality. The draw is the exponential race: with weights
`w_v = exp(l_v / T)` over the kept set K and `E_v = -ln U(seed, position, v)`, the token is `argmin E_v / w_v`. That is
`argmax l_v / T + G_v` with `G = -ln(-ln U)`: an exact sample from softmax(l / T) over K (Gumbel coupling; Daliri,
Musco, Suresh, arXiv 2408.07978, section 3).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from updraft.errors import InvalidRequest
from updraft.noise import key_of, race

__all__ = [
    "MAX_LOGIT_BIAS",
    "MAX_SEED",
    "MAX_TOP_LOGPROBS",
    "SHAPE_TOKENS",
    "Distribution",
    "Sampled",
    "Sampler",
    "SamplingParams",
    "measure",
    "shaped",
]

MAX_SEED = 2**64 - 1
MAX_TOP_LOGPROBS = 20
MAX_LOGIT_BIAS = 1024
SHAPE_TOKENS = 10

Logits = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a token is chosen. `temperature` 0 is greedy; the seed is drawn when left out."""

    temperature: float = 0.0
    top_k: int = 0  # 0: no limit
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0  # divides or multiplies logits of tokens seen in prompt or answer
    frequency_penalty: float = 0.0  # subtracted once per occurrence in the answer
    presence_penalty: float = 0.0  # subtracted once if the token is in the answer
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        _in_range("temperature", self.temperature, 0.0, 100.0)
        _in_range("top_k", self.top_k, 0, 2**31 - 1)
        _in_range("top_p", self.top_p, 0.0, 1.0)
        _in_range("min_p", self.min_p, 0.0, 1.0)
        _in_range("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
        _in_range("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
        _in_range("presence_penalty", self.presence_penalty, -100.0, 100.0)
        if self.top_p == 0.0:
            raise InvalidRequest("top_p is 0; it must be above 0 and at most 1.", param="top_p")
        if self.seed is not None:
            _in_range("seed", self.seed, 0, MAX_SEED)
        if len(self.logit_bias) > MAX_LOGIT_BIAS:
            raise InvalidRequest(
                f"logit_bias names {len(self.logit_bias)} tokens; at most {MAX_LOGIT_BIAS} are allowed.",
                param="logit_bias",
            )
        for token, bias in self.logit_bias.items():
            _in_range("logit_bias", token, 0, 2**31 - 1)
            _in_range("logit_bias", bias, -100.0, 100.0)

    def with_seed(self) -> SamplingParams:
        """The same parameters with a concrete seed, so that both tiers and a resumed session draw alike."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(64))

    @property
    def has_penalties(self) -> bool:
        return self.repetition_penalty != 1.0 or self.frequency_penalty != 0.0 or self.presence_penalty != 0.0


def _in_range(name: str, value: float, low: float, high: float) -> None:
    """Raise InvalidRequest unless `value` is a number from `low` to `high`; NaN is outside of every range."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidRequest(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}.", param=name)


@dataclass(frozen=True, slots=True)
class Distribution:
    """By-products of one pass over a row of raw logits (before temperature, penalties and bias)."""

    energy: float  # log-sum-exp of the logits; E-LANG's free energy is its negative (arXiv 2203.00748, section 3)
    entropy: float  # nats
    top_probability: float
    margin: float | None = None  # lead of the best token over the second, where a Sampler was asked for it (`shape`)
    mass: float | None = None  # probability of the SHAPE_TOKENS best tokens together, likewise


@dataclass(frozen=True, slots=True)
class Sampled:
    """A drawn token with the by-products of its row; log-probabilities are of the raw distribution."""

    token: int
    logprob: float
    distribution: Distribution
    top: tuple[tuple[int, float], ...] = ()
    layer: int | None = None  # layers of the model below the exit that it left at; None for the whole model
    hidden: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    """The last layer's normalised hidden state that it was drawn from, shape (width,), where it was asked for."""


def measure(logits: Logits) -> Distribution:
    """Energy, entropy and top probability of one row; float32 throughout, which is exact to about 1e-5."""
    return _measure(float(logits.max()), logits - logits.max(), np.empty_like(logits))


def _measure(peak: float, shifted: Logits, weights: Logits) -> Distribution:
    """As `measure`, from the logits less their peak; `weights` is written to."""
    np.exp(shifted, out=weights)
    total = float(weights.sum())
    if not math.isfinite(total):
        raise InvalidRequest("The model returned logits that are not finite.", remedy="The model file is damaged.")
    with np.errstate(invalid="ignore"):
        spread = float(np.dot(weights, shifted))
    if math.isnan(spread):  # a token at -inf has weight 0 and must add 0, not 0 * -inf
        spread = float(np.dot(weights, np.maximum(shifted, np.float32(-1e4))))
    log_total = math.log(total)
    return Distribution(peak + log_total, max(0.0, log_total - spread / total), 1.0 / total)


def shaped(distribution: Distribution, shifted: Logits) -> Distribution:
    """The same with margin and mass, from the row's logits less their peak."""
    best = np.exp(shifted[_largest(shifted, min(SHAPE_TOKENS, len(shifted)))]) * distribution.top_probability
    second = float(best[1]) if len(best) > 1 else 0.0
    return replace(distribution, margin=float(best[0]) - second, mass=min(1.0, float(best.sum())))


_COLDEST = 1e-30  # below it logits leave float32, and the most probable token is drawn in any case


class Sampler:
    """Draws the tokens of one answer. Feed it every committed token in order; it keeps the penalties' counts.

    Args:
        params: sampling parameters with a concrete seed.
        prompt: prompt token ids, for the repetition penalty.
        top_logprobs: how many alternatives to report for each token.
        shape: also measure `Distribution.margin` and `.mass`.
    """

    def __init__(
        self, params: SamplingParams, prompt: Sequence[int] = (), *, top_logprobs: int = 0, shape: bool = False
    ) -> None:
        if params.seed is None:
            raise ValueError("Sampler needs concrete parameters: call SamplingParams.with_seed() first.")
        self.params = params
        self._temperature = np.float32(0.0 if params.temperature < _COLDEST else params.temperature)
        self._seed_key = key_of(params.seed)
        self._top_logprobs = top_logprobs
        self._shape = shape
        self._seen = set(prompt) if params.repetition_penalty != 1.0 else set()
        self._counts: dict[int, int] = {}
        self._bias_ids: Ids = np.fromiter(params.logit_bias.keys(), np.int64, len(params.logit_bias))
        self._bias = np.fromiter(params.logit_bias.values(), np.float32, len(params.logit_bias))
        self._adjusts = params.has_penalties or bool(params.logit_bias)
        self._rows: Logits | None = None

    def draw(self, logits: Logits, position: int, *, pending: Sequence[int] = ()) -> Sampled:
        """The token at `position` of the log, given its row of logits.

        `pending` are tokens before `position` that have not been committed to this sampler (a draft under way).
        """
        best = int(logits.argmax())
        peak = logits[best]
        shifted, weights = self._buffers(len(logits))
        np.subtract(logits, peak, out=shifted)
        distribution = _measure(float(peak), shifted, weights)
        if self._shape:
            distribution = shaped(distribution, shifted)
        if self._adjusts:
            adjusted = self._adjust(logits, pending)
            best = int(adjusted.argmax())
            np.subtract(adjusted, adjusted[best], out=shifted)
        token = best if self._temperature == 0.0 else self._choose(shifted, position)
        logprob = float(logits[token]) - distribution.energy
        return Sampled(token, logprob, distribution, self._alternatives(logits, distribution.energy))

    def adjusted(self, logits: Logits) -> Logits:
        """Logits after bias and penalties; the row itself where there are none. Temperature is not applied."""
        return self._adjust(logits, ()) if self._adjusts else logits

    def likeness(self, logits: Logits, token: int) -> float:
        """How probable a token is compared with the most probable one, 0 to 1, where tokens are drawn from: after bias
        and penalties, at the temperature (1 where it is 0), and 0 for what top-k, top-p or min-p leave out."""
        shifted = self.adjusted(logits)
        shifted = shifted - shifted.max()
        params = self.params
        if self._temperature > 0.0 and (params.top_k or params.top_p < 1.0 or params.min_p > 0.0):
            kept, _ = self._kept(shifted)
            if token not in kept:
                return 0.0
        return math.exp(float(shifted[token]) / (params.temperature if self._temperature > 0.0 else 1.0))

    def commit(self, tokens: Sequence[int]) -> None:
        """Count tokens that now stand in the answer."""
        if self.params.has_penalties:
            for token in tokens:
                self._counts[token] = self._counts.get(token, 0) + 1

    def _buffers(self, size: int) -> tuple[Logits, Logits]:
        """Two rows that are written anew for each draw: a fresh allocation costs more than the arithmetic."""
        if self._rows is None or self._rows.shape[1] != size:
            self._rows = np.empty((2, size), np.float32)
        return self._rows[0], self._rows[1]

    def _choose(self, shifted: Logits, position: int) -> int:
        kept, weights = self._kept(shifted)
        return int(kept[race(weights, kept, key_of(self._seed_key ^ position))])

    def _kept(self, shifted: Logits) -> tuple[Ids, Logits]:
        """Ids that top-k, top-p and min-p keep, in increasing order, with their weights; the peak has weight 1."""
        params = self.params
        if 0 < params.top_k < len(shifted):
            kept = np.sort(_largest(shifted, params.top_k))
            weights = np.exp(shifted[kept] / self._temperature)
        else:
            kept = _vocabulary_ids(len(shifted))
            weights = np.exp(shifted / self._temperature)
        if params.min_p > 0.0:
            inside = np.flatnonzero(weights >= params.min_p)
            kept, weights = kept[inside], weights[inside]
        if params.top_p < 1.0:
            inside = np.sort(_nucleus(weights, params.top_p))
            kept, weights = kept[inside], weights[inside]
        return kept, weights

    def _adjust(self, logits: Logits, pending: Sequence[int]) -> Logits:
        """Logits after bias and penalties."""
        adjusted = logits.copy()
        inside = self._bias_ids < len(adjusted)
        adjusted[self._bias_ids[inside]] += self._bias[inside]
        if self.params.has_penalties:
            self._penalise(adjusted, pending)
        return adjusted

    def _penalise(self, logits: Logits, pending: Sequence[int]) -> None:
        counts = dict(self._counts)
        for token in pending:
            counts[token] = counts.get(token, 0) + 1
        if self.params.repetition_penalty != 1.0:
            seen = np.fromiter(self._seen | counts.keys(), np.int64)
            values = logits[seen]
            penalty = np.float32(self.params.repetition_penalty)
            logits[seen] = np.where(values > 0, values / penalty, values * penalty)
        if counts:
            ids = np.fromiter(counts.keys(), np.int64, len(counts))
            times = np.fromiter(counts.values(), np.float32, len(counts))
            logits[ids] -= np.float32(self.params.frequency_penalty) * times + np.float32(self.params.presence_penalty)

    def _alternatives(self, logits: Logits, energy: float) -> tuple[tuple[int, float], ...]:
        if not self._top_logprobs:
            return ()
        ids = _largest(logits, min(self._top_logprobs, len(logits)))
        return tuple((int(i), float(logits[i]) - energy) for i in ids)


@lru_cache(maxsize=4)
def _vocabulary_ids(size: int) -> Ids:
    ids = np.arange(size, dtype=np.int64)
    ids.setflags(write=False)
    return ids


def _largest(values: Logits, count: int) -> Ids:
    """Ids of the `count` largest values, largest first, equal values by id.

    Sorts only values near the peak: a band that holds at least `count` of them holds the largest.
    """
    peak = values.max()
    for depth in (4.0, 8.0, 16.0, 32.0):
        near = np.flatnonzero(values >= peak - np.float32(depth))
        if len(near) >= count:
            break
    else:
        near = np.arange(len(values))
    return near[np.argsort(-values[near], kind="stable")[:count]]


def _nucleus(weights: Logits, mass: float) -> Ids:
    """Indices of the fewest largest weights that together hold `mass` of the total, largest first."""
    goal = mass * float(weights.sum(dtype=np.float64))
    for floor in (1e-2, 1e-4, 1e-6, 0.0):
        near = np.flatnonzero(weights >= floor)
        if float(weights[near].sum(dtype=np.float64)) >= goal:
            break
    ordered = near[np.argsort(-weights[near], kind="stable")]
    reached = int(np.searchsorted(np.cumsum(weights[ordered], dtype=np.float64), goal))
    return ordered[: reached + 1]
