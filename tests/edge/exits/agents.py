"""What an early-exit edge must write, computed the plain way: every exit of every position from the whole prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.fakes.staged_engine import FakeStagedEngine
from updraft.exits.criteria import ExitCriterion, ExitVerdict
from updraft.exits.scores import ExitView
from updraft.sampling import Sampled, Sampler, SamplingParams
from updraft_edge.exits.drafter import ExitPlan

__all__ = ["Reference", "Step", "plan_of"]


@dataclass(frozen=True, slots=True)
class Step:
    """A token with the layer it left at, or None and None where it is left to the cloud."""

    token: int | None
    layer: int | None


def plan_of(criterion: ExitCriterion, *, exits: int = 2, split: int | None = 0) -> ExitPlan:
    """All exits of a fake with two layers a stage."""
    depths = tuple(range(exits))
    return ExitPlan(depths, tuple(2 * depth + 2 for depth in depths), criterion, features=False, split=split)


class Reference:
    """Walks through the exits of one position after another; `write` gives what the edge and the cloud write."""

    def __init__(self, plan: ExitPlan, params: SamplingParams, prompt: Sequence[int], **engine: object) -> None:
        self._engine = FakeStagedEngine(**engine)  # type: ignore[arg-type]
        self._plan = plan
        self._sampler = Sampler(params, prompt)
        self._log = list(prompt)

    def commit(self, tokens: Sequence[int]) -> None:
        self._sampler.commit(tokens)
        self._log += tokens

    def next(self, *, asks: bool) -> Step:
        """What the edge says of the next token."""
        trace: list[ExitView] = []
        split = -1 if self._plan.split is None else self._plan.split
        token = -1
        for depth, layer in zip(self._plan.depths, self._plan.layers, strict=True):
            drawn = self._draw(depth)
            token = drawn.token
            features = self._engine._vector("features", depth, tuple(self._log))
            trace.append(ExitView(depth, token, drawn.distribution, features))
            verdict = self._plan.criterion.judge(trace)
            if verdict is ExitVerdict.EXIT or layer is None:
                return Step(token, layer)
            if verdict is ExitVerdict.HAND_OVER and asks and depth >= split:
                return Step(None, None)
        return Step(None, None) if asks else Step(token, self._plan.layers[-1])

    def cloud_token(self) -> int:
        return self._draw(self._engine._whole - 1).token

    def write(self, count: int, *, asks: bool) -> list[Step]:
        """So many tokens; the cloud's have no layer."""
        steps = []
        for _ in range(count):
            step = self.next(asks=asks)
            if step.token is None:
                step = Step(self.cloud_token(), None)
            assert step.token is not None
            self.commit([step.token])
            steps.append(step)
        return steps

    def _draw(self, depth: int) -> Sampled:
        logits = np.asarray(self._engine._logits(depth, tuple(self._log)), np.float32)
        return self._sampler.draw(logits, len(self._log))
