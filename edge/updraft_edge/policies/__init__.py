"""Escalation policies: may the edge commit alone?"""

from __future__ import annotations

__all__: list[str] = []
