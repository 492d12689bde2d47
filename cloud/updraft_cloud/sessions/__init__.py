"""A session in the engine's loop: drafts judged, spans written, tokens scored."""

from __future__ import annotations

__all__: list[str] = []
