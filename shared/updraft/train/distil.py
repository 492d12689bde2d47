"""Distillation: blocks on top of a frozen part of the trunk learn to end in the trunk's own distribution.

The loss is the cross-entropy to the teacher's cached best tokens (forward KL up to a constant; Hinton, Vinyals, Dean,
arXiv 1503.02531) over the seen part of the output matrix, plus the squared distance of the normalised last hidden
states (as EAGLE's feature regression, arXiv 2401.15077, section 4.2).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from updraft.errors import ConfigError
from updraft.models.weights import Weights
from updraft.train.batches import Batch, Batches, SeenTokens, entry_states
from updraft.train.checkpoint import load_checkpoint, save_checkpoint
from updraft.train.llama import Llama
from updraft.train.teacher import TeacherCache

__all__ = ["Point", "Recipe", "agreement", "distil", "hidden_of"]

_CHECKPOINT_STEPS = 40
_CLIP = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and how fast to train; the whole run is a function of this, the text and the trunk."""

    epochs: int = 5
    batch_tokens: int = 2048
    learning_rate: float = 1e-3
    warmup: float = 0.03  # share of all steps
    floor: float = 0.05  # the cosine ends at this share of the learning rate
    feature_weight: float = 1.0
    evaluations: int = 2  # an epoch
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the learning curve; agreement is the share of held-out answer tokens with the teacher's argmax."""

    step: int
    epoch: float
    positions: int
    seconds: float
    loss: float
    agreement: float


