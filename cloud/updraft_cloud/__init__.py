"""The cloud service: sessions, scheduler and verifiers around one large model."""

from __future__ import annotations

__all__: list[str] = []
