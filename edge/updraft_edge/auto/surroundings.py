"""What the device is doing besides: load and power, read from the system at most every few seconds."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["Surroundings"]


class Surroundings:
    """Load and battery; 0 and False where the system does not tell.

    Args:
        supplies: Linux's folder of power supplies.
        fresh_s: for so long a reading holds, seconds.
    """

    def __init__(self, *, supplies: Path = Path("/sys/class/power_supply"), fresh_s: float = 10.0) -> None:
        self._supplies = supplies
        self._fresh_s = fresh_s
        self._read_at = -float("inf")
        self._load = 0.0
        self._battery = False

    @property
    def load(self) -> float:
        """Runnable tasks a core over the last minute, from 0 to 1."""
        self._refresh()
        return self._load

    @property
    def battery(self) -> bool:
        """A battery is being discharged."""
        self._refresh()
        return self._battery

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._read_at < self._fresh_s:
            return
        self._read_at = now
        if hasattr(os, "getloadavg"):
            self._load = min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        self._battery = any(_reads(path, "Discharging") for path in self._supplies.glob("*/status"))


def _reads(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip() == text
    except OSError:
        return False