def distil(
    model: Llama,
    weights: Weights,
    training: TeacherCache,
    held_out: TeacherCache,
    *,
    entry: int,
    recipe: Recipe,
    folder: Path,
    skip: int = 0,
    device: torch.device,
    progress: Callable[[int, int, Point | None], None] | None = None,
) -> list[Point]:
    """Train `model` in place; it takes the trunk's states after `entry` layers.

    A run that was interrupted goes on from its last checkpoint in `folder` and comes to the same result.

    Args:
        skip: so many positions at the start of every conversation are not trained on (the chat template's).
        progress: called after every step with steps done, steps in all, and a point when one was measured.

    Raises:
        ConfigError: the folder holds another run or a damaged checkpoint, the disk is full, or the loss is not finite.
    """
    run = _Run(model.to(device), weights, training, entry, recipe, skip, device)
    curve = run.resume(folder)
    started = time.monotonic() - (curve[-1].seconds if curve else 0.0)
    every = max(1, run.steps_an_epoch // recipe.evaluations)
    while run.step < run.steps:
        run.train_step()
        point = None
        if run.step % every == 0 or run.step == run.steps:
            share = agreement(run.model, weights, held_out, entry, device)
            seconds = time.monotonic() - started
            epoch = run.step / run.steps_an_epoch
            point = Point(run.step, epoch, run.positions, seconds, run.take_loss(), share)
            curve.append(point)
        if point or run.step % _CHECKPOINT_STEPS == 0:
            run.save(folder, curve)
        if progress:
            progress(run.step, run.steps, point)
    return curve


def agreement(model: Llama, weights: Weights, cache: TeacherCache, entry: int, device: torch.device) -> float:
    """Share of answer positions where the model's argmax over the whole vocabulary is the teacher's."""
    output = torch.from_numpy(weights.output).to(device)
    agreed = total = 0
    for final, place in hidden_of(model, weights, cache, entry, device):
        with torch.inference_mode():
            best = (final @ output.T).argmax(-1).cpu().numpy()
        agreed += int((best == cache.best[place, 0]).sum())
        total += len(best)
    return agreed / max(1, total)


def hidden_of(
    model: Llama, weights: Weights, cache: TeacherCache, entry: int, device: torch.device
) -> Iterator[tuple[Tensor, slice]]:
    """The model's normalised last states, float32, at the positions that predict each conversation's answer."""
    embedding = weights["model.embed_tokens.weight"] if entry == 0 else None
    for number in range(len(cache)):
        start, stop = int(cache.offsets[number]), int(cache.offsets[number + 1])
        first = max(0, int(cache.answers[number]) - 1)
        states = entry_states(cache, slice(start, stop), entry, embedding)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            final = model(torch.from_numpy(states).to(device)[None])[0]
        # The row of the last token predicts what was never written.
        yield final[first:-1].float(), slice(start + first, stop - 1)


class _Run:
    """The state of one training run."""

    def __init__(
        self,
        model: Llama,
        weights: Weights,
        cache: TeacherCache,
        entry: int,
        recipe: Recipe,
        skip: int,
        device: torch.device,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.model = model.train()
        self.recipe = recipe
        self._cache, self._entry, self._skip, self._device = cache, entry, skip, device
        seen = SeenTokens(cache, weights.shape.vocabulary)
        embedding = weights["model.embed_tokens.weight"] if entry == 0 else None
        self._batches = Batches(
            cache, seen, entry, embedding, skip=skip, tokens=recipe.batch_tokens, seed=recipe.seed, device=device
        )
        self._output = torch.from_numpy(weights.output[seen.ids]).to(device)
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True)
        self.steps_an_epoch = len(self._batches.order(0))
        self.steps = recipe.epochs * self.steps_an_epoch
        self.step = 0
        self.positions = 0
        self._losses: list[float] = []

    def train_step(self) -> None:
        epoch, index = divmod(self.step, self.steps_an_epoch)
        order = self._batches.order(epoch)  # other epochs may have a batch more or less than the first
        batch = self._batches.load(order[index % len(order)])
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate()
        loss = self._loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            raise ConfigError(
                f"the loss is {value} after {self.step} steps",
                remedy="Start again with a lower --learning-rate and another --out.",
            )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _CLIP)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._losses.append(value)
        self.positions += len(batch.rows)
        self.step += 1

    def take_loss(self) -> float:
        """Mean loss since the last call."""
        mean, self._losses = float(np.mean(self._losses)) if self._losses else math.nan, []
        return mean

    def _loss(self, batch: Batch) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16):
            final = self.model(batch.states).flatten(0, 1)[batch.rows]
            logits = F.linear(final, self._output)
        logprobs = torch.log_softmax(logits.float(), -1)
        cross_entropy = -(batch.chances * logprobs.gather(1, batch.best)).sum(-1).mean()
        distance = F.mse_loss(final.float(), batch.final) / batch.final.square().mean()
        return cross_entropy + self.recipe.feature_weight * distance

    def _learning_rate(self) -> float:
        recipe = self.recipe
        warm = max(1, round(recipe.warmup * self.steps))
        if self.step < warm:
            return recipe.learning_rate * (self.step + 1) / warm
        done = (self.step - warm) / max(1, self.steps - warm)
        return recipe.learning_rate * (recipe.floor + (1 - recipe.floor) * (1 + math.cos(math.pi * done)) / 2)

    def save(self, folder: Path, curve: list[Point]) -> None:
        facts = {
            "run": self._key(),
            "step": str(self.step),
            "positions": str(self.positions),
            "losses": json.dumps(self._losses),
            "curve": json.dumps([asdict(point) for point in curve]),
        }
        save_checkpoint(folder, self.model, self._optimizer, facts)

    def resume(self, folder: Path) -> list[Point]:
        """Load the folder's checkpoint, if there is one."""
        curve: list[Point] = []

        def read(facts: dict[str, str]) -> None:
            self.step, self.positions = int(facts["step"]), int(facts["positions"])
            self._losses = json.loads(facts["losses"])
            curve.extend(Point(**point) for point in json.loads(facts["curve"]))

        load_checkpoint(folder, self.model, self._optimizer, self._key(), self._device, read)
        return curve

    def _key(self) -> str:
        """What makes this run this run."""
        text = int(np.asarray(self._cache.tokens, np.int64).sum())
        key = {**asdict(self.recipe), "entry": self._entry, "skip": self._skip, "steps": self.steps, "text": text}
        return json.dumps({**key, "layers": len(self.model.layers)}, sort_keys=True)
