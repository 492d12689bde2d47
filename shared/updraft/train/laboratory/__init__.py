"""Training of the laboratory's models: an edge and a cloud model, and a process reward model for what they write."""

from __future__ import annotations

__all__: list[str] = []
