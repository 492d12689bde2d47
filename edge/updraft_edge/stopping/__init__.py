"""Stop rules: how long a drafted run gets, by what stands and what it costs."""

from __future__ import annotations

__all__: list[str] = []
