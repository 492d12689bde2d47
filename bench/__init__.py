"""Measurements of Updraft against its baselines."""

from __future__ import annotations

__all__: list[str] = []
