"""The compute-optimal choice, fitted on questions of its own and measured beside the best fixed strategy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from updraft.evaluation.curves import auc
from updraft.strategies import Budget
from updraft.strategies.difficulty import FEATURES, features_of
from updraft.strategies.fit import candidates_for, fit_choice
from updraft.strategies.self_consistency import SelfConsistency
from updraft.strategies.subject import Question

from .strategy_curves import row_of
from .strategy_laboratory import Laboratory
from .strategy_pool import run_on

__all__ = ["choose"]

_PILOT: Final = 4  # of the edge's answers


async def choose(
    lab: Laboratory,
    fitted: Sequence[Question],
    test: Sequence[Question],
    curves: Sequence[dict[str, Any]],
    *,
    price: float,
    seed: int,
) -> dict[str, Any]:
    """Fit on one split, measure on the other; the rows of the comparison and the plans."""
    strategy = await fit_choice(lab.cloud, fitted, candidates_for(lab.cloud, price), price=price, seed=seed)
    attempts = await lab.cloud.attempts(test, strategy, Budget(samples=64), seed=seed)
    own = row_of("auto", 0, [[attempt] for attempt in attempts])
    best = max(curves, key=lambda row: (row["accuracy"], -row["tokens"]))
    cheapest = min((row for row in curves if row["accuracy"] >= own["accuracy"]), key=_tokens, default=best)
    rows = [
        own | {"setup": "chosen for each question"},
        best | {"setup": f"best fixed: {best['strategy']}, {best['samples']} samples"},
        cheapest | {"setup": f"cheapest fixed as good: {cheapest['strategy']}, {cheapest['samples']} samples"},
    ]
    for row in rows:
        row["share"] = row["tokens"] / best["tokens"]
    return {
        "rows": rows,
        "signals": await _signals(lab, test, seed=seed),
        "strategy": strategy.model_dump(mode="json"),
        "price": price,
    }


async def _signals(lab: Laboratory, questions: Sequence[Question], *, seed: int) -> list[dict[str, Any]]:
    """How well each signal of the edge's answers tells whether their vote is wrong, as the area under its ROC curve."""
    pools = await lab.pools(lab.edge, questions, _PILOT, seed=seed)
    votes = [await run_on(pool, lab.edge, SelfConsistency()) for pool in pools]
    wrong = [not vote.right for vote in votes]
    rows = [features_of(pool.samples, [judged.score for judged in pool.judgements]) for pool in pools]
    signals = zip(FEATURES, zip(*rows, strict=True), strict=True)
    return [{"signal": name, "auc": _auc(values, wrong)} for name, values in signals if len(set(values)) > 1]


def _auc(values: Sequence[float], wrong: Sequence[bool]) -> float | None:
    """None where all are right, or all wrong."""
    return auc(values, wrong) if 0 < sum(wrong) < len(wrong) else None


def _tokens(row: dict[str, Any]) -> float:
    return float(row["tokens"])
