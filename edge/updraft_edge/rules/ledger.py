"""What a day may cost: sums of tokens, bytes and money, kept across restarts and shared by agents of one user."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from updraft.config import LimitSettings
from updraft.errors import ConfigError, Withheld

__all__ = ["Ledger", "Spending", "state_path"]

log = logging.getLogger(__name__)

_SAVE_EVERY_S = 1.0


@dataclass(slots=True)
class Spending:
    """Sums of a day, or of one call."""

    tokens_up: int = 0
    tokens_down: int = 0
    bytes: int = 0
    money: float = 0.0

    def add(self, other: Spending) -> None:
        self.tokens_up += other.tokens_up
        self.tokens_down += other.tokens_down
        self.bytes += other.bytes
        self.money += other.money


def state_path() -> Path:
    """Where the day's sums are kept unless the settings name a file."""
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "updraft" / "spent.json"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


class Ledger:
    """Sums of this day (UTC). Without limits nothing is written to disk.

    Args:
        today: the date as YYYY-MM-DD (tests pass their own).

    Raises:
        ConfigError: something is limited, and the file of the sums is damaged or cannot be written.
    """

    def __init__(self, limits: LimitSettings, *, today: Callable[[], str] = _today) -> None:
        self.limits = limits
        self._today = today
        self._day = today()
        self._file = (limits.state or state_path()).expanduser() if limits.any else None
        self._kept = Spending()  # as the file had it
        self._new = Spending()  # since then
        self._saved_at = -math.inf
        if self._file is not None:
            self._open(self._file)

    @property
    def spent(self) -> Spending:
        """The sums of this day."""
        self._turn()
        total = Spending(**asdict(self._kept))
        total.add(self._new)
        return total

    def used_up(self, more: Spending | None = None, *, sending: bool = True) -> str | None:
        """The limit that is reached, or that `more` would pass; None while there is none.

        Args:
            sending: the limit of what is sent counts, too.
        """
        spent = self.spent
        for field in fields(Spending):
            limit = getattr(self.limits, field.name)
            if limit is None or (field.name == "tokens_up" and not sending):
                continue
            value = getattr(spent, field.name)
            if value >= limit or value + getattr(more or Spending(), field.name) > limit:
                return field.name
        return None

    def check(self, more: Spending | None = None, *, sending: bool = True) -> None:
        """Raises Withheld where a limit is reached, or `more` would pass it; see `used_up`."""
        if (name := self.used_up(more, sending=sending)) is not None:
            raise Withheld(
                f"What may be spent today is used up: edge.limits.{name}.",
                rule=f"limit_{name}",
                remedy="Wait until midnight UTC, or raise the limit.",
            )

    def answer_room(self, output_price: float) -> int | None:
        """Tokens that the cloud may still write today at a price for a million; None for no limit."""
        spent = self.spent
        rooms = []
        if self.limits.tokens_down is not None:
            rooms.append(self.limits.tokens_down - spent.tokens_down)
        if self.limits.money is not None and output_price > 0:
            rooms.append(int((self.limits.money - spent.money) * 1e6 / output_price))
        return max(0, min(rooms)) if rooms else None

    def add(self, more: Spending) -> None:
        """Count what was spent; written to disk once a second, and by `save`."""
        self._turn()
        self._new.add(more)
        if time.monotonic() - self._saved_at >= _SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Add what is new to the file's sums, which other agents may have raised meanwhile."""
        self._saved_at = time.monotonic()
        if self._file is None or self._new == Spending():
            return
        try:
            with _locked(self._file):
                kept = _read(self._file, self._day)
                kept.add(self._new)
                _write(self._file, self._day, kept)
        except (OSError, ConfigError) as error:
            log.warning("what was spent cannot be kept in %s: %s", self._file, type(error).__name__)
            return
        self._kept, self._new = kept, Spending()

    def _open(self, file: Path) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with _locked(file):
                self._kept = _read(file, self._day)
                _write(file, self._day, self._kept)
        except OSError as error:
            raise ConfigError(
                f"The file of what was spent, {file}, cannot be used: {error.strerror}.",
                remedy="Name another with edge.limits.state.",
            ) from error

    def _turn(self) -> None:
        """Begin anew at midnight. A clock that is set back does not give the day again."""
        if (today := self._today()) > self._day:
            self.save()
            self._day, self._kept, self._new = today, Spending(), Spending()


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Keep other agents of this user from writing; where the system has no such locks, nothing does."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with file.with_name(file.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(file: Path, day: str) -> Spending:
    """The file's sums if they are of this day or, after a clock was set back, of a later one.

    Raises:
        ConfigError: it is damaged; it is not taken for nothing, or damaging it would lift the limits.
    """
    try:
        data: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Spending()
    except (ValueError, RecursionError) as error:
        raise _damaged(file) from error
    if not isinstance(data, dict) or not isinstance(data.get("day"), str):
        raise _damaged(file)
    values: dict[str, Any] = {field.name: data.get(field.name) for field in fields(Spending)}
    for name, value in values.items():
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            raise _damaged(file)
        if name != "money" and type(value) is not int:
            raise _damaged(file)
    return Spending(**values) if data["day"] >= day else Spending()


def _write(file: Path, day: str, spending: Spending) -> None:
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.write_text(json.dumps({"day": day, **asdict(spending)}) + "\n", encoding="utf-8")
    fresh.chmod(0o600)
    fresh.replace(file)


def _damaged(file: Path) -> ConfigError:
    return ConfigError(
        f"The file of what was spent, {file}, is damaged.", remedy="Remove it: the day's sums begin at nothing."
    )
