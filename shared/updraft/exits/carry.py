"""Hidden states at the precision in which they cross a wire (CE-CoLLM, arXiv 2411.02829, halves its traffic by fp16).

Rounding is idempotent: states that an engine has rounded at its split arrive unchanged, so an edge that goes on from
rounded states and a cloud that continues from received ones compute one and the same function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from updraft.errors import InvalidRequest, ProtocolViolation

__all__ = ["CARRIES", "Carry", "FloatRows", "Packed", "pack", "packed_bytes", "rounded", "unpack"]

FloatRows = NDArray[np.float32]
Carry = Literal["float32", "float16", "int8"]
CARRIES: tuple[Carry, ...] = get_args(Carry)

_WIRE: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "int8": np.dtype("i1"),
}
_LARGEST = {"float32": np.inf, "float16": 65504.0, "int8": 1e38}  # beyond it values are clipped
_SMALLEST_SCALE = 1e-30  # rows below it are zeros: their scale would lose bits as a subnormal


@dataclass(frozen=True, slots=True)
class Packed:
    """Hidden states of `count` consecutive positions as they travel.

    Attributes:
        data: count x width values, little-endian, row by row.
        scales: float32, shape (count,) for int8, where value = scale x integer; else empty.
    """

    carry: Carry
    count: int
    width: int
    data: bytes
    scales: NDArray[np.float32]

    def part(self, start: int, stop: int) -> Packed:
        """The rows from `start` to `stop` (exclusive)."""
        row = len(self.data) // self.count
        data, scales = self.data[start * row : stop * row], self.scales[start:stop]
        return Packed(self.carry, stop - start, self.width, data, scales)


def pack(states: FloatRows, carry: Carry) -> Packed:
    """States of shape (count, width) for the wire.

    Raises:
        InvalidRequest: they have another shape, or are not finite.
    """
    if states.ndim != 2 or not len(states):
        raise InvalidRequest(f"Hidden states have the shape {states.shape}; it must be (count, width).")
    if not np.isfinite(states).all():
        raise InvalidRequest("The model computed hidden states that are not finite.", remedy="The model is damaged.")
    values = np.clip(states, -_LARGEST[carry], _LARGEST[carry])
    scales = np.empty(0, np.float32)
    if carry == "int8":
        scales = _scales(values)
        values = np.rint(values / np.where(scales > 0, scales, np.float32(np.inf))[:, None])
    return Packed(carry, len(states), states.shape[1], values.astype(_WIRE[carry]).tobytes(), scales)


def unpack(packed: Packed) -> FloatRows:
    """The states again, float32, shape (count, width).

    Raises:
        ProtocolViolation: the data are too short or too long, the scales are not one a row, or a value is not finite.
    """
    if packed.carry not in _WIRE:
        raise ProtocolViolation(f"Hidden states travel as {packed.carry!r}; it must be one of {', '.join(CARRIES)}.")
    expected = packed_bytes(packed.carry, packed.width) * packed.count
    held = len(packed.data) + 4 * len(packed.scales)
    if packed.count < 1 or packed.width < 1 or held != expected:
        raise ProtocolViolation(
            f"{packed.count} hidden states of width {packed.width} hold {held} bytes as {packed.carry}, not {expected}."
        )
    if len(packed.scales) != (packed.count if packed.carry == "int8" else 0):
        raise ProtocolViolation(f"{packed.count} hidden states come with {len(packed.scales)} scales.")
    values = np.frombuffer(packed.data, _WIRE[packed.carry]).reshape(packed.count, packed.width)
    with np.errstate(over="ignore", invalid="ignore"):
        states: FloatRows = values.astype(np.float32)
        if packed.carry == "int8":
            states *= packed.scales[:, None]
    if not np.isfinite(states).all():
        raise ProtocolViolation("Hidden states hold values that are not finite.")
    return states


def rounded(states: FloatRows, carry: Carry) -> FloatRows:
    """What arrives at the other end of the wire: exactly `unpack(pack(states))`; raises as `pack` does."""
    if carry == "float32":
        return states
    return unpack(pack(states, carry))


def packed_bytes(carry: str, width: int) -> int:
    """Bytes of one position's states on the wire, without the frame."""
    return _WIRE[carry].itemsize * width + (4 if carry == "int8" else 0)


def _scales(values: FloatRows) -> NDArray[np.float32]:
    """The largest magnitude of each row / 127, rounded up to 17 bits.

    127 times such a scale is exact in float32, and the scale of a row of its multiples is the scale itself.
    """
    exact = np.abs(values).max(axis=1).astype(np.float64) / 127.0
    mantissa, exponent = np.frexp(exact)
    scales = np.ldexp(np.ceil(mantissa * 2.0**17) / 2.0**17, exponent)
    return np.where(scales < _SMALLEST_SCALE, 0.0, scales).astype(np.float32)
