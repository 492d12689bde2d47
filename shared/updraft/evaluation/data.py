"""Data files of tasks: JSON lines, plain or gzipped, read with the file, line and reason of whatever is wrong."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from updraft.errors import InvalidRequest

__all__ = ["Line", "bad_data", "read_lines", "read_text", "unique"]

_MOST_BYTES: Final = 1 << 30  # of a file, unpacked


def bad_data(path: Path, reason: str, line: int | None = None) -> InvalidRequest:
    """The error for a data file, naming the place."""
    where = str(path) if line is None else f"{path}, line {line}"
    return InvalidRequest(f"{where}: {reason}.", remedy="Correct the file, or name another with --data.", param="data")


@dataclass(frozen=True, slots=True)
class Line:
    """One JSON object of a file. Each reader raises InvalidRequest with file and line where a field is not as asked."""

    path: Path
    number: int
    fields: dict[str, Any]

    def error(self, reason: str) -> InvalidRequest:
        return bad_data(self.path, reason, self.number)

    def text(self, name: str, *, empty: bool = False) -> str:
        """A string; not blank unless `empty`."""
        value = self._get(name)
        if not isinstance(value, str):
            raise self.error(f"{name} is a {_kind(value)}; it must be a string")
        if not empty and not value.strip():
            raise self.error(f"{name} is empty")
        return value

    def texts(self, name: str, *, least: int = 1) -> list[str]:
        """A list of at least so many strings that are not blank."""
        values = self.list(name)
        if len(values) < least:
            raise self.error(f"{name} has {len(values)} entries; it needs at least {least}")
        if not all(isinstance(value, str) and value.strip() for value in values):
            raise self.error(f"{name} holds something that is not a string, or an empty one")
        return values

    def list(self, name: str) -> list[Any]:
        value = self._get(name)
        if not isinstance(value, list):
            raise self.error(f"{name} is a {_kind(value)}; it must be a list")
        return value

    def whole(self, name: str, *, below: int) -> int:
        """A whole number from 0 to below `below`."""
        value = self._get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
            raise self.error(f"{name} is {value!r}; it must be a whole number from 0 to {below - 1}")
        return value

    def name(self, *names: str) -> str:
        """The first of these fields as an identifier; the line's number where there is none."""
        for name in names:
            value = self.fields.get(name)
            if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
                return str(value)
        return str(self.number)

    def _get(self, name: str) -> Any:
        if name not in self.fields:
            raise self.error(f"{name} is missing")
        return self.fields[name]


def read_lines(path: Path) -> list[Line]:
    """The objects of a .jsonl or .jsonl.gz file; blank lines are skipped.

    Raises:
        InvalidRequest: the file cannot be read, a line is no JSON object, or there is none.
    """
    lines = [_line(path, number, raw) for number, raw in enumerate(_raw(path), start=1) if raw.strip()]
    if not lines:
        raise bad_data(path, "there is not one item in it")
    return lines


def read_text(path: Path) -> str:
    """A UTF-8 text file. Raises InvalidRequest if it cannot be read or is empty."""
    text = "\n".join(_decoded(path, number, raw) for number, raw in enumerate(_raw(path), start=1))
    if not text.strip():
        raise bad_data(path, "it is empty")
    return text


def unique(path: Path, names: Sequence[str]) -> None:
    """Raises InvalidRequest if two items have one name: results are kept by it."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise bad_data(path, f"two items are named {name!r}")
        seen.add(name)


def _raw(path: Path) -> Iterator[bytes]:
    if path.is_dir():
        raise bad_data(path, "it is a folder, not a file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise bad_data(path, f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if len(data) > _MOST_BYTES:
        raise bad_data(path, f"it is larger than {_MOST_BYTES >> 20} MiB")
    yield from data.split(b"\n")


def _decoded(path: Path, number: int, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_data(path, f"it is not UTF-8 (byte {error.start} of the line)", number) from error


def _line(path: Path, number: int, raw: bytes) -> Line:
    text = _decoded(path, number, raw)
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "numbers or nesting out of range"
        raise bad_data(path, f"it is not JSON ({reason})", number) from error
    if not isinstance(fields, dict):
        raise bad_data(path, f"it is a {_kind(fields)}; it must be an object", number)
    return Line(path, number, fields)


def _kind(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
