"""Who is let in: limits of all and of each tenant, rates, and a fair queue for places."""

from __future__ import annotations

__all__: list[str] = []
