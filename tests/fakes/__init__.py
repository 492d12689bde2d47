"""Stand-ins that users may test their own code with: engines, models and agents without real weights."""

from __future__ import annotations

__all__: list[str] = []
