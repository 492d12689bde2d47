"""A tiny mixture of experts with random weights, packed as the shipped one is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from updraft.models.llama_shape import LlamaShape
from updraft.models.moe.packed import INPUT, OUTPUT, PackedMoe
from updraft.models.moe.shape import MixtralShape
from updraft.models.weights import Weights

__all__ = ["TINY_MOE", "packed_tiny_moe"]

TINY_MOE = MixtralShape(LlamaShape(2, 32, 2, 1, 16, 24, 320, 64, 10_000.0, 1e-5), experts=4, active=2)


def packed_tiny_moe(trunk: Weights, seed: int = 0) -> PackedMoe:
    """Two layers of four experts on the vocabulary of `trunk`."""
    random = np.random.default_rng(seed)
    shape = replace(TINY_MOE, base=replace(TINY_MOE.base, vocabulary=trunk.shape.vocabulary))
    projection = (trunk.shape.width, shape.base.width)
    sizes = {**shape.blocks, INPUT: projection, OUTPUT: projection}
    tensors = {
        name: np.ones(size, np.float32) if len(size) == 1 else random.normal(0, 0.2, size).astype(np.float32)
        for name, size in sizes.items()
    }
    return PackedMoe(shape, trunk.fingerprint, tensors, {"seed": seed})
