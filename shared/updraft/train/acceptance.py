"""Training of the acceptance head (SpecDec++, arXiv 2405.19715, section 3.3), and how good it is on held-out text."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from updraft.acceptance_head import FEATURES, AcceptanceHead
from updraft.errors import InvalidRequest
from updraft.evaluation.curves import auc
from updraft.exits.isotonic import expected_error, fit_curve
from updraft.train.acceptance_labels import Labels

__all__ = ["HeadRecipe", "Quality", "compare", "quality", "train_head"]

_LEAST = 200
_FARTHEST = 1e-6  # probabilities are kept so far from 0 and 1

Progress = Callable[[int, int], None]
Probabilities = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeadRecipe:
    """How a head is trained.

    Attributes:
        narrow: width that the state is projected to; the paper's head is as wide as the drafter.
        blocks: residual blocks x + SiLU(W x + b), each with its own weights (3 in the paper).
        rejected_weight: how much more a rejected token weighs (6 in the paper).
        dropout: of the hidden state and of the projected one.
        kept_back: share of the positions that training stops by: the epoch that predicts them best is kept.
    """

    narrow: int = 64
    blocks: int = 2
    epochs: int = 12
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.3
    dropout: float = 0.6
    kept_back: float = 0.12
    rejected_weight: float = 6.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Quality:
    """How good probabilities of standing are.

    Attributes:
        accuracy: share of positions where "at least one half" is right.
        auc: area under the receiver operating characteristic; 0.5 knows nothing.
        log_loss: mean negative log-likelihood, nats.
        calibration_error: expected calibration error.
    """

    accuracy: float
    auc: float
    log_loss: float
    calibration_error: float


class _Head(nn.Module):
    def __init__(self, width: int, recipe: HeadRecipe) -> None:
        super().__init__()
        self.project = nn.Linear(width + FEATURES, recipe.narrow)
        self.blocks = nn.ModuleList(nn.Linear(recipe.narrow, recipe.narrow) for _ in range(recipe.blocks))
        self.dropout = nn.Dropout(recipe.dropout)
        # The features reach the output directly, too: the head begins where the confidence alone is.
        self.out = nn.Linear(recipe.narrow + FEATURES, 1)
        for block in self.blocks:  # begins as the identity, as SpecDec++'s ResBlock does
            nn.init.zeros_(block.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = inputs[:, -FEATURES:]
        values = self.dropout(self.project(torch.cat([self.dropout(inputs[:, :-FEATURES]), features], dim=1)))
        for block in self.blocks:
            values = values + nn.functional.silu(block(values))
        return self.out(torch.cat([values, features], dim=1))[:, 0]  # type: ignore[no-any-return]


def train_head(
    labels: Labels,
    *,
    edge: str,
    cloud: str,
    recipe: HeadRecipe | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> AcceptanceHead:
    """Fit a head to labels by binary cross-entropy with AdamW and a cosine schedule; both models stay as they are.

    Raises InvalidRequest for fewer than 200 positions, or where all of them stood or none did.
    """
    recipe = recipe or HeadRecipe()
    if len(labels) < _LEAST or labels.stood.all() or not labels.stood.any():
        raise InvalidRequest(
            f"{len(labels)} positions, {int(labels.stood.sum())} of which stood, are too few to learn from",
            remedy="Give more text.",
        )
    torch.manual_seed(recipe.seed)
    started = time.perf_counter()
    hidden = torch.from_numpy(labels.hidden.astype(np.float32))
    scale = 1.0 / hidden.std(dim=0).clamp_min(1e-3)
    inputs = torch.cat([hidden * scale, torch.from_numpy(labels.features)], dim=1)
    stood = torch.from_numpy(labels.stood.astype(np.float32))
    weights = torch.where(stood > 0, 1.0, recipe.rejected_weight)
    head = _Head(hidden.shape[1], recipe)
    _start_at_features(head, inputs[:, -FEATURES:], stood, weights)
    _fit(head, inputs, stood, weights, recipe, progress)
    return AcceptanceHead(
        _tensors(head, scale),
        edge,
        cloud,
        recipe.rejected_weight,
        {**(facts or {}), "recipe": asdict(recipe), "positions": len(labels), "seconds": time.perf_counter() - started},
    )


def _start_at_features(head: _Head, features: torch.Tensor, stood: torch.Tensor, weights: torch.Tensor) -> None:
    """Logistic regression on the features alone, which the state then only has to correct.

    From random weights the state's hundreds of values are overfitted before the few features are learned.
    """
    coefficients = torch.zeros(FEATURES, requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([coefficients, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits = features @ coefficients + bias
        losses = nn.functional.binary_cross_entropy_with_logits(logits, stood, reduction="none")
        loss = (losses * weights).sum() / weights.sum() + 1e-4 * coefficients.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        head.out.weight[0, -FEATURES:] = coefficients
        head.out.bias.copy_(bias)


def _fit(
    head: _Head,
    inputs: torch.Tensor,
    stood: torch.Tensor,
    weights: torch.Tensor,
    recipe: HeadRecipe,
    progress: Progress | None,
) -> None:
    stop = len(inputs) - max(1, int(recipe.kept_back * len(inputs)))  # the last conversations' positions
    steps = recipe.epochs * math.ceil(stop / recipe.batch)
    optimiser = torch.optim.AdamW(head.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    shuffle = torch.Generator().manual_seed(recipe.seed)
    best, kept = _reached(head, inputs[stop:], stood[stop:], weights[stop:]), _copy(head)
    for epoch in range(recipe.epochs):
        head.train()
        for part in torch.split(torch.randperm(stop, generator=shuffle), recipe.batch):
            loss = _loss(head, inputs[part], stood[part], weights[part])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        reached = _reached(head, inputs[stop:], stood[stop:], weights[stop:])
        if reached < best:
            best, kept = reached, _copy(head)
        if progress:
            progress(epoch + 1, recipe.epochs)
    head.load_state_dict(kept)
    head.eval()


def _copy(head: _Head) -> dict[str, torch.Tensor]:
    return {name: values.clone() for name, values in head.state_dict().items()}


def _reached(head: _Head, inputs: torch.Tensor, stood: torch.Tensor, weights: torch.Tensor) -> float:
    head.eval()
    with torch.no_grad():
        return float(_loss(head, inputs, stood, weights))


def _loss(head: _Head, inputs: torch.Tensor, stood: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    losses = nn.functional.binary_cross_entropy_with_logits(head(inputs), stood, reduction="none")
    return (losses * weights).sum() / weights.sum()


def _tensors(head: _Head, scale: torch.Tensor) -> dict[str, NDArray[np.float32]]:
    tensors = {"scale": scale, **head.state_dict()}
    tensors["out.weight"] = tensors["out.weight"][0]
    return {name: values.detach().numpy().astype(np.float32) for name, values in tensors.items()}


def compare(head: AcceptanceHead, training: Labels, held_out: Labels) -> dict[str, Quality]:
    """The head and the edge's own confidence, both calibrated by isotonic regression on the training positions.

    Returns: quality on held-out positions of `confidence`, `head`, and `always` (the share that stood in training).
    """
    found = {"always": quality(np.full(len(held_out), training.stood.mean()), held_out.stood)}
    scores = {
        "confidence": (training.confidence, held_out.confidence),
        "head": tuple(_said(head, part) for part in (training, held_out)),
    }
    for name, (fitted, asked) in scores.items():
        # In bits below certainty, where most scores crowd.
        curve = fit_curve(_spread(fitted), training.stood)
        found[name] = quality(np.interp(_spread(asked), curve.scores, curve.probabilities), held_out.stood)
    return found


def quality(probabilities: NDArray[Any], stood: NDArray[np.bool_]) -> Quality:
    """Of probabilities, shape (n,), for what happened, shape (n,)."""
    clipped = np.clip(probabilities.astype(np.float64), _FARTHEST, 1.0 - _FARTHEST)
    return Quality(
        float(((clipped >= 0.5) == stood).mean()),
        _area(clipped, stood),
        float(-np.log(np.where(stood, clipped, 1.0 - clipped)).mean()),
        expected_error(clipped, stood),
    )


def _said(head: AcceptanceHead, labels: Labels) -> NDArray[np.float32]:
    return head.probabilities(labels.hidden.astype(np.float32), labels.features)


def _spread(scores: NDArray[np.float32]) -> Probabilities:
    left: Probabilities = 1.0 - np.minimum(scores.astype(np.float64), 1.0 - 2.0**-16)
    return -np.log2(left)


def _area(scores: Probabilities, stood: NDArray[np.bool_]) -> float:
    """Under the ROC curve; a half where all tokens stood, or none."""
    return auc(scores, stood) if 0 < stood.sum() < len(stood) else 0.5
