"""What a pass takes: measured times over sequences and positions, between which a simulation interpolates."""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Final

from updraft.engine.base import Engine, Run
from updraft.errors import ConfigError
from updraft.sampling import Sampler, SamplingParams

__all__ = ["PassCurve", "measure_curve", "read_curves"]

_PREFIX: Final = 128  # tokens in every sequence's cache before what is timed
_CHUNK: Final = 48


@dataclass(frozen=True)
class PassCurve:
    """Seconds of a pass with a draw of every row, over (sequences, positions in all of them together).

    Attributes:
        points: (sequences, positions, seconds); at least two numbers of positions for each number of sequences.
        row_s: what a position costs less where its logits are not wanted (prefill).

    Raises ConfigError for points that are no curve.
    """

    name: str
    points: tuple[tuple[int, int, float], ...]
    row_s: float = 0.0

    def __post_init__(self) -> None:
        lines = self._lines
        good = all(len(line) > 1 for line in lines.values()) and self.row_s >= 0.0
        if not lines or not good or any(min(point) <= 0 for point in self.points):
            raise ConfigError(f"{self.name}: a curve needs two numbers of positions for each number of sequences.")

    @staticmethod
    def line(name: str, pass_s: float, position_s: float) -> PassCurve:
        """A straight one: pass_s + position_s a position, whatever the sequences."""
        return PassCurve(name, ((1, 1, pass_s + position_s), (1, 2, pass_s + 2 * position_s)))

    def seconds(self, sequences: int, positions: int, rows: int) -> float:
        """Of a pass over so many positions, `rows` of which want their logits."""
        known = self._sequences
        place = min(bisect_left(known, sequences), len(known) - 1)
        upper, lower = known[place], known[max(0, place - 1)]
        share = 1.0 if upper == lower else min(1.0, (sequences - lower) / (upper - lower))
        whole = share * self._at(upper, positions) + (1.0 - share) * self._at(lower, positions)
        return max(whole - (positions - rows) * self.row_s, 1e-6)

    @property
    def pass_s(self) -> float:
        """What a pass over one position takes beyond what the second one adds."""
        return max(0.0, 2.0 * self.seconds(1, 1, 1) - self.seconds(1, 2, 2))

    @property
    def position_s(self) -> float:
        """What a position adds on the way to the largest pass that was measured."""
        _, positions, seconds = max(self.points, key=lambda point: point[1])
        return max(0.0, seconds - self.seconds(1, 1, 1)) / max(1, positions - 1)

    def _at(self, sequences: int, positions: int) -> float:
        line = self._lines[sequences]
        after = min(max(bisect_left(line, (positions, 0.0)), 1), len(line) - 1)
        (x0, y0), (x1, y1) = line[after - 1], line[after]
        return max(y0 + (y1 - y0) * (positions - x0) / (x1 - x0), min(y0, line[0][1]))

    @cached_property
    def _lines(self) -> dict[int, list[tuple[int, float]]]:
        found: dict[int, dict[int, float]] = {}
        for sequences, positions, seconds in self.points:
            found.setdefault(sequences, {})[positions] = seconds
        return {sequences: sorted(line.items()) for sequences, line in sorted(found.items())}

    @cached_property
    def _sequences(self) -> list[int]:
        return list(self._lines)


def measure_curve(
    name: str,
    engine: Engine,
    sequences: Sequence[int],
    each: Sequence[int],
    *,
    largest: int,
    rounds: int,
    done: Callable[[str], None] = lambda what: None,
) -> PassCurve:
    """Time an engine's passes: `each` positions in each of `sequences`, the median of rounds that take turns.

    Args:
        largest: pass, positions; larger ones are left out.
    """
    opened = [engine.open() for _ in range(max(sequences))]
    prefix = [(7 * place) % engine.info.vocabulary for place in range(_PREFIX)]
    try:
        for sequence in opened:
            for start in range(0, _PREFIX, _CHUNK):
                engine.forward([Run(sequence, start, prefix[start : start + _CHUNK])])
        few = sorted(each)[:2]  # of every number of sequences: a line needs two points
        shapes = [(count, own) for count in sequences for own in each if count * own <= largest or own in few]
        times: dict[tuple[int, int], list[float]] = {shape: [] for shape in shapes}
        bare: list[float] = []
        for number in range(rounds):
            for count, own in shapes:
                times[count, own].append(_timed(engine, opened[:count], own, rows=own))
            bare.append(_timed(engine, opened[:1], _CHUNK, rows=0) - _timed(engine, opened[:1], _CHUNK, rows=_CHUNK))
            done(f"{name}, round {number + 1}")
    finally:
        for sequence in opened:
            engine.close(sequence)
    points = tuple((count, count * own, median(times[count, own])) for count, own in shapes)
    return PassCurve(name, points, max(0.0, -median(bare) / _CHUNK))


def read_curves(path: Path) -> list[PassCurve]:
    """The curves of a file that `updraft bench passes` wrote. Raises ConfigError where it is none."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return [_curve(entry) for entry in document["results"]["curves"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} holds no curves: {error}.", remedy="Write one with `updraft bench passes`."
        ) from error


def _curve(entry: dict[str, Any]) -> PassCurve:
    points = tuple((int(count), int(positions), float(seconds)) for count, positions, seconds in entry["points"])
    return PassCurve(str(entry["name"]), points, float(entry["row_s"]))


def _timed(engine: Engine, sequences: Sequence[int], each: int, *, rows: int) -> float:
    sampler = Sampler(SamplingParams(temperature=0.0, seed=0))
    tokens = [(11 * place) % engine.info.vocabulary for place in range(each)]
    started = time.perf_counter()
    outputs = engine.forward([Run(sequence, _PREFIX, tokens, rows) for sequence in sequences])
    for output in outputs if rows else ():
        for row in output.logits:
            sampler.draw(row, _PREFIX)
    seconds = time.perf_counter() - started
    for sequence in sequences:
        engine.truncate(sequence, _PREFIX)
    return seconds
