"""Where resampling ends: false positives of a verifier set a ceiling (Inference Scaling fLaws, arXiv 2411.17501)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from updraft.strategies.cap import Cap
from updraft.strategies.resample import Resample
from updraft.strategies.resampling import Resampling
from updraft.strategies.subject import Subject

from .strategy_curves import budgets
from .strategy_pool import Pool, run_on

__all__ = ["resampled"]

_TRUE_POSITIVES: Final = 0.9


async def resampled(pools: Sequence[Pool], subject: Subject, most: int) -> dict[str, Any]:
    """Accuracy of "draw until the verifier passes one", measured and as its rates predict, beside an exact verifier.

    The verifier's score becomes a verdict at the threshold that passes nine of ten right answers of every second
    question; its rates are those on these questions, and what is predicted and measured are the others.
    """
    known, tried = pools[::2], pools[1::2]
    right, scores = _flat(known)
    threshold = float(np.quantile(scores[right], 1 - _TRUE_POSITIVES)) if right.any() else 0.5
    passed = scores >= threshold
    true_rate, false_rate = (float(passed[part].mean()) if part.any() else 0.0 for part in (right, ~right))
    model = Resampling.of_problems([float(np.mean(pool.right)) for pool in tried], false_rate, true_rate)
    rows = []
    for tries in budgets(most):
        rows.append(
            {
                "tries": tries,
                "accuracy": float(np.mean([await _tried(pool, subject, threshold, tries) for pool in tried])),
                "exact": float(np.mean([any(pool.right[:tries]) for pool in tried])),
                "predicted": model.accuracy(tries),
            }
        )
    return {
        "threshold": threshold,
        "false_positive_rate": false_rate,
        "true_positive_rate": true_rate,
        "ceiling": model.ceiling,
        "rows": rows,
    }


def _flat(pools: Sequence[Pool]) -> tuple[Any, Any]:
    right = np.array([one for pool in pools for one in pool.right])
    scores = np.array([judged.score or 0.0 for pool in pools for judged in pool.judgements])
    return right, scores


async def _tried(pool: Pool, subject: Subject, threshold: float, tries: int) -> bool:
    """Whether the strategy `resample` is right with so many tries, where the verifier passes from a threshold on."""
    judgements = tuple(
        replace(judged, passed=judged.score is not None and judged.score >= threshold) for judged in pool.judgements
    )
    strategy = Resample(cap=Cap(unmeasured=tries))
    return (await run_on(replace(pool, judgements=judgements).part(0, tries), subject, strategy)).right
