"""What the full model thinks of a text, computed once and kept on disk: its best tokens and its hidden states."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from updraft.errors import ConfigError, InvalidRequest
from updraft.models.weights import Weights
from updraft.train.conversations import Conversation
from updraft.train.llama import of_trunk

__all__ = ["BEST", "TeacherCache", "cache_teacher"]

BEST = 64  # best tokens kept a position: on chat text they hold nearly all of the probability
_BATCH_TOKENS = 4096
_FORMAT = "updraft-teacher-1"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TeacherCache:
    """Memory-mapped arrays over all positions of all conversations, one after the other.

    Attributes:
        offsets: int64, (conversations + 1): where each one starts.
        answers: int64, (conversations): where each one's answer starts, counted from its own start.
        tokens: int32, (positions).
        best: int32, (positions, BEST): the most probable next tokens, best first.
        logprobs: float16, (positions, BEST): their natural log-probabilities.
        final: float16, (positions, width): normalised hidden states before the output matrix.
        boundaries: layer -> float16, (positions, width): residual states after that many layers.
    """

    offsets: NDArray[np.int64]
    answers: NDArray[np.int64]
    tokens: NDArray[np.int32]
    best: NDArray[np.int32]
    logprobs: NDArray[np.float16]
    final: NDArray[np.float16]
    boundaries: dict[int, NDArray[np.float16]]

    def __len__(self) -> int:
        return len(self.answers)

    def length(self, conversation: int) -> int:
        return int(self.offsets[conversation + 1] - self.offsets[conversation])


def cache_teacher(
    folder: Path,
    weights: Weights,
    conversations: Sequence[Conversation],
    layers: Sequence[int],
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> TeacherCache:
    """Run the model over the text once. A cache of the same text and layers is taken up where it stopped.

    Args:
        layers: after how many layers residual states are kept; 0 is the embedding and needs no keeping.
        progress: called with positions done and positions in all.

    Raises:
        InvalidRequest: a layer that the model does not have.
        ConfigError: the disk has no room for the cache.
    """
    wanted = sorted(set(layers) - {0})
    if wanted and wanted[-1] >= weights.shape.layers:
        raise InvalidRequest(f"there is no layer {wanted[-1]} to leave at: the model has {weights.shape.layers}")
    cache, done = _open(folder, weights, conversations, wanted)
    if done == len(cache):
        return cache
    model = of_trunk(weights).to(device).eval()
    embedding, output = _on(device, weights["model.embed_tokens.weight"]), _on(device, weights.output)
    total = int(cache.offsets[-1])
    for batch in _batches(cache, done):
        with torch.inference_mode(), _half(device):
            ids = _padded([cache.tokens[cache.offsets[n] : cache.offsets[n + 1]] for n in batch]).to(device)
            *states, last = model.states(embedding[ids], list(cache.boundaries))
            final = model.norm(last)
        for row, number in enumerate(batch):
            place = slice(int(cache.offsets[number]), int(cache.offsets[number + 1]))
            _keep(cache, place, [state[row] for state in states], final[row], output)
        _mark(folder, batch.stop)
        if progress:
            progress(int(cache.offsets[batch.stop]), total)
    return cache


def _keep(cache: TeacherCache, place: slice, states: list[Tensor], final: Tensor, output: Tensor) -> None:
    """Write one conversation's rows; log-probabilities are over the whole vocabulary."""
    length = place.stop - place.start
    with torch.inference_mode():  # not in half precision: it would make ties of near neighbours
        logprobs = torch.log_softmax(final[:length].float() @ output.T, -1)  # many times as fast as logsumexp here
        values, ids = logprobs.topk(min(BEST, len(output)), -1)
    cache.best[place] = ids.cpu().numpy()
    cache.logprobs[place] = values.cpu().numpy()
    cache.final[place] = final[:length].float().cpu().numpy()
    for layer, state in zip(cache.boundaries, states, strict=True):
        cache.boundaries[layer][place] = state[:length].float().cpu().numpy()


def _open(
    folder: Path, weights: Weights, conversations: Sequence[Conversation], layers: list[int]
) -> tuple[TeacherCache, int]:
    """The arrays, and how many conversations are in them already."""
    folder.mkdir(parents=True, exist_ok=True)
    lengths = [len(c.prompt) + len(c.response) for c in conversations]
    positions, width = sum(lengths), weights.shape.width
    tokens = np.concatenate([c.tokens for c in conversations])
    best = min(BEST, weights.shape.vocabulary)
    key = {"format": _FORMAT, "trunk": weights.fingerprint, "layers": layers, "positions": positions, "best": best}
    key["text"] = hashlib.sha256(tokens.tobytes() + np.array(lengths).tobytes()).hexdigest()
    kept, finished = _kept(folder)
    same = kept | {"layers": layers} == key and set(layers) <= set(kept["layers"])
    if not same:
        (folder / "done").unlink(missing_ok=True)  # before any array changes
        finished = 0
        _check_room(folder, positions * (6 * best + 2 * width * (1 + len(layers))))

    def array(name: str, kind: Any, *shape: int) -> NDArray[Any]:
        mode: Any = "r+" if same else "w+"
        return np.memmap(folder / f"{name}.bin", kind, mode, shape=(positions, *shape))

    cache = TeacherCache(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array([len(c.prompt) for c in conversations], np.int64),
        tokens,
        array("best", np.int32, best),
        array("logprobs", np.float16, best),
        array("final", np.float16, width),
        {layer: array(f"after{layer}", np.float16, width) for layer in (kept["layers"] if same else layers)},
    )
    if not same:
        (folder / "index.json").write_text(json.dumps(key))
        _mark(folder, 0)
    return cache, finished


def _kept(folder: Path) -> tuple[dict[str, Any], int]:
    """What the folder holds already: a cache's key, and how many conversations are done; none if it is not whole."""
    try:
        key, done = json.loads((folder / "index.json").read_text()), int((folder / "done").read_text())
        names = ["best", "logprobs", "final", *(f"after{layer}" for layer in key["layers"])]
        whole = all((folder / f"{name}.bin").is_file() for name in names)
    except (OSError, ValueError, KeyError, TypeError):
        return {}, 0
    return (key, done) if whole else ({}, 0)


def _mark(folder: Path, done: int) -> None:
    new = folder / "done.new"
    new.write_text(str(done))
    os.replace(new, folder / "done")


def _check_room(folder: Path, needed: int) -> None:
    """Writing into a mapped file on a full disk would end the process."""
    for file in folder.glob("*.bin"):
        file.unlink()  # of another text
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ConfigError(
            f"{folder} has {free >> 20} MiB free; what the model thinks of the text needs {needed >> 20} MiB",
            remedy="Free some room, choose another --out, or give less text.",
        )


def _batches(cache: TeacherCache, done: int) -> Iterator[range]:
    """Neighbouring conversations; the caller sorts them by length, so that little is padding."""
    start = done
    while start < len(cache):
        stop, longest = start, 0
        while stop < len(cache):
            longest = max(longest, cache.length(stop))
            if stop > start and longest * (stop - start + 1) > _BATCH_TOKENS:
                break
            stop += 1
        yield range(start, stop)
        start = stop


def _padded(rows: Sequence[NDArray[np.int32]]) -> Tensor:
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = tokens
    return torch.from_numpy(ids)


def _on(device: torch.device, values: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(values).to(device)


def _half(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16)
