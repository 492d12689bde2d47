"""The training loop: cross-entropy on the tokens that count, for so many steps."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from updraft.errors import ConfigError
from updraft.train.checkpoint import load_checkpoint, save_checkpoint
from updraft.train.laboratory.batches import IGNORED, Example, batches
from updraft.train.laboratory.model import LabModel

__all__ = ["LabPoint", "LabRecipe", "train_lab"]

_CLIP = 1.0
_LOWEST = 0.01  # share of the highest learning rate that the last step has


@dataclass(frozen=True, slots=True)
class LabRecipe:
    """How long and how fast to train.

    A run ends after its steps, or with the first point of its curve whose loss is not above `enough`: models that
    make no mistakes would be of no use here, and from many to few is a short way.

    The learning rate rises over the first steps, stays, and falls over the last third. Nothing depends on the time: the
    same recipe gives the same model on the same kind of processor. A run that is given more steps goes on at the rate
    that they ask for.
    """

    steps: int
    rows: int = 32  # a step
    learning_rate: float = 2e-3
    enough: float = 0.0  # nats a token
    warmup: int = 100  # steps
    weight_decay: float = 0.05
    every: int = 25  # steps between points of the curve, each with a checkpoint
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        left = 1 - step / self.steps
        return self.learning_rate * min(1.0, max(_LOWEST, 3 * left), (step + 1) / self.warmup)


@dataclass(frozen=True, slots=True)
class LabPoint:
    """One point of the learning curve: the mean loss since the last one, in nats a token that counts; seconds are the
    processor's."""

    step: int
    tokens: int
    seconds: float
    loss: float


def train_lab(
    model: LabModel,
    draw: Callable[[int, int], Sequence[Example]],
    recipe: LabRecipe,
    folder: Path,
    progress: Callable[[LabPoint], None] = lambda point: None,
    among: Sequence[int] | None = None,
) -> list[LabPoint]:
    """Train `model` in place. A run that was interrupted goes on from its last checkpoint in `folder`.

    Args:
        draw: as of `batches`.
        progress: called with each new point.
        among: the targets' tokens, where the choice is among these alone; else it is among all.

    Raises ConfigError: the folder holds another run or a damaged checkpoint, the disk is full, the loss is not finite.
    """
    run = _Run(model, recipe, among)
    curve = run.resume(folder)
    for tokens, targets in batches(draw, recipe.rows, recipe.seed, run.step):
        if run.step >= recipe.steps or (curve and curve[-1].loss <= recipe.enough):
            break
        run.train_step(tokens, targets)
        if run.step % recipe.every == 0 or run.step == recipe.steps:
            curve.append(run.take())
            run.save(folder, curve)
            progress(curve[-1])
    model.eval()
    return curve


class _Run:
    """The state of one training run."""

    def __init__(self, model: LabModel, recipe: LabRecipe, among: Sequence[int] | None) -> None:
        self.model, self._recipe = model.train(), recipe
        self._left_out = None if among is None else [n for n in range(model.shape.vocabulary) if n not in among]
        decayed = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim == 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.step, self._tokens = 0, 0
        self._started = time.process_time()
        self._losses: list[float] = []

    @property
    def seconds(self) -> float:
        return time.process_time() - self._started

    def train_step(self, tokens: torch.Tensor, targets: torch.Tensor) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.rate(self.step)
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.model(tokens)
        if self._left_out is not None:
            logits[..., self._left_out] = -torch.inf
        asked = max(1, int((targets != IGNORED).sum()))  # answers of a model that knows nothing may have no step at all
        losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
        loss = losses / asked
        value = loss.item()
        if not math.isfinite(value):
            raise ConfigError(
                f"the loss is {value} after {self.step} steps", remedy="Start again with another --seed and --out."
            )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._losses.append(value)
        self.step += 1
        self._tokens += tokens.numel()

    def take(self) -> LabPoint:
        """Where the run is; starts a new mean of the loss."""
        loss, self._losses = float(np.mean(self._losses)), []
        return LabPoint(self.step, self._tokens, self.seconds, loss)

    def save(self, folder: Path, curve: list[LabPoint]) -> None:
        facts = {"run": self._key(), "step": str(self.step), "curve": json.dumps([asdict(point) for point in curve])}
        save_checkpoint(folder, self.model, self._optimizer, facts)

    def resume(self, folder: Path) -> list[LabPoint]:
        """Load the folder's checkpoint, if there is one."""
        curve: list[LabPoint] = []

        def read(facts: dict[str, str]) -> None:
            curve.extend(LabPoint(**point) for point in json.loads(facts["curve"]))
            self.step, self._tokens = curve[-1].step, curve[-1].tokens
            self._started = time.process_time() - curve[-1].seconds

        load_checkpoint(folder, self.model, self._optimizer, self._key(), torch.device("cpu"), read)
        return curve

    def _key(self) -> str:
        """What makes this run this run; not when it ends."""
        recipe = {
            name: value for name, value in asdict(self._recipe).items() if name not in ("steps", "enough", "every")
        }
        return json.dumps({**recipe, **asdict(self.model.shape)}, sort_keys=True)
