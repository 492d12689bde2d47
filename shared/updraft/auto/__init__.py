"""Mode `auto`: a contextual bandit that chooses a mode and its settings for each request."""

from __future__ import annotations

__all__: list[str] = []
