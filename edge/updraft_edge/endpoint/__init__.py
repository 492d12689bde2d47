"""An OpenAI-compatible endpoint as the cloud: text goes up and comes back as tokens."""

from __future__ import annotations

__all__: list[str] = []
