"""The rungs that come with Updraft: trained layers for SmolLM2, as safetensors beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from updraft.errors import ModelNotFound

__all__ = ["EXITS", "STUDENT", "shipped_rung"]

STUDENT: Final = "student"
EXITS: Final = ("exit8", "exit16")
"""By ascending layer."""


def shipped_rung(name: str) -> Path:
    """The file of a shipped rung, see `updraft.models.rungs`. Raises ModelNotFound if this installation lacks it."""
    path = Path(__file__).with_name(f"{name}.safetensors")
    if not path.is_file():
        raise ModelNotFound(f"the rung {name!r} of the ladder is not in {path.parent}", remedy="Install Updraft again.")
    return path
