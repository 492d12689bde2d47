"""Tables of results with losses that are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from updraft.calibration.results import CLOUD_ONLY, EDGE_ONLY, Measured, Table

__all__ = ["measured", "table"]


def measured(prompt: str, setting: str, **changes: object) -> Measured:
    fields: dict[str, object] = {
        "disagreement": 0.0,
        "rejected": 0.0,
        "mismatch": 0.0,
        "share": 0.0,
        "tokens": 10,
        "seconds": 0.2,
        "passes": 3,
        "bytes": 90,
        "cost": 0.0,
    }
    return Measured(prompt=prompt, setting=setting, **{**fields, **changes})  # type: ignore[arg-type]


def table(losses: NDArray[np.float64], shares: Sequence[float], seconds: Sequence[float] | None = None) -> Table:
    """One row a prompt, the settings from cautious to bold."""
    times = seconds or [0.2] * losses.shape[1]
    cells = tuple(
        tuple(
            measured(f"p{i}", f"s{j}", disagreement=float(loss), share=shares[j], seconds=times[j])
            for j, loss in enumerate(row)
        )
        for i, row in enumerate(losses)
    )
    edge = tuple(measured(f"p{i}", EDGE_ONLY, disagreement=float(row.max())) for i, row in enumerate(losses))
    cloud = tuple(measured(f"p{i}", CLOUD_ONLY, share=1.0) for i in range(len(losses)))
    return Table(cells, edge, cloud)
