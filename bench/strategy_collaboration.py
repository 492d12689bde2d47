"""Edge and cloud together: the edge's answers are verified in the cloud, and only what is doubted is answered there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from updraft.evaluation.curves import bootstrap
from updraft.strategies.best_of_n import BestOfN
from updraft.strategies.self_consistency import SelfConsistency
from updraft.strategies.subject import Question

from .strategy_laboratory import Laboratory
from .strategy_pool import Pool, run_on

__all__ = ["collaborate"]

_EDGE_SAMPLES: Final = 16
_CLOUD_SAMPLES: Final = 8
_KEPT: Final = 0.97  # of the cloud's accuracy, on the questions that the threshold is fitted on


async def collaborate(
    lab: Laboratory,
    fitted: Sequence[Question],
    test: Sequence[Question],
    cloud_pools: Sequence[Pool],
    *,
    seed: int,
) -> dict[str, Any]:
    """Rows: each tier alone, and the edge's answer standing where enough of its votes, weighted by what the cloud's
    reward model gives each, agree.

    The threshold is fitted on questions of its own: the highest share that stays on the edge while the whole keeps
    97 % of the cloud's accuracy.
    """
    cloud_fit = await lab.pools(lab.cloud, fitted, _CLOUD_SAMPLES, seed=seed)
    edge_fit = await lab.pools(lab.edge, fitted, _EDGE_SAMPLES, seed=seed)
    edge_test = await lab.pools(lab.edge, test, _EDGE_SAMPLES, seed=seed)
    threshold = _fit(await _table(lab, edge_fit, cloud_fit))
    cut = [pool.part(0, _CLOUD_SAMPLES) for pool in cloud_pools]
    table = await _table(lab, edge_test, cut)
    stays = table["score"] >= threshold
    zero = np.zeros(len(test))
    edge_tokens, cloud_tokens = table["edge_tokens"], table["cloud_tokens"]
    edge_read, cloud_read = table["edge_positions"], table["cloud_positions"]
    left = np.where(stays, 0.0, 1.0)
    rows = [
        _row(f"edge, vote of {_EDGE_SAMPLES}", table["edge_vote"], edge_tokens, zero, zero, 0.0),
        _row(f"edge, {_EDGE_SAMPLES} verified in the cloud", table["edge"], edge_tokens, zero, edge_read, 0.0),
        _row(f"cloud, best of {_CLOUD_SAMPLES}", table["cloud"], zero, cloud_tokens, cloud_read, 1.0),
        _row(
            "edge, verified; doubts answered in the cloud",
            np.where(stays, table["edge"], table["cloud"]),
            edge_tokens,
            left * cloud_tokens,
            edge_read + left * cloud_read,
            float(left.mean()),
        ),
    ]
    alone, both = rows[-2:]
    for row in rows:
        row["kept"] = row["accuracy"] / alone["accuracy"] if alone["accuracy"] else None
        row["share"] = row["cloud_tokens"] / alone["cloud_tokens"]
    return {"threshold": threshold, "rows": rows, "accuracy_kept": both["kept"], "token_share": both["share"]}


async def _table(lab: Laboratory, edge: Sequence[Pool], cloud: Sequence[Pool]) -> dict[str, Any]:
    """Per question: who is right, how far the edge's weighted votes agree, and what was drawn and verified."""
    strategy = BestOfN(weighted=True)
    edge_best = [await run_on(pool, lab.edge, strategy) for pool in edge]
    cloud_best = [await run_on(pool, lab.cloud, strategy) for pool in cloud]
    votes = [await run_on(pool, lab.edge, SelfConsistency()) for pool in edge]
    return {
        "edge": np.array([float(best.right) for best in edge_best]),
        "edge_vote": np.array([float(vote.right) for vote in votes]),
        "cloud": np.array([float(best.right) for best in cloud_best]),
        "score": np.array([best.outcome.confidence for best in edge_best]),
        "edge_tokens": np.array([float(best.outcome.spent.tokens) for best in edge_best]),
        "cloud_tokens": np.array([float(best.outcome.spent.tokens) for best in cloud_best]),
        "edge_positions": np.array([_positions(pool) for pool in edge]),
        "cloud_positions": np.array([_positions(pool) for pool in cloud]),
    }


def _positions(pool: Pool) -> float:
    """What the reward model reads: every answer, after a prompt that is computed once."""
    return float(sum(len(sample.tokens) for sample in pool.samples) + len(pool.question.text))


def _fit(table: dict[str, Any]) -> float:
    """The lowest threshold that keeps enough of the cloud's accuracy."""
    wanted = _KEPT * table["cloud"].mean()
    for threshold in sorted(set(table["score"])):
        if np.where(table["score"] >= threshold, table["edge"], table["cloud"]).mean() >= wanted:
            return float(threshold)
    return 1.0


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
