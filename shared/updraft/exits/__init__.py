"""Early exits: criteria and their calibration, exit heads, and how hidden states travel. Numpy only."""

from __future__ import annotations

__all__: list[str] = []
