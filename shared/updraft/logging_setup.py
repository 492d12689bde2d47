"""Log lines of the serving processes, as text or as JSON. Prompts and answers are never logged."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

__all__ = ["JsonFormatter", "TextFormatter", "configure_logging", "log_fields"]

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NONE: Final[Mapping[str, str]] = {}
_fields: ContextVar[Mapping[str, str]] = ContextVar("updraft_log_fields", default=_NONE)


@contextlib.contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Every line that is logged in this block, and in tasks that it starts, tells these fields, but for empty ones.

    They say whose line it is: `request`, `session`, `tenant`, `device`, `token` (its id), `trace`.
    """
    before = _fields.get()
    _fields.set({**before, **{name: value for name, value in fields.items() if value}})
    try:
        yield
    finally:
        # Not by a token: the block may be in an asynchronous generator, which another task may close.
        _fields.set(before)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, the block's fields, those given as `extra`, traceback
    if any."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= _fields.get()
        entry |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time, level, logger and message, with the block's fields after it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields.get().items())
        return f"{super().formatMessage(record)}{fields and ' |'}{fields}"


def configure_logging(level: str, style: str) -> None:
    """Send log lines of `level` and above to standard error, as `text` or `json`; replaces what was set before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
