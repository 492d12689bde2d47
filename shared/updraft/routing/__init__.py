"""The learned router and the scores of whole answers: features, networks, verdict logs, votes."""

from __future__ import annotations

__all__: list[str] = []
