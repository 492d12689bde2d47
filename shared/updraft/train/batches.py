"""What a step of training sees: which conversations, their states, and what the teacher thinks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from updraft.train.teacher import TeacherCache

__all__ = ["Batch", "Batches", "SeenTokens", "entry_states"]

_SEEN_BEST = 1  # of the best tokens so many count as seen: with the text's own they hold 99 % of what is cached
_WINDOW = 64  # conversations that are sorted by length together


class SeenTokens:
    """The part of the vocabulary that the text and the teacher's best tokens use; the rest is not trained against."""

    def __init__(self, cache: TeacherCache, vocabulary: int) -> None:
        seen = np.zeros(vocabulary, bool)
        seen[cache.tokens] = True
        seen[np.unique(cache.best[:, :_SEEN_BEST])] = True
        self.ids: NDArray[np.int64] = np.flatnonzero(seen)
        self._places = np.full(vocabulary, -1, np.int64)
        self._places[self.ids] = np.arange(len(self.ids))

    def places(self, ids: NDArray[np.int32]) -> NDArray[np.int64]:
        """Where token ids stand among the seen ones; -1 for those that are not."""
        return self._places[ids]


def entry_states(
    cache: TeacherCache, place: slice, entry: int, embedding: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """What a model that starts after `entry` trunk layers takes in, shape (positions, width)."""
    if embedding is not None:
        return embedding[cache.tokens[place]]
    return cache.boundaries[entry][place].astype(np.float32)


@dataclass(slots=True)
class Batch:
    """Some conversations, padded, and what the teacher says of their positions."""

    states: Tensor  # (conversations, length, width)
    rows: Tensor  # which of the flattened positions count
    best: Tensor  # (rows, BEST): places among the seen tokens
    chances: Tensor  # (rows, BEST): the teacher's probabilities, 0 for unseen tokens
    final: Tensor  # (rows, width): the teacher's normalised states


class Batches:
    """The batches of every epoch, a function of the text and the seed.

    Args:
        entry: the model's states are the trunk's after so many layers; `embedding` is the trunk's where it is 0.
        skip: so many positions at the start of every conversation do not count.
        tokens: of a batch, with padding, but that it holds at least one conversation.
    """

    def __init__(
        self,
        cache: TeacherCache,
        seen: SeenTokens,
        entry: int,
        embedding: NDArray[np.float32] | None,
        *,
        skip: int,
        tokens: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._cache, self._seen, self._entry, self._embedding = cache, seen, entry, embedding
        self._skip, self._tokens, self._seed, self._device = skip, tokens, seed, device
        self._order: tuple[int, list[NDArray[np.int64]]] = (-1, [])

    def order(self, epoch: int) -> list[NDArray[np.int64]]:
        """Conversations of each batch: shuffled, then sorted by length within windows so that little is padding."""
        if self._order[0] == epoch:
            return self._order[1]
        shuffled = np.random.default_rng([self._seed, epoch]).permutation(len(self._cache))
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(shuffled), _WINDOW):
            window = sorted(shuffled[start : start + _WINDOW], key=self._cache.length)
            while window:
                count = 1
                while count < len(window) and self._cache.length(window[count]) * (count + 1) <= self._tokens:
                    count += 1
                batches.append(np.array(window[:count]))
                window = window[count:]
        np.random.default_rng([self._seed, epoch, 1]).shuffle(cast("Any", batches))
        self._order = (epoch, batches)
        return batches

    def load(self, numbers: NDArray[np.int64]) -> Batch:
        cache = self._cache
        longest = max(cache.length(n) for n in numbers)
        places = [slice(int(cache.offsets[n]), int(cache.offsets[n + 1])) for n in numbers]
        states = np.zeros((len(numbers), longest, cache.final.shape[1]), np.float32)
        rows, taught = [], []
        for row, place in enumerate(places):
            length = place.stop - place.start
            states[row, :length] = entry_states(cache, place, self._entry, self._embedding)
            skipped = min(self._skip, length - 1)  # short plain text keeps a row: a batch must not be empty
            rows.append(np.arange(skipped, length) + row * longest)
            taught.append(np.arange(place.start + skipped, place.stop))
        positions = np.concatenate(taught)
        best = self._seen.places(cache.best[positions])
        chances = np.where(best >= 0, np.exp(cache.logprobs[positions].astype(np.float32)), 0)
        chances /= np.maximum(chances.sum(-1, keepdims=True), 1e-6)

        def on_device(values: NDArray[Any]) -> Tensor:
            return torch.from_numpy(values).to(self._device)

        return Batch(
            on_device(states),
            on_device(np.concatenate(rows)),
            on_device(np.maximum(best, 0)),
            on_device(chances.astype(np.float32)),
            on_device(cache.final[positions].astype(np.float32)),
        )
