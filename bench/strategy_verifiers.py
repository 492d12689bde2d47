"""How often verifiers err on the answers that the bench has drawn: their rates of false and true positives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from updraft.errors import GoalUnreachable
from updraft.strategies.problem import Sample
from updraft.strategies.subject import Subject
from updraft.verifiers import Resources
from updraft.verifiers.base import Claim
from updraft.verifiers.rates import Labelled, Rates, clopper_pearson, measure_rates
from updraft.verifiers.registry import open_verifier
from updraft.verifiers.settings import OpenVerifier

from .strategy_pool import Pool

__all__ = ["asking_verifiers", "rates_of"]

_WANTED: Final = 0.1
_WITH_CHECK: Final[dict[str, Any]] = {"kind": "generative", "votes": 3, "reason": 48}


async def rates_of(
    model: str,
    verifiers: Sequence[OpenVerifier],
    subject: Subject,
    pools: Sequence[Pool],
    resources: Resources,
    *,
    each: int = 16,
) -> list[dict[str, Any]]:
    """Two rows a verifier: at its own threshold, and at the one where at most a tenth of the wrong answers pass, where
    there is such a one.

    Args:
        each: answers of a question, at most.
    """
    labelled = [
        Labelled(_claim(subject, pool, sample), right)
        for pool in pools
        for sample, right in zip(pool.samples[:each], pool.right, strict=False)
    ]
    rows = []
    for verifier in verifiers:
        rows.append(_row(model, verifier, await measure_rates(verifier, labelled, resources)))
        try:
            wanted = await measure_rates(verifier, labelled, resources, wanted=_WANTED)
        except GoalUnreachable:
            continue
        rows.append(_row(model, verifier, wanted))
    return rows


def asking_verifiers(resources: Resources) -> list[OpenVerifier]:
    """Those that ask the model itself, and what its probabilities say."""
    return [open_verifier(spec, resources) for spec in ("self", "generative", _WITH_CHECK, "logprob")]


def _claim(subject: Subject, pool: Pool, sample: Sample) -> Claim:
    prompt, ends = subject.problem(pool.question.text).prompt, subject.engine.info.end_tokens
    tokens = [token for token in sample.tokens if token not in ends]
    return Claim(pool.question.text, prompt, tokens, sample.text, sample.logprob, sample.finished)


def _row(model: str, verifier: OpenVerifier, rates: Rates) -> dict[str, Any]:
    low, high = clopper_pearson(rates.passed_wrong, rates.wrong) if rates.wrong else (None, None)
    return {
        "model": model,
        "verifier": f"{verifier.name}, with a check" if verifier.settings.spec() == _WITH_CHECK else verifier.name,
        "right": rates.right,
        "wrong": rates.wrong,
        "unjudged": rates.unjudged,
        "area": rates.area,
        "threshold": rates.threshold,
        "false_positive_rate": rates.false_positive_rate,
        "low": low,
        "high": high,
        "true_positive_rate": rates.true_positive_rate,
    }
