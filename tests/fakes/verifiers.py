"""A verifier that scores by a rule and goes wrong where it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from updraft.verifiers import Claim, Judgement

__all__ = ["RuleVerifier"]


class RuleVerifier:
    """Implements `updraft.verifiers.Verifier`.

    Args:
        rule: the score of a claim; None where it cannot tell.
        threshold: a claim with such a score passes.
        steps: it judges answers that are not whole.
        fail_after: raise at this call of `judge`, from 1, and ever after.
        hang_after: never come back from this call on.
    """

    name = "rule"
    false_positive_rate: float | None = None

    def __init__(
        self,
        rule: Callable[[Claim], float | None],
        *,
        threshold: float = 0.5,
        steps: bool = True,
        fail_after: int | None = None,
        hang_after: int | None = None,
    ) -> None:
        self.judges_steps = steps
        self.calls = 0
        self.claims: list[Claim] = []
        self._rule, self._threshold = rule, threshold
        self._fail_after, self._hang_after = fail_after, hang_after

    async def judge(self, claims: Sequence[Claim]) -> Sequence[Judgement]:
        self.calls += 1
        self.claims += claims
        if self._fail_after is not None and self.calls >= self._fail_after:
            raise RuntimeError("told to fail")
        if self._hang_after is not None and self.calls >= self._hang_after:
            await asyncio.Event().wait()
        scores = [self._rule(claim) for claim in claims]
        return [Judgement(score, score is not None and score >= self._threshold) for score in scores]
