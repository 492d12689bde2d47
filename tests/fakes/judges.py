"""Verifiers without a model: ones that know the answer, and ones that go wrong in every way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from tests.fakes.engine import HashEngine
from updraft.engine.base import FloatRows, Output, Run
from updraft.verifiers.base import Claim, Judgement

__all__ = ["FaultyJudge", "OddsEngine", "ScriptedJudge"]


class ScriptedJudge:
    """A verifier that scores by a function of the claim, and keeps what it was shown in `seen`."""

    name = "scripted"

    def __init__(
        self,
        score: Callable[[Claim], float | None],
        *,
        threshold: float = 0.5,
        judges_steps: bool = False,
        false_positive_rate: float | None = None,
    ) -> None:
        self._score, self._threshold = score, threshold
        self.judges_steps, self.false_positive_rate = judges_steps, false_positive_rate
        self.seen: list[Claim] = []

    async def judge(self, claims: Sequence[Claim]) -> list[Judgement]:
        self.seen += claims
        scores = [self._score(claim) for claim in claims]
        return [Judgement(score, score is not None and score >= self._threshold) for score in scores]


class FaultyJudge:
    """A verifier that raises, hangs, does not listen to its cancellation, or gives whatever it is told to."""

    name = "faulty"
    judges_steps = True
    false_positive_rate = None

    def __init__(
        self, *, error: BaseException | None = None, hangs: bool = False, deaf: bool = False, gives: Any = None
    ) -> None:
        self._error, self._hangs, self._deaf, self._gives = error, hangs, deaf, gives
        self.release = asyncio.Event()  # lets a deaf one end
        self.cancelled = False

    async def judge(self, claims: Sequence[Claim]) -> Any:
        if self._error is not None:
            raise self._error
        if self._hangs:
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
        while self._deaf and not self.release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.release.wait()
        return self._gives


class OddsEngine(HashEngine):
    """A reward model: token `good` against `bad` after a text, by a function of the text's tokens."""

    def __init__(self, odds: Callable[[Sequence[int]], float], good: int, bad: int, **changes: Any) -> None:
        super().__init__(**changes)
        self._odds, self._good, self._bad = odds, good, bad

    def _compute(self, run: Run) -> Output:
        output = super()._compute(run)
        cache = self._caches[run.sequence]
        rows: FloatRows = output.logits
        for row, end in zip(rows, range(len(cache) - run.rows + 1, len(cache) + 1), strict=True):
            row[self._good] = self._odds(cache[:end])
            row[self._bad] = 0.0
        return output
