"""Ways to bring an expert's bytes into a slot: over a GPU's link, or on the CPU over one throttled to a rate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Carrier", "CudaCarrier", "ThrottledCarrier", "make_carrier"]

Weights = Mapping[str, "Tensor"]


class Carrier(Protocol):
    """Copies one expert at a time. `carry` is called in a thread of its own, `used` in the engine's."""

    def carry(self, weights: Weights, slot: int, into: Weights) -> None:
        """Copy, and return when the bytes are there and may be computed with."""
        ...

    def used(self, slot: int) -> None:
        """What the engine has asked of the device so far reads this slot: it is not overwritten before that is done."""
        ...


class ThrottledCarrier:
    """Copies within host memory, no faster than a rate. With None as fast as memory allows.

    Args:
        bytes_per_s: of the link that it stands for.
        latency_s: of each copy.
    """

    def __init__(self, bytes_per_s: float | None = None, latency_s: float = 0.0) -> None:
        self._bytes_per_s, self._latency_s = bytes_per_s, latency_s

    def carry(self, weights: Weights, slot: int, into: Weights) -> None:
        start = time.perf_counter()
        size = 0
        for name, values in weights.items():
            into[name].copy_(values)
            size += values.nbytes
        if self._bytes_per_s is not None:
            left = self._latency_s + size / self._bytes_per_s - (time.perf_counter() - start)
            if left > 0.0:
                time.sleep(left)

    def used(self, slot: int) -> None:
        return None


class CudaCarrier:
    """Copies on a stream of its own, so that computing goes on meanwhile.

    The thread waits for each copy before it begins the next: a copy that is queued on a stream cannot be overtaken, and
    what is waited for must be able to go first.
    """

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._uses: dict[int, Any] = {}

    def carry(self, weights: Weights, slot: int, into: Weights) -> None:
        import torch

        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            use = self._uses.get(slot)
            if use is not None:
                self._stream.wait_event(use)
            for name, values in weights.items():
                into[name].copy_(values, non_blocking=True)
            self._stream.synchronize()

    def used(self, slot: int) -> None:
        import torch

        event = self._uses.get(slot)
        if event is None:
            event = self._uses[slot] = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))


def make_carrier(device: torch.device, bytes_per_s: float | None = None, latency_s: float = 0.0) -> Carrier:
    """The carrier of a device; a rate only throttles where the device is the CPU."""
    return CudaCarrier(device) if device.type == "cuda" else ThrottledCarrier(bytes_per_s, latency_s)
