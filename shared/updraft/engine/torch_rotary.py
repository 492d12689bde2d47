"""Rotary positions (Su and others, arXiv 2104.09864) in Hugging Face's order of halves."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from updraft.models.hf import Rope

__all__ = ["frequencies", "rotate", "rotation_table"]


def frequencies(rope: Rope, head_size: int) -> Tensor:
    """Radians that each pair turns by from one position to the next, float32, shape (head_size / 2,)."""
    plain = 1.0 / rope.theta ** (torch.arange(0, head_size, 2).float() / head_size)
    if rope.kind == "linear":
        return plain / rope.factor
    return plain if rope.kind == "default" else _llama3(plain, rope)


def rotation_table(rope: Rope, head_size: int, context: int, dtype: torch.dtype) -> Tensor:
    """Cosines and sines of all positions, shape (2, context, head_size)."""
    angles = torch.arange(context).float()[:, None] * frequencies(rope, head_size)
    angles = torch.cat((angles, angles), -1)
    return torch.stack((angles.cos(), angles.sin())).to(dtype)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate heads, shape (rows, heads, head_size), by their rows' cosines and sines, shape (2, rows, head_size)."""
    cosine, sine = rotation[0][:, None], rotation[1][:, None]
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine


def _llama3(plain: Tensor, rope: Rope) -> Tensor:
    """Llama 3.1's scaling: long waves are stretched by `factor`, short ones kept, those between in proportion."""
    waves = 2 * math.pi / plain
    longest, shortest = rope.original_context / rope.low_frequency, rope.original_context / rope.high_frequency
    share = (rope.original_context / waves - rope.low_frequency) / (rope.high_frequency - rope.low_frequency)
    between = (1 - share) * plain / rope.factor + share * plain
    return torch.where(waves > longest, plain / rope.factor, torch.where(waves < shortest, plain, between))
