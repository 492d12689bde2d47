"""Expert matrices in 8 or 4 bits: symmetric, weight-only, given back in the model's type before they are multiplied.

8 bits: one scale an output row. 4 bits: one scale for every 32 neighbours of a row, two numbers a byte.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["GROUP", "ExpertBits", "packed_bytes", "quantise", "restore"]

ExpertBits = Literal[4, 8]
GROUP = 32  # columns that share a scale at 4 bits


def quantise(matrix: Tensor, bits: ExpertBits) -> tuple[Tensor, Tensor]:
    """Numbers and float32 scales of a matrix, shape (rows, columns).

    8 bits: int8 (rows, columns) and (rows, 1). 4 bits: uint8 (rows, columns / 2) and (rows, columns / 32); columns must
    be a multiple of 32.
    """
    values = matrix.float()
    if bits == 8:
        scale = values.abs().amax(1, keepdim=True) / 127
        return (values / _divisor(scale)).round_().to(torch.int8), scale
    groups = values.view(values.shape[0], -1, GROUP)
    scale = groups.abs().amax(2, keepdim=True) / 7
    numbers = (groups / _divisor(scale)).round_().to(torch.int8).add_(8).to(torch.uint8).view(values.shape[0], -1)
    return numbers[:, ::2] | (numbers[:, 1::2] << 4), scale[:, :, 0]


def restore(numbers: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix that `quantise` was given, as far as the bits allow, shape (rows, columns)."""
    rows = numbers.shape[0]
    if numbers.dtype == torch.int8:
        return (numbers.float() * scale).to(dtype)
    pairs = torch.stack((numbers & 15, numbers >> 4), 2).view(rows, -1, GROUP)
    return ((pairs.float() - 8) * scale[:, :, None]).to(dtype).view(rows, -1)


def packed_bytes(rows: int, columns: int, bits: ExpertBits) -> int:
    """Bytes of numbers and scales together."""
    return rows * columns + 4 * rows if bits == 8 else rows * columns // 2 + 4 * rows * (columns // GROUP)


def _divisor(scale: Tensor) -> Tensor:
    """A row of zeros has scale 0, and stays zero."""
    return torch.where(scale > 0, scale, 1.0)
