"""The laboratory's models that come with Updraft, as GGUF files beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from updraft.errors import ModelNotFound

__all__ = ["LABORATORY", "shipped_laboratory"]

LABORATORY: Final = {
    "lab-edge": "the laboratory's small model, for arithmetic in steps (docs/laboratory.md)",
    "lab-cloud": "the laboratory's large model",
    "lab-reward": "the laboratory's process reward model, which scores the steps of both",
}
"""Names and descriptions."""


def shipped_laboratory(name: str) -> Path:
    """The file of a model of the laboratory. Raises ModelNotFound if this installation lacks it."""
    path = Path(__file__).with_name(f"{name.removeprefix('lab-')}.gguf")
    if not path.is_file():
        raise ModelNotFound(f"the model {name!r} is not in {path.parent}", remedy="Install Updraft again.")
    return path
