"""Trains the heads that say whether an exit will agree with the full model.

PALBERT (arXiv 2204.03276) trains its heads through the expected loss over exits. Here the labels are known (an exit
agrees with the full model or it does not), so both outputs are trained by binary cross-entropy, which also calibrates
them: "agrees", and "hopeless" (neither this exit nor a deeper one agrees: the third verdict of stop-and-exit, "When
Neural Code Completion Models Size up the Situation", ICSE 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from updraft.errors import InvalidRequest
from updraft.models.weights import Weights
from updraft.train.distil import hidden_of
from updraft.train.llama import Llama
from updraft.train.teacher import TeacherCache

__all__ = ["heads_of_exits", "train_heads"]

_HIDDEN = (64, 32)
_EPOCHS = 6
_BATCH = 512
_LEARNING_RATE = 2e-3
_DECAY = 0.05
_POSITIONS = 20_000

FloatArray = NDArray[np.float32]


def heads_of_exits(
    exits: Sequence[tuple[int, Llama]], *, weights: Weights, cache: TeacherCache, seed: int = 0
) -> list[dict[str, FloatArray]]:
    """Train the heads of exits, given as layer and model.

    The text must not be what the exits were trained on: there they agree more often than they will.
    """
    device = next(exits[0][1].parameters()).device
    output = torch.from_numpy(weights.output).to(device)
    features, agrees = [], []
    for layer, model in exits:
        rows, same, count = [], [], 0
        for final, place in hidden_of(model, weights, cache, layer, device):
            with torch.inference_mode():
                best = (final @ output.T).argmax(-1).cpu().numpy()
            rows.append(final.cpu().numpy())
            same.append(best == cache.best[place, 0])
            count += len(best)
            if count >= _POSITIONS:
                break
        features.append(np.concatenate(rows))
        agrees.append(np.concatenate(same))
    return train_heads(features, agrees, seed=seed)


def train_heads(
    features: Sequence[FloatArray], agrees: Sequence[NDArray[np.bool_]], *, seed: int = 0
) -> list[dict[str, FloatArray]]:
    """One head an exit, as tensors `head.N.weight` and `head.N.bias`.

    Args:
        features: for each exit, from the shallowest, its normalised states, shape (positions, width).
        agrees: for each exit, at the same positions, whether its argmax is the full model's.

    Raises InvalidRequest if the shapes do not fit each other, or for fewer than two positions.
    """
    if len(features) != len(agrees) or len({len(rows) for rows in [*features, *agrees]}) != 1:
        raise InvalidRequest("features and labels of all exits must be of the same positions")
    if not features or len(features[0]) < 2:
        raise InvalidRequest("there is too little text to train the exits' heads on", remedy="Give more text.")
    heads = []
    for number, rows in enumerate(features):
        hopeless = ~np.logical_or.reduce(agrees[number:])
        labels = np.stack([agrees[number], hopeless], -1).astype(np.float32)
        heads.append(_train(rows, labels, seed + number))
    return heads


def _train(features: FloatArray, labels: FloatArray, seed: int) -> dict[str, FloatArray]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    mean, spread = x.mean(0), x.std(0) + 1e-6
    layers = _layers(x.shape[1], y.mean(0), generator)
    optimizer = torch.optim.AdamW(layers.parameters(), lr=_LEARNING_RATE, weight_decay=_DECAY)
    for _ in range(_EPOCHS):
        for rows in torch.split(torch.randperm(len(x), generator=generator), _BATCH):
            loss = F.binary_cross_entropy_with_logits(layers((x[rows] - mean) / spread), y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    # The standardisation goes into the first layer: a head reads features as they are.
    first = linear[0]
    first.weight.data /= spread
    first.bias.data -= first.weight.data @ mean
    return {
        f"head.{number}.{part}": getattr(layer, part).detach().numpy()
        for number, layer in enumerate(linear)
        for part in ("weight", "bias")
    }


def _layers(width: int, share: torch.Tensor, generator: torch.Generator) -> nn.Sequential:
    """Tanh layers; the last one starts at the labels' shares."""
    sizes = [width, *_HIDDEN, 2]
    layers: list[nn.Module] = []
    for reads, gives in pairwise(sizes):
        linear = nn.Linear(reads, gives)
        nn.init.normal_(linear.weight, std=reads**-0.5, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    last = layers[-2]
    assert isinstance(last, nn.Linear)  # noqa: S101  # made above
    last.bias.data = torch.logit(share.clamp(1e-3, 1 - 1e-3))
    return nn.Sequential(*layers[:-1])
