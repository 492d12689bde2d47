"""Accuracy curves of strategies over budgets, and what is read off them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from updraft.evaluation.curves import bootstrap
from updraft.strategies import Budget, Forks, parse_strategy
from updraft.strategies.self_consistency import SelfConsistency
from updraft.strategies.solve import solve
from updraft.strategies.subject import Attempt, Question, Subject

from .strategy_pool import Pool, run_on

__all__ = [
    "GREEDY",
    "POOLED",
    "RUN",
    "SEARCHES",
    "budgets",
    "curve_of_pools",
    "curve_of_runs",
    "curves_of",
    "equal_tokens",
    "greedy",
    "row_of",
    "samples_saved",
]

POOLED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "self-consistency": ("self-consistency", {}),
    "rpc": ("rpc", {}),
    "best-of-n": ("best-of-n", {}),
    "weighted best-of-n": ("best-of-n", {"weighted": True}),
    "resample": ("resample", {"cap": {"unmeasured": 1024}}),
}
"""What is run on answers that were drawn before."""
GREEDY: Final = "greedy"
_SOFT: Final = "particle-filtering, T 3"
SEARCHES: Final = ("particle-filtering", _SOFT, "particle-gibbs", "a-star", "beam-search")
RUN: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    **{name: (name, {}) for name in SEARCHES},
    _SOFT: ("particle-filtering", {"temperature": 3.0}),
    "adaptive": ("adaptive", {"judge": "verifier", "look": 16}),
    "self-refine": ("self-refine", {}),
    "fusion": ("fusion", {}),
}
"""What is run anew for every budget."""
_REPLICATES: Final = 8


def budgets(most: int) -> list[int]:
    """1, 2, 4 ... up to `most`."""
    return [count for count in (2**power for power in range(11)) if count <= most]


async def curves_of(
    subject: Subject,
    pools: Sequence[Pool],
    search: Sequence[int],
    *,
    seed: int,
    step: Callable[[str], None],
) -> list[dict[str, Any]]:
    """A curve of every strategy: those of samples on the pools, the others run anew for each budget of `search`; last
    the likeliest answer alone."""
    most, questions = len(pools[0].samples), [pool.question for pool in pools]
    rows = [row for name in POOLED for row in await curve_of_pools(name, pools, subject, most)]
    for name in RUN:
        for samples in search:
            rows.append(await curve_of_runs(name, questions, subject, samples, seed=seed))
            step(f"{name} {samples}")
    return [*rows, await greedy(subject, questions)]


async def curve_of_pools(name: str, pools: Sequence[Pool], subject: Subject, most: int) -> list[dict[str, Any]]:
    """A row a budget. Small budgets are run on several parts of each pool, which narrows the intervals."""
    kind, settings = POOLED[name]
    strategy = parse_strategy(kind, settings)
    rows = []
    for samples in budgets(most):
        starts = range(0, min(most // samples, _REPLICATES) * samples, samples)
        attempts = [[await run_on(pool.part(start, samples), subject, strategy) for start in starts] for pool in pools]
        rows.append(row_of(name, samples, attempts))
    return rows


async def curve_of_runs(
    name: str, questions: Sequence[Question], subject: Subject, samples: int, *, seed: int
) -> dict[str, Any]:
    """A strategy of `RUN`, run for this budget."""
    attempts = await subject.attempts(questions, parse_strategy(*RUN[name]), Budget(samples=samples), seed=seed)
    return row_of(name, samples, [[attempt] for attempt in attempts])


async def greedy(subject: Subject, questions: Sequence[Question]) -> dict[str, Any]:
    """The likeliest answer alone, which is what there is without any strategy."""
    attempts = []
    for question in questions:
        problem = subject.problem(question.text)
        cold = replace(problem.sampling, temperature=0.0)
        forks = Forks(subject.loop, subject.places, cold)
        outcome = await solve(replace(problem, sampling=cold), SelfConsistency(), Budget(samples=1), forks)
        attempts.append([Attempt(question, outcome, subject.right(question, outcome))])
    return row_of(GREEDY, 1, attempts)


def row_of(name: str, samples: int, attempts: Sequence[Sequence[Attempt]]) -> dict[str, Any]:
    """One row from the attempts of each question; questions are what the interval resamples."""
    right = np.array([np.mean([attempt.right for attempt in tries]) for tries in attempts])
    low, high = bootstrap(right, lambda rows: float(rows.mean()))
    flat = [attempt for tries in attempts for attempt in tries]
    return {
        "strategy": name,
        "samples": samples,
        "accuracy": float(right.mean()),
        "low": low,
        "high": high,
        "tokens": float(np.mean([attempt.outcome.spent.tokens for attempt in flat])),
        "calls": float(np.mean([attempt.outcome.spent.verifier_calls for attempt in flat])),
        "unparsed": float(np.mean([attempt.outcome.unparsed for attempt in flat])),
        "by_level": _by_level(attempts, right),
    }


def samples_saved(curves: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each budget of self-consistency, the samples at which RPC is as accurate (interpolated on a log scale)."""
    votes = [row for row in curves if row["strategy"] == "self-consistency"]
    others = [row for row in curves if row["strategy"] == "rpc"]
    rows = []
    for vote in votes[2:]:
        needed = _reaches(others, vote["accuracy"])
        rows.append(
            {
                "samples": vote["samples"],
                "accuracy": vote["accuracy"],
                "needed": needed,
                "share": None if needed is None else needed / vote["samples"],
            }
        )
    return rows


def equal_tokens(curves: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Step-wise strategies beside what best-of-n, plain and weighted, reaches with as many tokens (interpolated)."""
    plain, weighted = (
        [row for row in curves if row["strategy"] == name] for name in ("best-of-n", "weighted best-of-n")
    )
    rows = []
    for row in curves:
        if row["strategy"] in SEARCHES and row["samples"] > 1:
            best, vote = _at(plain, row["tokens"]), _at(weighted, row["tokens"])
            rows.append(row | {"best_of_n": best, "weighted": vote, "gain": row["accuracy"] - best})
    return rows


def _reaches(rows: Sequence[dict[str, Any]], accuracy: float) -> float | None:
    """Samples at which a curve first reaches an accuracy."""
    before: dict[str, Any] | None = None
    for row in rows:
        if row["accuracy"] >= accuracy:
            if before is None:
                return float(row["samples"])
            part = (accuracy - before["accuracy"]) / (row["accuracy"] - before["accuracy"])
            return float(before["samples"] * (row["samples"] / before["samples"]) ** part)
        before = row
    return None


def _at(rows: Sequence[dict[str, Any]], tokens: float) -> float:
    """A curve's accuracy at so many tokens, on a log scale; at its ends it goes on level."""
    return float(np.interp(np.log(tokens), np.log([row["tokens"] for row in rows]), [row["accuracy"] for row in rows]))


def _by_level(attempts: Sequence[Sequence[Attempt]], right: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, float]:
    levels: dict[int, list[float]] = {}
    for tries, share in zip(attempts, right, strict=True):
        levels.setdefault(tries[0].question.level, []).append(float(share))
    return {str(level): sum(shares) / len(shares) for level, shares in sorted(levels.items())}
