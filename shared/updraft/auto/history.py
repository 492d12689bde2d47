"""The log of `auto`: a line of JSON a choice, numbers and names of arms only, kept over restarts.

Lines are appended, each with one write. Once the file holds twice as many as are kept, it is written anew beside its
place and moved there. A last line that a crash has torn is left out; a file that is damaged otherwise is moved aside,
with a warning, and a new one begun: a lost history costs some exploration and no answer.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from updraft.auto.context import Situation
from updraft.auto.reward import Goal, Outcome
from updraft.errors import ConfigError

__all__ = ["FORMAT", "KEPT", "History", "Record", "history_path", "read_history"]

FORMAT: Final = 1
KEPT: Final = 2000
_MAX_LINE: Final = 65_536

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """One choice and what came of it.

    Attributes:
        pair: hash of the edge model's name and the cloud's address; choices for another pair teach nothing.
        propensity: probability with which this arm was chosen.
        random: it was drawn, not reckoned.
        expected: of every arm that could be chosen: the estimate and the bonus, in the order of preference.
        reward: by the goal that held then.
        round_trip_s: of the link as known once the answer was there: what a next run of the agent begins with.
    """

    version: Literal[1]
    time: float
    pair: str
    goal: Goal
    arm: str
    propensity: float
    random: bool
    expected: dict[str, tuple[float, float]]
    reward: float
    situation: Situation
    outcome: Outcome
    round_trip_s: float | None = None


_RECORD: Final = TypeAdapter(Record)


def history_path(setting: str, environ: Mapping[str, str] | None = None) -> Path | None:
    """Where the history is kept: `default` is the user's state folder, `off` nowhere."""
    environ = os.environ if environ is None else environ
    if setting == "off":
        return None
    if setting != "default":
        return Path(setting).expanduser()
    home = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "updraft" / "auto.jsonl"


def read_history(path: Path) -> list[Record]:
    """All records; none if there is no file.

    Raises:
        ConfigError: it cannot be read, or is no history of this version.
    """
    try:
        with path.open("rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", remedy="Name another file.") from error
    lines.pop()  # empty, or torn by a crash
    return [_parsed(path, number, line) for number, line in enumerate(lines, 1)]


def _parsed(path: Path, number: int, line: bytes) -> Record:
    try:
        if len(line) > _MAX_LINE:
            raise ValueError("the line is too long")
        record: Record = _RECORD.validate_json(line, strict=True)
        _check_numbers(json.loads(line))
    except (ValidationError, ValueError, RecursionError) as error:
        reason = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else error
        raise ConfigError(
            f"{path}, line {number} is no record of a choice: {reason}.",
            remedy="Move the file away: a new one is begun.",
        ) from error
    return record


def _check_numbers(value: Any) -> None:
    """Raises ValueError for NaN and infinities, which JSON cannot say but Python reads."""
    if isinstance(value, dict):
        for item in value.values():
            _check_numbers(item)
    elif isinstance(value, list):
        for item in value:
            _check_numbers(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite")


class History:
    """Records of one agent, in memory and, if there is a path, in its file. A file that cannot be written is given up
    with a warning.

    Args:
        kept: records that stay when the file is made shorter.
    """

    def __init__(self, path: Path | None, *, kept: int = KEPT) -> None:
        self._path = path
        self._kept = kept
        self.records: list[Record] = []
        if path is not None:
            self._load(path)

    def add(self, record: Record) -> None:
        self.records.append(record)
        if self._path is None:
            del self.records[: -self._kept]
            return
        try:
            self._append(self._path, record)
            if len(self.records) >= 2 * self._kept:
                del self.records[: -self._kept]
                self._rewrite(self._path)
        except OSError as error:
            log.warning("the history of auto is not kept: %s: %s", self._path, error.strerror)
            self._path = None

    def _load(self, path: Path) -> None:
        try:
            self.records = read_history(path)
        except ConfigError as error:
            log.warning("auto starts without its history: %s", error.message)
            try:
                path.replace(path.with_name(path.name + ".damaged"))
            except OSError:
                self._path = None
            return
        self._mend(path)

    def _mend(self, path: Path) -> None:
        """Write the file anew where it ends in a torn line: the next record would go on in it."""
        try:
            if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
                self._rewrite(path)
        except OSError as error:
            log.warning("the history of auto is not kept: %s: %s", path, error.strerror)
            self._path = None

    def _append(self, path: Path, record: Record) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            os.write(file, _line(record))
        finally:
            os.close(file)

    def _rewrite(self, path: Path) -> None:
        handle, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(b"".join(map(_line, self.records)))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


def _line(record: Record) -> bytes:
    return json.dumps(_RECORD.dump_python(record, mode="json"), separators=(",", ":")).encode() + b"\n"
