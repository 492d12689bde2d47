"""The noise of coupled sampling: a pure function of a key and a token id, the same on every machine.

It comes from SplitMix64, a counter-based hash: nothing is kept, and any token's noise can be had without the others'.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["key_of", "race"]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_FACTOR_1 = 0xBF58476D1CE4E5B9
_FACTOR_2 = 0x94D049BB133111EB


def key_of(value: int) -> int:
    """A key of 64 bits from an integer: SplitMix64's output function (Steele, Lea, Flood, OOPSLA 2014, figure 15)."""
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * _FACTOR_1) & _MASK
    value = ((value ^ (value >> 27)) * _FACTOR_2) & _MASK
    return value ^ (value >> 31)


def _hashes(ids: NDArray[np.int64], key: int) -> NDArray[np.uint64]:
    """53 random bits for each id: SplitMix64 with the id as counter."""
    state = ids.astype(np.uint64)
    state *= np.uint64(_GOLDEN)
    state += np.uint64(key)
    shifted = np.empty_like(state)
    for shift, factor in ((30, _FACTOR_1), (27, _FACTOR_2)):
        state ^= np.right_shift(state, np.uint64(shift), out=shifted)
        state *= np.uint64(factor)
    state ^= np.right_shift(state, np.uint64(31), out=shifted)
    state >>= np.uint64(11)
    return state


_STRONG = np.float32(1e-5)


def race(weights: NDArray[np.float32], ids: NDArray[np.int64], key: int) -> int:
    """Index of the smallest -ln(U) / weight, where 1 - U = (bits + 1/2) / 2^53.

    The logarithm is taken only where it can matter: for strong weights, and, because -ln(U) >= 1 - U, for those weak
    ones whose 1 - U is so small that they could beat the best strong one.
    """
    bits = _hashes(ids, key)
    strong = np.flatnonzero(weights >= _STRONG)
    times = _arrivals(bits[strong], weights[strong])
    first = int(times.argmin())
    winner, best = int(strong[first]), float(times[first])
    reach = best * float(_STRONG) * 2.0**53
    for index in np.flatnonzero(bits <= np.uint64(min(reach, 2.0**53))):
        if 0.0 < weights[index] < _STRONG:
            time = float(_arrivals(bits[index], weights[index]))
            if time < best:
                winner, best = int(index), time
    return winner


def _arrivals(bits: NDArray[np.uint64], weights: NDArray[np.float32]) -> NDArray[np.float64]:
    return -np.log1p(-(bits.astype(np.float64) + 0.5) * 2.0**-53) / weights.astype(np.float64)
