"""Folders that appear whole or not at all: made beside their place, brought to the disk, and renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from updraft.errors import ConfigError

__all__ = ["publish", "scratch_beside", "sync"]


@contextlib.contextmanager
def scratch_beside(target: Path, room: int) -> Iterator[Path]:
    """A folder beside the target that goes away.

    Args:
        target: what is being made.
        room: bytes that it takes.

    Raises:
        ConfigError: for every error of the disk, here or in the block.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < room:
            raise _full(target, f"{room >> 20} MiB are needed in {target.parent} and {free >> 20} are free")
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield folder
    except OSError as error:
        raise _unwritable(target, error) from error
    except Exception as error:
        if "No space left on device" in str(error):  # safetensors wraps it
            raise _full(target, "the disk filled up") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unwritable(target: Path, error: OSError) -> ConfigError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(target, "the disk filled up")
    return ConfigError(
        f"{target} cannot be made: {error.strerror or error}", remedy="Name a folder that this user can write."
    )


def _full(target: Path, reason: str) -> ConfigError:
    return ConfigError(f"{target} was not made: {reason}", remedy="Free some room, or export to another disk.")


def publish(made: Path, target: Path) -> None:
    """Bring a folder to the disk, then give it its name; on failure no such name is there."""
    for path in (*made.iterdir(), made):
        sync(path)
    made.rename(target)
    try:
        sync(target.parent)
    except OSError:
        shutil.rmtree(target, ignore_errors=True)
        raise


def sync(path: Path) -> None:
    """Bring a file, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
