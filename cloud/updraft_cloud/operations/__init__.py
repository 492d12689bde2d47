"""What operators see: metrics, health, readiness."""

from __future__ import annotations

__all__: list[str] = []
