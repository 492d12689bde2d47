"""Rules before scores: what may never leave the device, and what may be spent."""

from __future__ import annotations

__all__: list[str] = []
