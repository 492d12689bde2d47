"""Settings of the KV cache: how large it is, what becomes of sessions that are idle, and which prompts are shared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from updraft.config.base import Settings

__all__ = ["KvSettings"]

Bytes = Annotated[int, Field(ge=0, le=1 << 50)]


class KvSettings(Settings):
    """The KV cache of the cloud. Sessions share its sequences: one that is idle gives its own to one that computes."""

    bytes: Annotated[int, Field(ge=1, le=1 << 50)] | None = Field(
        default=None,
        description="Most bytes of the engine's KV cache; it then holds as many sequences of `context` tokens as fit, "
        "in place of `sequences`.",
    )
    host_bytes: Bytes = Field(
        default=1 << 30, description="Most bytes of host memory for caches of idle sessions and earlier prompts."
    )
    disk_bytes: Bytes = Field(
        default=0,
        description="Most bytes of disk for them where host memory is full; 0 for none. What is written there tells "
        "the prompts to whoever can read it.",
    )
    disk_folder: Path | None = Field(
        default=None, description="Folder for them; a private one among the system's temporary files when left out."
    )
    share: bool = Field(
        default=True,
        description="Let sessions of one tenant begin with what others of it have computed. False to measure what each "
        "answer costs by itself.",
    )
    min_prefix: int = Field(
        default=32, ge=1, le=1_048_576, description="Shortest beginning of a log that sessions share, tokens."
    )
