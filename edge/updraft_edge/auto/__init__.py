"""Mode `auto` in the agent: what a choice depends on, and making it."""

from __future__ import annotations

__all__: list[str] = []
