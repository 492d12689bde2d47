"""Results of single answers: a file of JSON lines that an interrupted calibration goes on from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ConfigError, InvalidRequest

__all__ = ["CLOUD_ONLY", "EDGE_ONLY", "Floats", "Measured", "Results", "Table", "value_of"]

EDGE_ONLY: Final = "edge"
CLOUD_ONLY: Final = "cloud"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """One answer under one setting, compared with the cloud's.

    Attributes:
        prompt: its key.
        setting: EDGE_ONLY, CLOUD_ONLY, or the settings as JSON.
        disagreement: token edit distance to the cloud's text over the longer one's length, 0 to 1.
        rejected: share of tokens that are not the cloud's greedy choice after the text before them.
        mismatch: 1 where the text is not the cloud's, else 0.
        share: tokens that the cloud wrote.
        cost: money for the answer.
        score: of the route that was taken; only in mode `route`.
        answer: token ids of the cloud's own text; only with CLOUD_ONLY.
    """

    prompt: str
    setting: str
    disagreement: float
    rejected: float
    mismatch: float
    share: float
    tokens: int
    seconds: float
    passes: int
    bytes: int
    cost: float
    score: float | None = None
    answer: tuple[int, ...] | None = None


class Results:
    """The file, read on opening and appended to; a context manager.

    Args:
        about: what the results depend on; a file about something else is refused.

    Raises:
        ConfigError: the file is about another pair, mode or length.
        InvalidRequest: a line is damaged; the last one may be, and is measured again.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        self._about = about
        self._known: dict[tuple[str, str], Measured] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._read() if path.is_file() else 0
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._file.truncate(whole)
        if not whole:
            self._write({"calibration": 1, **about})

    @classmethod
    def read(cls, path: Path) -> list[Measured]:
        """What a file holds, whatever it is about.

        Raises:
            InvalidRequest: it cannot be read, or a line is damaged.
        """
        reader = cls.__new__(cls)
        reader.path, reader._about, reader._known = path, {}, {}
        try:
            reader._read()
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from error
        return list(reader._known.values())

    def get(self, prompt: str, setting: str) -> Measured | None:
        return self._known.get((prompt, setting))

    def add(self, measured: Measured) -> None:
        self._known[measured.prompt, measured.setting] = measured
        self._write({name: value for name, value in asdict(measured).items() if value is not None})

    def close(self) -> None:
        self._file.close()

    def _write(self, data: dict[str, Any]) -> None:
        self._file.write(json.dumps(data, allow_nan=False) + "\n")
        self._file.flush()

    def _read(self) -> int:
        """Take in what is there; the length in bytes of the lines that are whole."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        done = 0
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):  # the process ended while it wrote
                break
            try:
                self._take(number, json.loads(line))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise InvalidRequest(
                    f"{self.path}, line {number} is no result: {error}.", remedy="Delete the file to measure again."
                ) from error
            done += len(line)
        return done

    def _take(self, number: int, data: dict[str, Any]) -> None:
        if number == 1:
            found = {name: data.get(name) for name in self._about}
            if data.get("calibration") != 1 or found != self._about:
                differs = ", ".join(name for name, value in self._about.items() if data.get(name) != value)
                raise ConfigError(
                    f"{self.path} holds results of another calibration ({differs or 'format'} differs).",
                    remedy="Give another --out, or delete the file.",
                )
            return
        measured = Measured(**{**data, "answer": tuple(data["answer"]) if "answer" in data else None})
        _check(measured)
        self._known[measured.prompt, measured.setting] = measured


@dataclass(frozen=True, slots=True)
class Table:
    """Results in rows of prompts and columns of settings, the most cautious first, shape (prompts, settings).

    `edge` and `cloud` are one column each.
    """

    cells: tuple[tuple[Measured, ...], ...]
    edge: tuple[Measured, ...]
    cloud: tuple[Measured, ...]

    @classmethod
    def of(cls, results: Results, prompts: Sequence[str], settings: Sequence[str]) -> Table:
        """Raises InvalidRequest where a result is missing."""

        def row(prompt: str, names: Sequence[str]) -> tuple[Measured, ...]:
            found = tuple(cell for name in names if (cell := results.get(prompt, name)) is not None)
            if len(found) != len(names):
                raise InvalidRequest(f"{results.path} lacks results of the prompt {prompt}.")
            return found

        return cls(
            tuple(row(prompt, settings) for prompt in prompts),
            tuple(row(prompt, [EDGE_ONLY])[0] for prompt in prompts),
            tuple(row(prompt, [CLOUD_ONLY])[0] for prompt in prompts),
        )

    def column(self, place: int) -> list[Measured]:
        return [row[place] for row in self.cells]

    def metric(self, name: str) -> Floats:
        """Values of a goal's metric, shape (prompts, settings)."""
        return np.array([[value_of(cell, name) for cell in row] for row in self.cells], np.float64)


def value_of(cell: Measured, metric: str) -> float:
    """One answer's value of a goal's metric."""
    if metric == "token_ms":
        return 1e3 * cell.seconds / max(1, cell.tokens)
    if metric == "cost":
        return 1e3 * cell.cost / max(1, cell.tokens)
    return float(getattr(cell, metric))


def _check(measured: Measured) -> None:
    for field in fields(measured):
        value = getattr(measured, field.name)
        if isinstance(value, float) and not np.isfinite(value):
            raise ValueError(f"{field.name} is not finite")
    for name in ("disagreement", "rejected", "mismatch", "share"):
        if not 0.0 <= getattr(measured, name) <= 1.0:
            raise ValueError(f"{name} is not from 0 to 1")
