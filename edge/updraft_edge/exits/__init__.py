"""Early exit on the edge: where tokens leave, and hidden states on their way to the cloud."""

from __future__ import annotations

__all__: list[str] = []
