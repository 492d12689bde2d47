"""Self-refine (Madaan et al., arXiv 2303.17651): the model criticises its answer and writes it anew."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Final

from updraft.strategies.base import Strategy
from updraft.strategies.problem import Outcome, Sample
from updraft.strategies.tally import conclude, tally
from updraft.strategies.workspace import Workspace
from updraft.verifiers.base import Judgement

__all__ = ["CRITIQUE", "REWRITE", "SelfRefine", "finds_nothing"]

CRITIQUE: Final = """\
Question:
{question}

Proposed answer:
{answer}

Check the proposed answer step by step and say briefly what is wrong with it, if anything. \
End with one line: "Verdict: correct" or "Verdict: wrong".\
"""

REWRITE: Final = """\
Question:
{question}

Proposed answer:
{answer}

Critique of it:
{critique}

Write a better answer to the question. Answer in full, without mentioning the proposed answer or the critique.\
"""

_VERDICT: Final = re.compile(r"verdict\W+(correct|wrong)\b", re.IGNORECASE)


class SelfRefine(Strategy):
    """The budget's samples are versions of the answer, the first one included, which may have come with the request.

    It stops where a critique finds nothing, the verifier passes a version, or a prompt has no room in the context. A
    critique without a verdict that can be read has found something. The outcome is the version that the verifier likes
    best, without a verifier the last one, but never one without a final answer while another has one.
    """

    name: ClassVar[str] = "self-refine"

    async def solve(self, work: Workspace) -> Outcome:
        versions = list(work.problem.given[:1]) or await work.sample(1)
        judgements = await self._judge(work, versions)
        while len(versions) < work.budget.samples and not judgements[-1].passed:
            version = await self._rewritten(work, versions[-1])
            if version is None:
                break
            versions.append(version)
            judgements += await self._judge(work, [version])
        return _outcome(work, versions, judgements)

    async def _judge(self, work: Workspace, versions: Sequence[Sample]) -> list[Judgement]:
        return await work.judge(versions) if work.verifier else [Judgement(None)] * len(versions)

    async def _rewritten(self, work: Workspace, version: Sample) -> Sample | None:
        """The next version; None where there is nothing to better, or no budget or room to do it."""
        question = work.problem.question
        critique = await work.write(CRITIQUE.format(question=question, answer=version.text))
        if critique is None or finds_nothing(critique.text):
            return None
        work.tell("step", branch=critique.branch, text=critique.text)
        better = await work.write(REWRITE.format(question=question, answer=version.text, critique=critique.text))
        if better is not None:
            work.spent.samples += 1
            work.tell("sample", branch=better.branch, text=better.text)
        return better


def finds_nothing(critique: str) -> bool:
    """Whether the last verdict in a critique is that the answer is correct; False where there is none."""
    verdicts = _VERDICT.findall(critique)
    return bool(verdicts) and verdicts[-1].lower() == "correct"


def _outcome(work: Workspace, versions: Sequence[Sample], judgements: Sequence[Judgement]) -> Outcome:
    latest, scores = versions[::-1], [judgement.score for judgement in judgements[::-1]]
    best = max(range(len(latest)), key=lambda index: (latest[index].answer is not None, scores[index] or 0.0, -index))
    found = tally(latest, [1.0] * len(latest), scores)
    found.sort(key=lambda alternative: alternative.sample is not latest[best])
    judgement = judgements[::-1][best]
    return conclude(
        work,
        latest,
        found,
        confidence=lambda chosen: chosen.weight if chosen.score is None else chosen.score,
        verified=None if judgement.score is None else judgement.passed,
    )
