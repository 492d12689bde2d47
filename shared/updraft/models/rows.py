"""Matrices as int8 with one float16 scale a row: how files that Updraft ships keep what was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["quantised_rows", "unpacked_rows"]

FloatArray = NDArray[np.float32]

_SCALE = ".scale"


def quantised_rows(name: str, values: FloatArray) -> dict[str, NDArray[Any]]:
    """A matrix as the two tensors of a file."""
    # Rounded up to float16, so that no value exceeds 127 scales.
    scale = np.nextafter((np.abs(values).max(axis=1) / 127).astype(np.float16), np.float16(np.inf))
    rounded = np.rint(values / scale.astype(np.float32)[:, None]).astype(np.int8)
    return {name: rounded, name + _SCALE: scale}


def unpacked_rows(packed: Mapping[str, NDArray[Any]]) -> dict[str, FloatArray]:
    """All tensors of a file as float32. Raises KeyError or ValueError where a matrix and its scales do not fit."""
    tensors: dict[str, FloatArray] = {}
    for name, values in packed.items():
        if name.endswith(_SCALE):
            continue
        tensors[name] = values.astype(np.float32)
        if values.dtype == np.int8:
            tensors[name] *= packed[name + _SCALE].astype(np.float32)[:, None]
    return tensors
