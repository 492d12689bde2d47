"""Mode `reason`: the edge writes a step, the cloud grades it and writes the bad ones anew (SpecReason, 2504.07891)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from updraft.engine.base import Tokenizer
from updraft.mode_settings import ReasonSettings
from updraft.sampling import Sampled
from updraft.steps import StepText
from updraft_edge.answer import Answer
from updraft_edge.seams import Decision, HandOver, StepJudge

__all__ = ["Reasoning"]


class Reasoning:
    """Stop rule and policy in one: where a step ends and what becomes of it are one matter.

    A step ends with a blank line after text, with the answer, or after `step_tokens` tokens. It stands if its score
    reaches the threshold; else it is dropped and the cloud writes one step in its place, which nobody grades. A step
    that repeats the one before is dropped unasked. The first `first_steps` are the cloud's own. An end without text
    is the edge's to say, as in SpecReason, but not before there is any answer. Every step makes the answer longer, so
    that its longest length ends it in any case.
    """

    def __init__(self, settings: ReasonSettings, judge: StepJudge, answer: Answer, tokenizer: Tokenizer) -> None:
        self._settings = settings
        self._judge = judge
        self._answer = answer
        self._tokenizer = tokenizer
        self._step = StepText()
        self._began = 0  # where in the answer the last step that was decided on begins

    def ends(self, run: Sequence[Sampled]) -> bool:
        if len(run) == 1:
            self._step = StepText()
        ended = self._step.feed(self._tokenizer.piece(run[-1].token))
        return ended or len(run) >= self._settings.step_tokens or self._clouds_turn

    def learn(self, run: Sequence[Sampled], accepted: int) -> None:
        pass

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        log, ends, statistics = self._answer.log, self._answer.ends, self._answer.statistics
        step = [sampled.token for sampled in run if sampled.token not in ends]
        text, before = self._text(step), self._text(log.generated[self._began :])
        if not text and log.generated_length and len(step) < len(run):
            return Decision.COMMIT
        clouds_turn = self._clouds_turn or not text or text == before
        if not clouds_turn:
            score = await self._judge.score_step(step)
            statistics.step_scores.append(score)
            clouds_turn = score < self._settings.threshold
        self._began = log.generated_length
        statistics.steps += 1
        statistics.steps_rewritten += clouds_turn
        if clouds_turn:
            return HandOver(keep=0, step=True, most=self._settings.step_tokens)
        return Decision.ACCEPT

    def returned(self) -> None:
        pass

    @property
    def _clouds_turn(self) -> bool:
        return self._answer.statistics.steps < self._settings.first_steps

    def _text(self, tokens: Iterable[int]) -> bytes:
        return b"".join(map(self._tokenizer.piece, tokens)).strip()
