"""Results of items in a file of JSON lines that an interrupted run goes on with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from updraft.errors import InvalidRequest
from updraft.evaluation.data import bad_data
from updraft.evaluation.tasks.base import Outcome

__all__ = ["Key", "Results"]

_FORMAT: Final = "updraft-eval/1"
_TEXTS: Final = ("answer", "text", "token_ids")
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Key:
    """What a result is of: task, item, and a digest of everything else that changes it."""

    task: str
    item: str
    digest: str


class Results:
    """Outcomes by key, in memory and in a file; a context manager.

    The file's first line names the pair of models. A line that an interruption cut off is forgotten.

    Args:
        path: the file; None keeps results in memory only.
        pair: who the results are of, such as fingerprints; a file of another pair is refused.
        keep_text: also write answers, which hold what the model made of the items' text.
    """

    def __init__(self, path: Path | None, pair: Mapping[str, str], *, keep_text: bool = False) -> None:
        self._path = path
        self._pair = dict(pair)
        self._keep_text = keep_text
        self._known: dict[Key, Outcome] = {}
        self._file: IO[bytes] | None = None
        self.resumed = 0

    def __enter__(self) -> Self:
        """Raises InvalidRequest if the file is of another pair, damaged, or cannot be written."""
        if self._path is None:
            return self
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b")
            whole = self._read(self._file)
            self._file.truncate(whole)
            if not whole:
                self._write(self._header)
        except OSError as error:
            self.__exit__(None, None, None)
            raise bad_data(self._path, f"it cannot be used for results ({error.strerror})") from error
        except InvalidRequest:
            self.__exit__(None, None, None)
            raise
        self.resumed = len(self._known)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __contains__(self, key: Key) -> bool:
        return key in self._known

    def __getitem__(self, key: Key) -> Outcome:
        return self._known[key]

    def add(self, key: Key, variant: str, outcome: Outcome) -> None:
        """Keep an outcome, at once in the file. Raises InvalidRequest if a number of it is not finite."""
        numbers = [
            outcome.score,
            *outcome.measures.values(),
            *outcome.units,
            *outcome.doubts,
            *outcome.signals.values(),
        ]
        if not all(math.isfinite(number) for number in numbers):
            raise InvalidRequest(
                f"{key.task}, item {key.item}, {variant}: the model gave scores that are not finite.",
                remedy="The model file is damaged; `updraft doctor` checks it.",
            )
        self._known[key] = outcome
        if self._file is not None:
            self._write(asdict(key) | {"variant": variant} | self._record(outcome))

    def _record(self, outcome: Outcome) -> dict[str, Any]:
        record = asdict(outcome)
        if not self._keep_text:
            for name in _TEXTS:
                del record[name]
        return {name: _rounded(value) for name, value in record.items()}

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(_encoded(record))
            self._file.flush()

    def _read(self, file: IO[bytes]) -> int:
        """Take in what is there; the length of what is whole."""
        file.seek(0)
        whole = 0
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                if number == 1 and not _encoded(self._header).startswith(line):
                    raise self._foreign()
                break
            record = self._parsed(number, line)
            if number == 1:
                self._check_header(record)
            else:
                self._take(number, record)
            whole += len(line)
        return whole

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise self._damaged(number)
        return record

    def _check_header(self, record: Mapping[str, Any]) -> None:
        if record.get("format") != _FORMAT or not isinstance(record.get("pair"), dict):
            raise self._foreign()
        if record["pair"] != self._pair:
            theirs = {name: value for name, value in record["pair"].items() if self._pair.get(name) != value}
            what = ", ".join(f"{name} {value}" for name, value in theirs.items()) or "another pair"
            raise InvalidRequest(
                f"{self._path} holds results of another pair of models ({what}).",
                remedy="Name another file with --results, or run the models that the file is of.",
                param="results",
            )

    def _take(self, number: int, record: dict[str, Any]) -> None:
        names = {field.name for field in fields(Outcome)}
        try:
            key = Key(str(record["task"]), str(record["item"]), str(record["digest"]))
            outcome = Outcome(**{name: value for name, value in record.items() if name in names})
        except (KeyError, TypeError) as error:
            raise self._damaged(number) from error
        if not isinstance(outcome.score, float | int) or not isinstance(outcome.measures, dict):
            raise self._damaged(number)
        self._known[key] = outcome

    @property
    def _header(self) -> dict[str, Any]:
        return {"format": _FORMAT, "pair": self._pair}

    def _foreign(self) -> InvalidRequest:
        return bad_data(self._path or Path(), "it is no file of results, and is left as it is", 1)

    def _damaged(self, number: int) -> InvalidRequest:
        return bad_data(self._path or Path(), "it is no result", number)


def _encoded(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return value
