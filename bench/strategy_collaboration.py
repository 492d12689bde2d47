"""Edge and cloud together: the edge's answers are verified in the cloud, and only what is doubted is answered there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from updraft.evaluation.curves import bootstrap
from updraft.strategies.best_of_n import BestOfN
from updraft.strategies.self_consistency import SelfConsistency
from updraft.strategies.subject import Attempt, Question

from .strategy_curves import budgets
from .strategy_laboratory import Laboratory
from .strategy_pool import Pool, run_on

__all__ = ["collaborate"]

_EDGE_SAMPLES: Final = 16
_CLOUD_SAMPLES: Final = 32  # of the cloud alone, at most
_KEPT: Final = 0.97  # of the cloud's accuracy, on the questions that the threshold is fitted on


async def collaborate(
    lab: Laboratory,
    fitted: Sequence[Question],
    test: Sequence[Question],
    cloud_pools: Sequence[Pool],
    *,
    seed: int,
) -> dict[str, Any]:
    """Rows: each tier alone; then the edge's answer standing where enough of its votes agree, weighted by what the
    cloud's reward model gives each; else some of the cloud's vote with them, as in mode `solve`.

    How many of the cloud's, and the part of the vote that is enough, are fitted on questions of their own: what costs
    the cloud the fewest tokens while the whole keeps 97 % of its accuracy.
    """
    most = min(_CLOUD_SAMPLES, *(len(pool.samples) for pool in cloud_pools))
    cloud_fit = await lab.pools(lab.cloud, fitted, most, seed=seed)
    edge_fit = await lab.pools(lab.edge, fitted, _EDGE_SAMPLES, seed=seed)
    edge_test = await lab.pools(lab.edge, test, _EDGE_SAMPLES, seed=seed)
    count, threshold = _fit(await _table(lab, edge_fit, cloud_fit))
    table = await _table(lab, edge_test, [pool.part(0, most) for pool in cloud_pools])
    left = np.where(table["score"] >= threshold, 0.0, 1.0)
    zero, drawn, read = np.zeros(len(test)), table["edge_tokens"], table["edge_read"]
    rows = [
        _row(f"edge, vote of {_EDGE_SAMPLES}", table["edge_vote"], drawn, zero, zero, 0.0),
        _row(f"edge, {_EDGE_SAMPLES} verified in the cloud", table["edge"], drawn, zero, read, 0.0),
        _row(f"cloud, best of {most}", table["cloud"], zero, *_spent(table, most), 1.0),
    ]
    for joined, part in ((4, np.ones(len(test))), (8, np.ones(len(test))), (count, left)):
        tokens, positions = _spent(table, joined)
        some = f"{joined} of the cloud's vote with them" + (", in doubt" if part is left else "")
        right = np.where(part > 0, table["joined"][joined], table["edge"])
        rows.append(_row(some, right, drawn, part * tokens, read + part * positions, float(part.mean())))
    alone, both = rows[2], rows[-1]
    for row in rows:
        row["kept"] = row["accuracy"] / alone["accuracy"] if alone["accuracy"] else None
        row["share"] = row["cloud_tokens"] / alone["cloud_tokens"]
    return {
        "threshold": threshold,
        "samples": count,
        "rows": rows,
        "accuracy_kept": both["kept"],
        "token_share": both["share"],
    }


async def _table(lab: Laboratory, edge: Sequence[Pool], cloud: Sequence[Pool]) -> dict[str, Any]:
    """Per question: who is right, how far the edge's weighted votes agree, and what is drawn and verified; of the
    cloud's and of joined votes by the number of the cloud's samples."""
    strategy = BestOfN(weighted=True)
    edge_best = [await run_on(pool, lab.edge, strategy) for pool in edge]
    cloud_best = [await run_on(pool, lab.cloud, strategy) for pool in cloud]
    votes = [await run_on(pool, lab.edge, SelfConsistency()) for pool in edge]
    parts = {count: [pool.part(0, count) for pool in cloud] for count in budgets(len(cloud[0].samples))}
    joined = {
        count: [await run_on(ours.with_(theirs), lab.cloud, strategy) for ours, theirs in zip(edge, some, strict=True)]
        for count, some in parts.items()
    }
    return {
        "edge": _right(edge_best),
        "edge_vote": _right(votes),
        "cloud": _right(cloud_best),
        "joined": {count: _right(attempts) for count, attempts in joined.items()},
        "score": np.array([best.outcome.confidence for best in edge_best]),
        "edge_tokens": _tokens(edge),
        "edge_read": np.array([_positions(pool) for pool in edge]),
        "tokens": {count: _tokens(some) for count, some in parts.items()},
        "read": {count: np.array([_positions(pool) for pool in some]) for count, some in parts.items()},
    }


def _right(attempts: Sequence[Attempt]) -> Any:
    return np.array([float(attempt.right) for attempt in attempts])


def _tokens(pools: Sequence[Pool]) -> Any:
    return np.array([float(sum(len(sample.tokens) for sample in pool.samples)) for pool in pools])


def _spent(table: dict[str, Any], count: int) -> tuple[Any, Any]:
    """Tokens that the cloud draws for so many samples, and positions that it verifies."""
    return table["tokens"][count], table["read"][count]


def _positions(pool: Pool) -> float:
    """What the reward model reads: every answer, after a prompt that is computed once."""
    return float(sum(len(sample.tokens) for sample in pool.samples) + len(pool.question.text))


def _fit(table: dict[str, Any]) -> tuple[int, float]:
    """How many of the cloud's samples join in doubt, and up to which part of the edge's vote there is doubt."""
    wanted = _KEPT * table["cloud"].mean()
    found = (math.inf, max(table["joined"]), 2.0)
    for count in table["joined"]:
        for threshold in (*sorted(set(table["score"])), 2.0):
            doubt = table["score"] < threshold
            cost = float(np.where(doubt, table["tokens"][count], 0.0).mean())
            kept = float(np.where(doubt, table["joined"][count], table["edge"]).mean())
            if kept >= wanted:
                found = min(found, (cost, count, float(threshold)))
    return found[1], found[2]


def _row(
    setup: str, right: Any, edge_tokens: Any, cloud_tokens: Any, verified: Any, escalated: float
) -> dict[str, Any]:
    low, high = bootstrap(right, lambda rows: float(rows.mean()))
    return {
        "setup": setup,
        "accuracy": float(np.mean(right)),
        "low": low,
        "high": high,
        "edge_tokens": float(np.mean(edge_tokens)),
        "cloud_tokens": float(np.mean(cloud_tokens)),
        "verified": float(np.mean(verified)),
        "escalated": escalated,
    }
