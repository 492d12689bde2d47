"""Files that are read again when they change."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from updraft.errors import UpdraftError

__all__ = ["Reloaded"]

log = logging.getLogger(__name__)

T = TypeVar("T")
_Stamp = tuple[tuple[int, int, int] | None, ...]


class Reloaded(Generic[T]):
    """What files hold. Content that is wrong, or missing, leaves the old in place and is logged once.

    Args:
        what: name of the files in the log.
        paths: files to watch; symbolic links are followed, so a mounted secret that is swapped counts as changed.
        load: reads them all.

    Raises:
        UpdraftError: what `load` raises the first time.
    """

    def __init__(self, what: str, paths: Sequence[Path], load: Callable[[], T]) -> None:
        self._what, self._paths, self._load = what, tuple(paths), load
        self._lock = threading.Lock()
        self._stamp = self._look()
        self.value = load()

    def refresh(self) -> bool:
        """Read the files again if they changed; whether `value` is new. Thread-safe; never raises."""
        with self._lock:
            stamp = self._look()
            if stamp == self._stamp:
                return False
            # Taken before the reading: a change during it is seen the next time.
            self._stamp = stamp
            try:
                self.value = self._load()
            except UpdraftError as error:
                log.error("%s changed but cannot be used, so the old stay in force: %s", self._what, error.message)
                return False
        log.info("%s were read again", self._what)
        return True

    def _look(self) -> _Stamp:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
