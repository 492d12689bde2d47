"""For tests of strategies across the tiers: raw calls, and a strategy and a verifier that are told what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from updraft.strategies import Outcome, Strategy, Workspace
from updraft.strategies.tally import conclude, tally
from updraft.v1 import collaboration_pb2 as pb
from updraft.verifiers import Claim, Judgement, Resources, VerifierSettings
from updraft.verifiers.settings import Scorer

__all__ = ["JudgedSamples", "LetterVerifier", "solve_request"]


def solve_request(**changes: Any) -> pb.SolveRequest:
    """A request that a cloud with a `HashEngine` takes."""
    samples = changes.pop("samples", 5)
    request = pb.SolveRequest(
        tokenizer_hash="letters",
        prompt=[1, 2, 3],
        max_tokens=20,
        strategy="self-consistency",
        budget=pb.SolveBudget(samples=samples),
        progress=True,
        alternatives=True,
    )
    request.sampling.temperature, request.sampling.seed = 1.0, 4
    for name, value in changes.items():
        if isinstance(value, pb.SolveBudget):
            request.budget.CopyFrom(value)
        elif isinstance(value, list):
            request.ClearField(name)
            getattr(request, name).extend(value)
        else:
            setattr(request, name, value)
    return request


class JudgedSamples(Strategy):
    """The samples that a verifier passes vote."""

    name: ClassVar[str] = "judged"
    needs_verifier: ClassVar[bool] = True

    async def solve(self, work: Workspace) -> Outcome:
        samples = await work.sample(work.budget.samples)
        judgements = await work.judge(samples)
        scores = [judgement.score for judgement in judgements]
        found = tally(samples, [score or 0.0 for score in scores], scores)
        passed = [judgement.passed for judgement in judgements if judgement.score is not None]
        return conclude(work, samples, found, verified=any(passed) if passed else None)


class LetterVerifier(VerifierSettings):
    """Passes answers with a letter; `fails` makes it crash."""

    kind: ClassVar[str] = "letter"
    letter: str
    fails: bool = False

    def scorer(self, resources: Resources) -> Scorer:
        async def score(claims: Sequence[Claim]) -> list[Judgement]:
            if self.fails:
                raise RuntimeError("told to fail")
            return [Judgement(float(self.letter in claim.text)) for claim in claims]

        return score
