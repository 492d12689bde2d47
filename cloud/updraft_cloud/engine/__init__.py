"""The engine behind the front end: in this process or in one of its own, and what runs there."""

from __future__ import annotations

__all__: list[str] = []
