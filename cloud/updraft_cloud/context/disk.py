"""A private folder for what does not fit into memory; nothing in it outlives the process for long."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path

__all__ = ["SpillFolder"]

log = logging.getLogger(__name__)

_PREFIX = "updraft-kv-"
_UNLOCKED = "updraft-new-"
_LOCK = "lock"


class SpillFolder:
    """Files of this process in a folder of its own (mode 0700), made on first use.

    The process holds a lock in it. Folders whose lock nobody holds were left by processes that were killed: they are
    deleted when a folder is made beside them.

    Args:
        parent: where to make it; the system's temporary files when None.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = Path(tempfile.gettempdir()) if parent is None else parent
        self._folder: Path | None = None
        self._lock = -1
        self._count = 0

    def write(self, data: bytes) -> Path:
        """A new file with this content. Raises OSError, and leaves none then."""
        folder = self._folder or self._make()
        self._count += 1
        path = folder / f"{self._count}.kv"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) or 0 :]
        except OSError:
            self.delete(path)
            raise
        return path

    def read(self, path: Path, size: int) -> bytes:
        """The content of a file. Raises OSError if it cannot be read whole."""
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != size:
                raise OSError(f"{path.name} does not have its {size} bytes")
            data = file.read(size)
        if len(data) != size:
            raise OSError(f"{path.name} could not be read whole")
        return data

    def delete(self, path: Path) -> None:
        """Files that are gone, or cannot be deleted, are left: the folder goes at the end."""
        with contextlib.suppress(OSError):
            path.unlink()

    def close(self) -> None:
        """Delete the folder. Safe to call twice."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            os.close(self._lock)
        self._folder, self._lock = None, -1

    def _make(self) -> Path:
        self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for other in self._parent.glob(f"{_PREFIX}*"):
            _delete_stale(other)
        fresh = Path(tempfile.mkdtemp(prefix=_UNLOCKED, dir=self._parent))  # mode 0700
        try:
            lock = _locked(fresh)
            self._folder = fresh.rename(self._parent / fresh.name.replace(_UNLOCKED, _PREFIX))
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        self._lock = lock
        return self._folder


def _locked(folder: Path) -> int:
    """The descriptor of the folder's lock. Raises OSError if another process holds it."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _delete_stale(folder: Path) -> None:
    """Delete a folder of ours whose process is gone. One gets its name after its lock, so none is taken too early."""
    try:
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            return
        lock = _locked(folder)
    except OSError:
        return
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)
    log.info("deleted caches that a process had left in %s", folder.parent)
