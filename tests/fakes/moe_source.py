"""A mixture-of-experts model without the rest of a model: random experts and routers, and passes through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.experts_model import SyntheticMoe, SyntheticSizes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RandomMoe"]


class RandomMoe(SyntheticMoe):
    """The benches' model in tiny sizes.

    Attributes:
        broken: (layer, expert) whose weights cannot be read, for tests of failures.
    """

    def __init__(
        self, layers: int = 3, experts: int = 8, active: int = 2, *, width: int = 16, hidden: int = 24, seed: int = 0
    ) -> None:
        super().__init__(SyntheticSizes(layers, experts, active, width, hidden, vocabulary=64), seed=seed)
        self.broken: set[tuple[int, int]] = set()

    def weights(self, layer: int, expert: int) -> dict[str, Tensor]:
        if (layer, expert) in self.broken:
            raise OSError("the disk is gone")
        return super().weights(layer, expert)
