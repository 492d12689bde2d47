"""Disks that are full or may not be written, as an error with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from updraft.errors import ConfigError

__all__ = ["disk_errors"]


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raises ConfigError where the system refuses to read or write a file of the run at `path`."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error}",
            remedy="Make room or choose another --out. The same command goes on from what is there.",
        ) from error
