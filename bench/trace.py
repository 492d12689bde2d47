"""Bandwidth over time, as measured on a real link."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from updraft.errors import ConfigError

__all__ = ["Trace"]


@dataclass(frozen=True)
class Trace:
    """Rows of (seconds, Mbit/s), repeated for ever: each rate holds until the next row's time.

    The first row is time 0 of the link. The last row holds as long as the one before it.

    Raises:
        ConfigError: no rows, times that do not increase, a rate below 0 or not finite, or no rate above 0.
    """

    rows: tuple[tuple[float, float], ...]
    name: str = ""

    def __post_init__(self) -> None:
        times = [time for time, _ in self.rows]
        rates = [rate for _, rate in self.rows]
        if not all(map(math.isfinite, times + rates)) or min(rates, default=0.0) < 0.0:
            raise ConfigError(f"Trace {self.name!r} has a time or rate that is negative or not finite.")
        if any(after <= before for before, after in pairwise(times)):
            raise ConfigError(f"The times of trace {self.name!r} do not increase.")
        if max(rates, default=0.0) <= 0.0:
            raise ConfigError(f"Trace {self.name!r} has no rate above 0.")

    @staticmethod
    def read(path: Path, name: str | None = None) -> Trace:
        """Read a trace file: `.jsonl` with objects {name, t_s, mbps}, else lines of seconds and Mbit/s.

        Args:
            name: which object of a `.jsonl` file; the first when left out.

        Raises:
            ConfigError: the file cannot be read, is malformed or has no trace of that name.
        """
        try:
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            found = _from_objects(lines, name) if path.suffix == ".jsonl" else _from_columns(lines)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path} cannot be read as a trace: {error}.", remedy="Give lines of seconds and Mbit/s."
            ) from error
        if found is None:
            raise ConfigError(f"{path} has no trace {name!r}." if name else f"{path} has no trace.")
        title, rows = found
        return Trace(tuple(rows), title or path.stem)

    @cached_property
    def period_s(self) -> float:
        """Seconds until the trace starts again."""
        last_gap = self._starts[-1] - self._starts[-2] if len(self.rows) > 1 else 1.0
        return self._starts[-1] + last_gap

    def bits_per_second(self, time_s: float) -> float:
        """The rate at a time after the link's start."""
        return self._at(time_s)[0]

    def finish(self, start_s: float, bits: float) -> float:
        """When `bits` that start at `start_s` have passed, if they have the link for themselves; seconds."""
        # Whole periods first, so that a long transfer costs no more than one period's rows.
        whole = max(0, math.floor(bits / self._bits_per_period) - 1)
        time, left = start_s + whole * self.period_s, bits - whole * self._bits_per_period
        while True:
            rate, seconds = self._at(time)
            if rate * seconds >= left:
                return time + left / rate if left > 0.0 else time
            left -= rate * seconds
            time += seconds

    def _at(self, time_s: float) -> tuple[float, float]:
        """Rate in bit/s at a time and the seconds for which it still holds, more than 0."""
        phase = time_s % self.period_s
        row = bisect_right(self._starts, phase) - 1
        end = self._starts[row + 1] if row + 1 < len(self._starts) else self.period_s
        # A remainder below the clock's resolution would not move the time on.
        return self.rows[row][1] * 1e6, max(end - phase, math.ulp(time_s) * 4)

    @cached_property
    def _starts(self) -> list[float]:
        first = self.rows[0][0]
        return [time - first for time, _ in self.rows]

    @cached_property
    def _bits_per_period(self) -> float:
        spans = pairwise([*self._starts, self.period_s])
        return sum((end - start) * rate * 1e6 for (start, end), (_, rate) in zip(spans, self.rows, strict=True))


Found = tuple[str, Sequence[tuple[float, float]]]


def _from_objects(lines: Sequence[str], name: str | None) -> Found | None:
    for line in lines:
        data = json.loads(line)
        if name is None or data["name"] == name:
            pairs = zip(data["t_s"], data["mbps"], strict=True)
            return str(data["name"]), [(float(time), float(rate)) for time, rate in pairs]
    return None


def _from_columns(lines: Sequence[str]) -> Found | None:
    rows = []
    for line in lines:
        if line.lstrip().startswith("#"):
            continue
        time, rate = line.replace(",", " ").split()
        rows.append((float(time), float(rate)))
    return ("", rows) if rows else None
