"""`updraft calibrate`: a goal and prompts become a setting for one pair of models, with what it promises."""

from __future__ import annotations

__all__: list[str] = []
