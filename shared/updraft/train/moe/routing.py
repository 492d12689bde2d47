"""What a mixture of experts' routing looks like: how evenly it spreads, and what tells it in advance.

Every figure that can come out of chance or of too little text stands beside the same figure of shuffled choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from updraft.train.conversations import Conversation
from updraft.train.moe.model import Mixtral

__all__ = ["Choices", "LayerRouting", "collect", "layer_routing"]

IntArray = NDArray[np.int64]

_GUESSES = 4  # experts that one would bring ahead of time, of each layer


@dataclass(frozen=True, slots=True)
class Choices:
    """Which experts were chosen for a text.

    Attributes:
        tokens: shape (positions,).
        chosen: shape (layers, positions, active), best first.
        starts: where each conversation starts.
        experts: of a layer.
    """

    tokens: IntArray
    chosen: IntArray
    starts: IntArray
    experts: int


@dataclass(frozen=True, slots=True)
class LayerRouting:
    """One layer's routing; information in bits, the rest as shares.

    Attributes:
        usage: share of all choices that each expert has.
        usage_entropy: of that; log2(experts) where all are used alike.
        token_information: mutual information of token id and best expert, and the same with token ids shuffled.
        before_information: of the layer before's best expert and this one's, and the same shuffled; none in layer 0.
        token_recall, before_recall, usage_recall: share of the chosen experts that are among four guessed by the token
            id, by the layer before's choices, and by usage alone; guessed from one half of the text, held against the
            other.
        repeats: how often a token's experts were the last token's, too, and how often they would be at random.
    """

    usage: tuple[float, ...]
    usage_entropy: float
    token_information: tuple[float, float]
    before_information: tuple[float, float] | None
    token_recall: float
    before_recall: float | None
    usage_recall: float
    repeats: tuple[float, float]


def collect(model: Mixtral, table: Tensor, conversations: Sequence[Conversation]) -> Choices:
    """Run the model over a text."""
    chosen: list[IntArray] = []
    for conversation in conversations:
        tokens = torch.from_numpy(conversation.tokens.astype(np.int64)).to(table.device)
        with torch.inference_mode():
            _, routings = model(table[tokens][None])
        chosen.append(np.stack([routing.chosen.cpu().numpy() for routing in routings]))
    lengths = [len(conversation.tokens) for conversation in conversations]
    return Choices(
        np.concatenate([c.tokens for c in conversations]).astype(np.int64),
        np.concatenate(chosen, axis=1),
        np.cumsum([0, *lengths[:-1]]),
        model.shape.experts,
    )


def layer_routing(choices: Choices, seed: int = 0) -> list[LayerRouting]:
    """Every layer's figures, in order."""
    return [_layer(choices, layer, np.random.default_rng([seed, layer])) for layer in range(len(choices.chosen))]


def _layer(choices: Choices, layer: int, random: np.random.Generator) -> LayerRouting:
    chosen = choices.chosen[layer]
    usage = np.bincount(chosen.ravel(), minlength=choices.experts) / chosen.size
    before = choices.chosen[layer - 1] if layer else None
    shuffled = random.permutation(len(chosen))
    _, tokens = np.unique(choices.tokens, return_inverse=True)

    def information(of: IntArray) -> tuple[float, float]:
        return _information(of, chosen[:, 0]), _information(of[shuffled], chosen[:, 0])

    return LayerRouting(
        usage=tuple(usage.tolist()),
        usage_entropy=_entropy(usage),
        token_information=information(tokens),
        before_information=None if before is None else information(before[:, 0]),
        token_recall=_recall(tokens[:, None], chosen, choices.experts),
        before_recall=None if before is None else _recall(before, chosen, choices.experts),
        usage_recall=_recall(np.zeros((len(chosen), 1), np.int64), chosen, choices.experts),
        repeats=(_repeats(chosen, choices.starts), float(chosen.shape[1] * (usage**2).sum())),
    )


def _entropy(shares: NDArray[np.float64]) -> float:
    kept = shares[shares > 0]
    return float(-(kept * np.log2(kept)).sum())


def _information(first: IntArray, second: IntArray) -> float:
    """Mutual information in bits, of counts as they are: too high for little text, by as much as a shuffle shows."""
    pairs = _counts(first * (int(second.max()) + 1) + second)
    return _entropy(_counts(first)) + _entropy(_counts(second)) - _entropy(pairs)


def _counts(values: IntArray) -> NDArray[np.float64]:
    _, counts = np.unique(values, return_counts=True)
    return counts / len(values)


def _recall(signs: IntArray, chosen: IntArray, experts: int) -> float:
    """Learn from the first half how often each expert follows each sign, guess the second half by the sums over a
    position's signs and, below those, by usage."""
    half = len(chosen) // 2
    follows = np.zeros((int(signs.max()) + 1, experts))
    for sign in signs[:half].T:
        for expert in chosen[:half].T:
            np.add.at(follows, (sign, expert), 1.0)
    usage = np.bincount(chosen[:half].ravel(), minlength=experts) / (half * chosen.shape[1])
    scores: NDArray[Any] = follows[signs[half:]].sum(1) + usage
    guessed = np.argsort(-scores, axis=1, kind="stable")[:, :_GUESSES]
    return float((chosen[half:, :, None] == guessed[:, None, :]).any(-1).mean())


def _repeats(chosen: IntArray, starts: IntArray) -> float:
    same = (chosen[1:, :, None] == chosen[:-1, None, :]).any(-1)
    inside = np.ones(len(same), bool)
    inside[starts[1:] - 1] = False
    return float(same[inside].mean())
