"""Experts in host memory: pinned where copies to a GPU want it and memory allows, else as the checkpoint maps them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from updraft.engine.experts import ExpertSource

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HostWeights", "weight_bytes"]

log = logging.getLogger(__name__)


def weight_bytes(weights: dict[str, Tensor]) -> int:
    """Bytes of an expert's tensors."""
    return sum(values.nbytes for values in weights.values())


class HostWeights:
    """The source's experts by key.

    Args:
        pinned_bytes: most bytes of page-locked memory, from which a GPU copies by itself. Experts that do not fit all
            together, or that the system does not give so much for, stay where the checkpoint has them, a memory-mapped
            file, and go through one pinned buffer.
    """

    def __init__(self, source: ExpertSource, pinned_bytes: int) -> None:
        shape = source.shape
        self._source, self._experts = source, shape.experts
        self._pinned: dict[int, dict[str, Tensor]] = {}
        self._staging: dict[str, Tensor] = {}
        if source.device.type != "cuda":
            return
        first = source.weights(0, 0)
        keys = range(shape.layers * shape.experts)
        if len(keys) * weight_bytes(first) <= pinned_bytes:
            self._pinned = self._all_page_locked(keys)
        if not self._pinned:
            log.info("experts do not fit into the memory that may be pinned; they are read as they are needed")
            self._staging = self._page_locked(first)

    def stored(self, key: int) -> dict[str, Tensor]:
        """An expert to be computed with on the host."""
        return self._pinned.get(key) or self._source.weights(key // self._experts, key % self._experts)

    def fetch(self, key: int) -> dict[str, Tensor]:
        """An expert to be copied to the device; valid until the next is fetched."""
        weights = self.stored(key)
        for name, buffer in self._staging.items():
            buffer.copy_(weights[name])
        return self._staging or weights

    def _all_page_locked(self, keys: Iterable[int]) -> dict[int, dict[str, Tensor]]:
        """All of them, or none where the system does not give the memory."""
        try:
            return {key: self._page_locked(self.stored(key)) for key in keys}
        except (RuntimeError, MemoryError) as error:
            log.warning("experts cannot be pinned: %s", error)
            return {}

    @staticmethod
    def _page_locked(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: values if values.is_pinned() else values.pin_memory() for name, values in weights.items()}
