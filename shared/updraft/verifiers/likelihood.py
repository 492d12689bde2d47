"""How probable the model itself finds its answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from updraft.verifiers.base import Claim, Judgement
from updraft.verifiers.settings import Resources, Scorer, VerifierSettings

__all__ = ["LogProb"]


class LogProb(VerifierSettings):
    """exp of the mean log-probability of the answer's tokens, as RPC weighs votes (NeurIPS 2025, section 3.2).

    It costs nothing, and tells answers of one prompt apart rather than right ones from wrong ones.
    """

    kind: ClassVar[str] = "logprob"

    def judges_steps(self, resources: Resources) -> bool:
        return True

    def scorer(self, resources: Resources) -> Scorer:
        async def score(claims: Sequence[Claim]) -> list[Judgement]:
            return [
                Judgement(math.exp(min(claim.logprob, 0.0)))
                if (claim.tokens or claim.logprob) and math.isfinite(claim.logprob)
                else Judgement(None, reason="the answer's log-probability is not known")
                for claim in claims
            ]

        return score
