"""Experts offloaded: routing traces, policies of what is on the device, their simulation, and the store itself."""

from __future__ import annotations

__all__: list[str] = []
