"""The training loop: next-token cross-entropy, and a weak push towards using all experts."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from updraft.errors import ConfigError
from updraft.train.checkpoint import load_checkpoint, save_checkpoint
from updraft.train.conversations import Conversation
from updraft.train.moe.loss import SampledClasses, cross_entropy
from updraft.train.moe.model import Mixtral
from updraft.train.moe.text import Rows

__all__ = ["MoePoint", "MoeRecipe", "mean_loss", "train"]

_CHECKPOINT_STEPS = 50
_CLIP = 1.0
_LOGIT_ROWS = 256  # positions whose logits over the whole vocabulary are held at once


@dataclass(frozen=True, slots=True)
class MoeRecipe:
    """How long and how fast to train; the whole run is a function of this, the text, the sizes and the trunk.

    The learning rate rises, stays, and falls to nothing over the last steps: while it stays, the same run can be given
    another number of steps.
    """

    steps: int = 2000
    rows: int = 4  # a step
    learning_rate: float = 3e-3
    warmup: int = 40  # steps
    decay: float = 0.5  # share of all steps
    balance: float = 0.01
    frequent: int = 4096
    sampled: int = 2048
    weight_decay: float = 0.1
    every: int = 200  # steps between points of the curve
    seed: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        left = (self.steps - step) / max(1, self.steps - self.plateau)
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup), left)

    @property
    def plateau(self) -> int:
        """How many steps it takes until the learning rate falls."""
        return round(self.steps * (1 - self.decay))


@dataclass(frozen=True, slots=True)
class MoePoint:
    """One point of the learning curve; losses in nats a token, `imbalance` is 1 where all experts are used alike."""

    step: int
    tokens: int
    seconds: float
    loss: float
    imbalance: float
    held_out: float


def train(
    model: Mixtral,
    table: Tensor,
    training: Sequence[Conversation],
    held_out: Sequence[Conversation],
    *,
    recipe: MoeRecipe,
    folder: Path,
    progress: Callable[[int, int, MoePoint | None], None] | None = None,
) -> list[MoePoint]:
    """Train `model` in place. A run that was interrupted goes on from its last checkpoint in `folder` to the same end.

    Args:
        table: the trunk's embedding matrix, on the device to train on.
        progress: called after every step with steps done, steps in all, and a point when one was measured.

    Raises:
        ConfigError: the folder holds another run or a damaged checkpoint, the disk is full, or the loss is not finite.
    """
    run = _Run(model.to(table.device), table, training, recipe)
    curve = run.resume(folder)
    started = time.monotonic() - (curve[-1].seconds if curve else 0.0)
    while run.step < recipe.steps:
        run.train_step()
        point = None
        if run.step % recipe.every == 0 or run.step == recipe.steps:
            loss, imbalance = run.take()
            seconds = time.monotonic() - started
            held = mean_loss(model, table, held_out)
            point = MoePoint(run.step, run.step * run.tokens, seconds, loss, imbalance, held)
            curve.append(point)
        if point or run.step % _CHECKPOINT_STEPS == 0:
            run.save(folder, curve)
        if progress:
            progress(run.step, recipe.steps, point)
    model.eval()
    return curve


def mean_loss(model: Mixtral, table: Tensor, conversations: Sequence[Conversation]) -> float:
    """Cross-entropy over the whole vocabulary, nats a token, of all tokens but each conversation's first."""
    with torch.inference_mode():
        output = model.output_rows(table)
        total = count = 0.0
        for conversation in conversations:
            tokens = torch.from_numpy(conversation.tokens.astype(np.int64)).to(table.device)
            final, _ = model(table[tokens[:-1]][None])
            for part, targets in zip(
                torch.split(final[0], _LOGIT_ROWS), torch.split(tokens[1:], _LOGIT_ROWS), strict=True
            ):
                total += float(torch.nn.functional.cross_entropy(part @ output.T, targets, reduction="sum"))
            count += len(tokens) - 1
    return total / max(1.0, count)


class _Run:
    """The state of one training run."""

    def __init__(self, model: Mixtral, table: Tensor, training: Sequence[Conversation], recipe: MoeRecipe) -> None:
        self.model, self.recipe = model.train(), recipe
        self._table = table
        length = model.shape.base.context
        self._rows = Rows(training, length, recipe.seed)
        tokens = np.concatenate([conversation.tokens for conversation in training])
        self._text = int(tokens.astype(np.int64).sum())
        counts = np.bincount(tokens, minlength=len(table))
        self._classes = SampledClasses(counts, recipe.frequent, recipe.sampled, recipe.seed)
        decayed = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim == 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            betas=(0.9, 0.95),
            fused=True,
        )
        self.step, self.tokens = 0, recipe.rows * length
        self._losses: list[float] = []
        self._imbalances: list[float] = []

    def train_step(self) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        rows = self._rows.load(self.step * self.recipe.rows, self.recipe.rows)
        loss, imbalance = self._loss(rows)
        value = loss.item()
        if not math.isfinite(value):
            raise ConfigError(
                f"the loss is {value} after {self.step} steps",
                remedy="Start again with a lower --learning-rate and another --out.",
            )
        (loss + self.recipe.balance * imbalance).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._losses.append(value)
        self._imbalances.append(imbalance.item())
        self.step += 1

    def _loss(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Cross-entropy, and the layers' mean imbalance."""
        classes = self._classes.of(self.step, rows[:, 1:])
        tokens = torch.from_numpy(rows[:, :-1]).to(self._table.device)
        with torch.autocast(self._table.device.type, torch.bfloat16):
            final, routings = self.model(self._table[tokens])
            logits = self.model.logits(final.flatten(0, 1), self._table[torch.from_numpy(classes.ids)])
        imbalance = torch.stack([routing.imbalance() for routing in routings]).mean()
        return cross_entropy(logits, classes), imbalance

    def take(self) -> tuple[float, float]:
        """Mean loss and imbalance since the last call."""
        means = float(np.mean(self._losses)), float(np.mean(self._imbalances))
        self._losses, self._imbalances = [], []
        return means

    def save(self, folder: Path, curve: list[MoePoint]) -> None:
        facts = {
            "run": self._key(),
            "step": str(self.step),
            "plateau": str(self.recipe.plateau),
            "losses": json.dumps([self._losses, self._imbalances]),
            "curve": json.dumps([asdict(point) for point in curve]),
        }
        save_checkpoint(folder, self.model, self._optimizer, facts)

    def resume(self, folder: Path) -> list[MoePoint]:
        """Load the folder's checkpoint, if there is one."""
        curve: list[MoePoint] = []

        def read(facts: dict[str, str]) -> None:
            self.step = int(facts["step"])
            self._losses, self._imbalances = json.loads(facts["losses"])
            curve.extend(MoePoint(**point) for point in json.loads(facts["curve"]))
            plateaus = {int(facts["plateau"]), self.recipe.plateau}
            if len(plateaus) > 1 and self.step > min(plateaus):
                raise ConfigError(
                    f"{folder} holds a run whose learning rate falls after other steps than this one's",
                    remedy="Give as many steps as it was begun with, or choose another --out folder.",
                )

        load_checkpoint(folder, self.model, self._optimizer, self._key(), self._table.device, read)
        return curve

    def _key(self) -> str:
        """What makes this run this run; not its number of steps, which may change while the learning rate stays."""
        recipe = {name: value for name, value in asdict(self.recipe).items() if name not in ("steps", "decay")}
        return json.dumps({**recipe, **self.model.shape.to_json(), "text": self._text}, sort_keys=True)
