"""The mixture of experts that comes with Updraft, and the Hugging Face folder that is made of it on first use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from updraft.errors import ModelNotFound

__all__ = ["MOE", "shipped_moe"]

MOE: Final = "moe"


def shipped_moe() -> Path:
    """The file of the shipped model, see `updraft.models.moe.packed`. Raises ModelNotFound if it is not there."""
    path = Path(__file__).with_name(f"{MOE}.safetensors")
    if not path.is_file():
        raise ModelNotFound(f"the mixture of experts is not in {path.parent}", remedy="Install Updraft again.")
    return path
