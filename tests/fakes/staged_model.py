"""Tiny staged models, made in a moment: real graphs, untrained exits that copy a trunk layer and the final norm."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.fakes.graph_builder import build_graphs
from tests.fakes.tiny_model import write_tiny_model
from updraft.models.rungs import Rung, write_rung
from updraft.models.staged import Manifest, export, export_staged
from updraft.models.weights import Weights, read_weights

__all__ = ["export_without_builder", "write_exit", "write_staged_model"]


def write_staged_model(
    folder: Path, *, exits: Sequence[int] = (2, 4), layers: int = 6, seed: int = 0, context: int = 512, **options: Any
) -> Manifest:
    """Make a staged model of the tiny model.

    Args:
        folder: to make; must not exist.
        exits: layers after which there is an exit.
        layers: of the trunk.
        seed: of its weights.
        context: the context length that it names.
        options: of `export_staged`; precision is fp32 unless given.
    """
    with tempfile.TemporaryDirectory() as scratch:
        trunk = write_tiny_model(Path(scratch) / "tiny.gguf", seed=seed, layers=layers, context=context)
        weights = read_weights(trunk)
        rungs = [write_exit(Path(scratch) / f"exit{layer}.safetensors", weights, layer) for layer in exits]
        return export_without_builder(trunk, folder, rungs=rungs, **{"precision": "fp32", **options})


def export_without_builder(source: Path, target: Path, **options: Any) -> Manifest:
    """`export_staged` with graphs from `tests.fakes.graph_builder`, where the libraries of the real one are missing."""
    with patch.object(export, "build", build_graphs), patch.object(export, "require_builder", lambda: None):
        return export_staged(source, target, **options)


def write_exit(path: Path, weights: Weights, layer: int, *, noise: float = 0.0, heads: bool = False) -> Path:
    """An exit of the trunk at a layer, as if it had been trained.

    Args:
        path: the file to write.
        weights: the trunk's.
        layer: how many of its layers run before the exit's block.
        noise: relative standard deviation of noise on the block's weights.
        heads: whether the rung has the tensors of an exit criterion.
    """
    random = np.random.default_rng(layer)
    tensors = {
        f"layers.{layer}.{suffix}": (values * (1 + noise * random.standard_normal(values.shape))).astype(np.float32)
        for suffix, values in weights.block(layer).items()
    }
    tensors["norm.weight"] = weights["model.norm.weight"]
    if heads:
        tensors["head.0.weight"] = random.standard_normal((4, weights.shape.width)).astype(np.float32)
    rung = Rung("exit", weights.fingerprint, tuple(range(layer + 1)), frozenset({layer}), tensors, {"seconds": 1.5})
    write_rung(rung, path, "float32")
    return path
