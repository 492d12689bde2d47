"""What decides where experts are: the two halves of a policy, which the simulator and the store both follow.

Experts are numbered through all layers: key = layer x experts + expert.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bools",
    "Floats",
    "Forecast",
    "Forecaster",
    "Ints",
    "Look",
    "NoForecast",
    "Policy",
    "Replacement",
]

Ints = NDArray[Any]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

Look = Callable[[], "Ints | None"]
"""What the next layer's router would choose for the states that this layer sees, shape (tokens, active), if known."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Experts that are likely to be needed, the most urgent first.

    Attributes:
        keys: int64, shape (n,).
        chances: probability that a token of the pass needs each, float32, shape (n,).
    """

    keys: Ints
    chances: Floats


class Forecaster(Protocol):
    """Says ahead of the routers which experts will be needed. Learns from what it sees.

    A forecast replaces the earlier one for the same pass; None leaves it standing.
    """

    def expect(self, tokens: Ints) -> Forecast | None:
        """These tokens will be in a later pass; prefetches for them give way to those for the pass in progress."""
        ...

    def begin(self, tokens: Ints) -> Forecast | None:
        """A pass over these tokens begins."""
        ...

    def routed(self, layer: int, chosen: Ints, look: Look) -> Forecast | None:
        """The router of a layer chose, shape (tokens, active); its experts are being brought already."""
        ...

    def end(self) -> None:
        """The pass is over."""
        ...


class Replacement(Protocol):
    """Says which expert makes room for another."""

    def begin(self) -> None:
        """A pass begins; what was foretold for a later one is now foretold for this one."""
        ...

    def foretold(self, forecast: Forecast, *, later: bool) -> None:
        """What the forecaster says of this pass, or of a later one."""
        ...

    def used(self, layer: int, keys: Ints) -> None:
        """The experts that a layer needs in this pass, resident or not."""
        ...

    def loaded(self, key: int) -> None:
        """An expert came to the device."""
        ...

    def victim(self, key: int, evictable: Bools, *, prefetch: bool) -> int:
        """Which of the evictable makes room for `key`; any number if none is. -1 where `key` is not worth it.

        Only a prefetch may be declined.
        """
        ...


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy by name.

    Attributes:
        gate: chance below which nothing is prefetched.
    """

    name: str
    replacement: Replacement
    forecaster: Forecaster
    gate: float = 0.5


class NoForecast:
    """Foretells nothing: experts are loaded on demand alone."""

    def expect(self, tokens: Ints) -> Forecast | None:
        return None

    def begin(self, tokens: Ints) -> Forecast | None:
        return None

    def routed(self, layer: int, chosen: Ints, look: Look) -> Forecast | None:
        return None

    def end(self) -> None:
        return None
