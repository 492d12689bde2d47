"""A laboratory for inference-time compute: a reasoning task with exact checks, and models for it."""

from __future__ import annotations

__all__: list[str] = []
