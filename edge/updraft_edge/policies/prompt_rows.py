"""A drafter that also measures the distributions after the prompt's last tokens: prompt-level scores for free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from updraft.engine.base import Output, Run
from updraft.engine.loop import EngineLoop, Want
from updraft.sampling import Distribution, Sampler, measure
from updraft_edge.drafters import DraftTask, ModelDrafter

__all__ = ["PromptReadingDrafter"]


class PromptReadingDrafter(ModelDrafter):
    """As its base; `rows` holds what was measured once the first token has been proposed.

    The prompt is cut into passes as without it, and asking for rows changes no position: text stays the same.

    Args:
        window: how many of the prompt's last tokens are measured.
    """

    def __init__(
        self, loop: EngineLoop, prompt: Sequence[int], sampler: Sampler, *, window: int, **options: Any
    ) -> None:
        self._window = window
        self.rows: tuple[Distribution, ...] = ()
        super().__init__(loop, prompt, sampler, **options)

    def _make_task(self, prompt: Sequence[int], sampler: Sampler, **options: Any) -> DraftTask:
        return _PromptReadingTask(self, prompt, sampler, window=self._window, **options)

    def deliver_rows(self, rows: Sequence[Distribution]) -> None:
        """Called from the engine thread, before the first proposal."""
        self._asyncio.call_soon_threadsafe(self._receive_rows, tuple(rows))

    def _receive_rows(self, rows: tuple[Distribution, ...]) -> None:
        self.rows = rows


class _PromptReadingTask(DraftTask):
    """The engine thread's side."""

    def __init__(
        self, owner: PromptReadingDrafter, prompt: Sequence[int], sampler: Sampler, *, window: int, **options: Any
    ) -> None:
        super().__init__(owner, prompt, sampler, **options)
        self._reader = owner
        self._prompt_length = len(prompt)
        self._first = max(0, len(prompt) - window)
        self._measured: list[Distribution] = []

    def plan(self) -> Want | None:
        planned = super().plan()
        if planned is None:
            return None
        run = planned.run
        end = run.position + len(run.tokens)
        if run.position >= self._prompt_length or end <= self._first or end > self._prompt_length:
            return planned
        return planned._replace(run=replace(run, rows=end - max(run.position, self._first)))

    def consume(self, run: Run, output: Output) -> None:
        end = run.position + len(run.tokens)
        if run.position >= self._prompt_length or end <= self._first or end > self._prompt_length:
            super().consume(run, output)
            return
        self._measured += [measure(row) for row in output.logits]
        if end == self._prompt_length:
            self._reader.deliver_rows(self._measured)
            hidden = None if output.hidden is None else output.hidden[-1:]
            super().consume(replace(run, rows=1), Output(output.logits[-1:], hidden))
