"""Fusion (Archon, arXiv 2409.15254; LLM-Blender, arXiv 2306.02561): one best answer is written from several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from pydantic import Field

from updraft.strategies.base import Strategy
from updraft.strategies.problem import Outcome, Sample
from updraft.strategies.tally import conclude, tally
from updraft.strategies.workspace import Workspace

__all__ = ["FUSE", "Fusion"]

FUSE: Final = """\
Question:
{question}

Several proposed answers, some of which may be wrong:

{answers}

Weigh them against each other and write the one best answer to the question. Answer in full, without mentioning the \
proposed answers.\
"""

_CUT: Final = "[...] "


class Fusion(Strategy):
    """The budget's samples are drawn, and one answer more is written by a model that sees all of them, those that came
    with the request too.

    Where they do not fit the context, each is cut to its end, where final answers stand; where that leaves less than
    `shortest` tokens of each, the last ones are left out. Progress says so. Samples without a final answer are shown
    like the others. A fused answer that is cut or has no final answer, while samples have one, gives way to the
    samples' majority. The confidence is the part of all answers, the fused one included, that agree.

    Attributes:
        shortest: tokens that are shown of an answer, at least.
    """

    name: ClassVar[str] = "fusion"

    shortest: int = Field(default=32, ge=1, le=4096)

    async def solve(self, work: Workspace) -> Outcome:
        samples = [*work.problem.given, *await _sampled(work)]
        fused = await self._fuse(work, samples) if len(samples) > 1 else None
        return await _outcome(work, samples, fused)

    async def _fuse(self, work: Workspace, samples: Sequence[Sample]) -> Sample | None:
        """The fused answer; None where budget or context have no room for it."""
        shown, cut = self._fitted(work, [sample.text for sample in samples])
        for sample in samples[len(shown) :]:
            work.tell("prune", branch=sample.branch)
        if not shown:
            return None
        cuts = f", the longer ones cut to {cut} tokens" if cut else ""
        work.tell("stage", text=f"fuse {len(shown)} of {len(samples)} answers{cuts}")
        fused = await work.write(FUSE.format(question=work.problem.question, answers=_listed(shown)))
        if fused is not None:
            work.tell("sample", branch=fused.branch, text=fused.text)
        return fused

    def _fitted(self, work: Workspace, texts: Sequence[str]) -> tuple[list[str], int | None]:
        """The texts to show, and to how many tokens the longer ones are cut; None where all are whole."""
        tokenizer, context = work.forks.engine.tokenizer, work.forks.engine.context
        frame = len(work.ask(FUSE.format(question=work.problem.question, answers="")))
        room = context - min(work.problem.max_tokens, context // 2) - frame
        if len(tokenizer.encode(_listed(texts))) <= room:
            return list(texts), None
        label = len(tokenizer.encode(_listed([_CUT] * len(texts)))) // len(texts) + 1
        count = min(len(texts), room // (self.shortest + label))
        if count < 1:
            return [], None
        most = room // count - label
        cut = [(text, tokenizer.encode(text)) for text in texts[:count]]
        return [text if len(ids) <= most else _CUT + work.read(ids[-most:]) for text, ids in cut], most


def _listed(texts: Sequence[str]) -> str:
    return "\n\n".join(f"Answer {number}:\n{text}" for number, text in enumerate(texts, 1))


async def _sampled(work: Workspace) -> list[Sample]:
    """The budget's samples; the tokens that one answer may need are left for the fused one."""
    samples: list[Sample] = []
    while (missing := work.budget.samples - len(samples)) > 0 and not (samples and work.exhausted):
        reach = work.tokens_left // work.problem.max_tokens - 1
        if samples and reach < 1:
            break
        fresh = await work.sample(min(missing, max(1, reach)))
        if not fresh:
            break
        samples += fresh
    return samples


async def _outcome(work: Workspace, samples: Sequence[Sample], fused: Sample | None) -> Outcome:
    everything = [*([fused] if fused else []), *samples]
    found = tally(everything, [1.0] * len(everything))
    if fused and fused.finished and fused.answer is not None:
        found.sort(key=lambda alternative: alternative.sample is not fused)
    chosen = found[0].sample if found else everything[0]
    judged = (await work.judge([chosen]))[0] if work.verifier else None
    known = judged is not None and judged.score is not None
    return conclude(work, everything, found, verified=judged.passed if judged and known else None)
