"""How sure a tier was of what it wrote or judged: scores by which whole items could have been sent to the cloud."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from updraft.sampling import Sampled

__all__ = ["SIGNALS", "Signals", "signals_of"]

SIGNALS: Final = {
    "entropy": "mean entropy of the edge's answer (nats)",
    "first_entropy": "entropy of its first token (nats)",
    "surprise": "mean -log p of its tokens (nats)",
    "free_energy": "less its mean log-sum-exp (E-LANG, arXiv 2203.00748)",
    "close_call": "less the lead of the best option over the next (nats a token)",
}
"""Names and meanings; higher always means less sure."""


class Signals:
    """Sums over the tokens of an answer. Numbers that are not finite are left out."""

    def __init__(self) -> None:
        self._sums = {"surprise": 0.0, "entropy": 0.0, "free_energy": 0.0}
        self._counts = dict.fromkeys(self._sums, 0)
        self._first: float | None = None

    def add(self, logprob: float, entropy: float, energy: float) -> None:
        """One token's numbers, in nats."""
        if self._first is None and math.isfinite(entropy):
            self._first = entropy
        for name, value in (("surprise", -logprob), ("entropy", entropy), ("free_energy", -energy)):
            if math.isfinite(value):
                self._sums[name] += value
                self._counts[name] += 1

    def values(self) -> dict[str, float]:
        found = {name: self._sums[name] / count for name, count in self._counts.items() if count}
        return found if self._first is None else found | {"first_entropy": self._first}


def signals_of(scores: Iterable[Sampled], *, given: bool = False) -> dict[str, float]:
    """As if a tier had written these tokens; `given` ones say nothing of how sure it was, only their places do."""
    signals = Signals()
    for scored in scores:
        logprob = math.nan if given else scored.logprob
        signals.add(logprob, scored.distribution.entropy, scored.distribution.energy)
    return signals.values()
