"""Trained exits of a Hugging Face folder, from the files of the model ladder: where a run may stop early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from updraft.engine.torch_model import Attention, Exit, FeedForward, Layer, Linear
from updraft.errors import ConfigError
from updraft.models.rungs import Rung, read_rung
from updraft.models.weights import read_weights

__all__ = ["exit_places", "load_exits", "read_exits"]


def read_exits(folder: Path, files: Sequence[Path]) -> list[Rung]:
    """The exits in these files, held against the folder's model; reads all of its weights for their digest.

    Raises:
        ModelNotFound, BadModelFile: a file is missing or damaged, or the model is not of the architecture that exits
            are trained for.
        WrongTrunk: an exit was trained on another model.
        ConfigError: a file is no exit of a layer below the last, or two are of the same.
        MissingExtra: safetensors is not installed.
    """
    if not files:
        return []
    rungs = [read_rung(Path(file)) for file in files]
    trunk = read_weights(folder)
    for rung, file in zip(rungs, files, strict=True):
        rung.check_trunk(trunk)
        if rung.kind != "exit" or not 1 <= rung.layer < trunk.shape.layers:
            raise ConfigError(
                f"{file} is no exit after one of the layers 1 to {trunk.shape.layers - 1}",
                remedy="Name files that `updraft train exits` made.",
            )
    places = [rung.layer for rung in rungs]
    if len(set(places)) != len(places):
        raise ConfigError(f"the exits come after the layers {places}; there can be one after each")
    return sorted(rungs, key=lambda rung: rung.layer)


def exit_places(rungs: Sequence[Rung]) -> dict[int, int]:
    """The stages after which there is an exit, with the blocks of each."""
    return {rung.layer - 1: len(rung.trained) for rung in rungs}


def load_exits(rungs: Sequence[Rung], device: torch.device, dtype: torch.dtype) -> list[Exit]:
    """Their weights in the model's type, on its device."""

    def put(values: NDArray[np.float32]) -> Tensor:
        return torch.tensor(values).to(device, dtype)

    return [Exit(rung.layer - 1, _block(rung, put), put(rung.norm)) for rung in rungs]


def _block(rung: Rung, put: Callable[[NDArray[np.float32]], Tensor]) -> Layer:
    def of(*names: str) -> Tensor:
        return put(np.concatenate([rung.tensors[f"layers.{rung.layer}.{name}.weight"] for name in names]))

    attention = Attention(
        Linear(of(*(f"self_attn.{part}_proj" for part in "qkv"))), Linear(of("self_attn.o_proj")), None, None
    )
    feed_forward = FeedForward(Linear(of("mlp.gate_proj", "mlp.up_proj")), Linear(of("mlp.down_proj")))
    return Layer(of("input_layernorm"), attention, of("post_attention_layernorm"), feed_forward)
