"""Named failpoints: places where a test may make this process die, fail, wait or lose something (as gofail, etcd).

Nothing happens at a point unless it is armed: by the variable `UPDRAFT_FAILPOINTS` or by `arm` in this process, never
by a configuration file. A specification is `NAME=ACTION` pairs, parted by semicolons:

    UPDRAFT_FAILPOINTS="seed=7;verdict.after_commit=panic@20;prefill=sleep(20);verdict.before_ack=error:0.1*3"

`:P` fires with probability P (drawn from `seed`), `*N` at most N times, `@N` not before the point is reached for the
N-th time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from updraft.errors import ConfigError, EngineFailure

__all__ = [
    "PANIC_STATUS",
    "POINTS",
    "VARIABLE",
    "arm",
    "arm_from_environment",
    "armed",
    "disarm",
    "reach",
    "reach_async",
]

log = logging.getLogger(__name__)

VARIABLE: Final = "UPDRAFT_FAILPOINTS"
PANIC_STATUS: Final = 86  # a process that ended at a failpoint
LONGEST_SLEEP_MS: Final = 60_000

POINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "front.receive": "Front end: a frame of an edge has been read, before it is checked. Drop: it is lost.",
        "front.before_write": "Front end: a frame for an edge is numbered, before it is written. Drop: it is lost.",
        "engine.receive": "Engine process: a message of the front end was read, before it is obeyed. Drop: it is lost.",
        "engine.before_send": "Engine process: before what sessions emitted is sent. Drop: it is lost.",
        "prefill": "Engine loop: a chunk of a prompt is computed, before the session takes note.",
        "verdict.before_commit": "Engine loop: a draft is computed, before any of its tokens enters the log.",
        "verdict.after_commit": "Engine loop: a verdict's tokens are in the log, before the cache is cut to it.",
        "verdict.before_ack": "Engine loop: log and cache agree, before the verdict is handed on. Drop: it is lost.",
        "span.before_commit": "Engine loop: a token of a span is computed, before it enters the log.",
        "span.before_ack": "Engine loop: the token is in the log, before it is handed on. Drop: it is lost.",
    }
)

_ENTRY: Final = re.compile(
    r"(?P<action>panic|error|drop|sleep\((?P<ms>\d{1,5})\))(:(?P<chance>[01](\.\d+)?|\.\d+))?(\*(?P<most>\d{1,9}))?"
    r"(@(?P<first>\d{1,9}))?"
)


@dataclass(slots=True)
class _Trigger:
    action: Literal["panic", "error", "drop", "sleep"]
    seconds: float
    chance: float
    left: int | None
    first: int
    random: random.Random
    reached: int = 0

    def fires(self) -> bool:
        self.reached += 1
        if self.left == 0 or self.reached < self.first or self.random.random() >= self.chance:
            return False
        if self.left is not None:
            self.left -= 1
        return True


_armed: dict[str, _Trigger] | None = None


def reach(name: str) -> bool:
    """Say that the code has come to the point `name`; True if the caller is to lose what it holds.

    Raises:
        EngineFailure: the point is armed with `error`.
    """
    seconds = 0.0 if _armed is None else _fire(name)
    if seconds > 0.0:
        time.sleep(seconds)
    return seconds < 0.0


async def reach_async(name: str) -> bool:
    """As `reach`, for coroutines: others go on while it sleeps."""
    seconds = 0.0 if _armed is None else _fire(name)
    if seconds > 0.0:
        await asyncio.sleep(seconds)
    return seconds < 0.0


def arm(specification: str) -> None:
    """Arm the points that a specification names, in place of all that were armed before; an empty one disarms.

    Raises:
        ConfigError: it cannot be read, or names a point that does not exist.
    """
    global _armed
    _armed = _parsed(specification) or None
    if _armed is not None:
        log.warning("FAILPOINTS ARE ARMED, this process will fail on purpose: %s", specification)


def disarm() -> None:
    """Let nothing happen at any point any more."""
    arm("")


@contextlib.contextmanager
def armed(specification: str) -> Iterator[None]:
    """Arm for the length of a block. Raises as `arm` does."""
    arm(specification)
    try:
        yield
    finally:
        disarm()


def arm_from_environment() -> None:
    """Arm what the variable asks for; each process of a service calls it once at its start. Raises as `arm` does."""
    if specification := os.environ.get(VARIABLE):
        arm(specification)


def _fire(name: str) -> float:
    """What a point does: seconds to sleep, -1 to drop, 0 for nothing. Panics and errors do not return."""
    trigger = (_armed or {}).get(name)
    if trigger is None or not trigger.fires():
        return 0.0
    log.warning("failpoint %s: %s", name, trigger.action)
    if trigger.action == "panic":
        os._exit(PANIC_STATUS)
    if trigger.action == "error":
        raise EngineFailure(f"The failpoint {name} is armed with an error.", remedy=f"Unset {VARIABLE}.")
    return -1.0 if trigger.action == "drop" else trigger.seconds


def _parsed(specification: str) -> dict[str, _Trigger]:
    entries = [entry.partition("=") for part in specification.split(";") if (entry := part.strip())]
    seeds = [text for name, _, text in entries if name.strip() == "seed"]
    if len(seeds) > 1 or not all(re.fullmatch(r"\d{1,18}", seed) for seed in seeds):
        raise ConfigError(f"{VARIABLE} has the seeds {seeds}; it may hold one whole number.", remedy=_REMEDY)
    seed = int(seeds[0]) if seeds else 0
    found: dict[str, _Trigger] = {}
    for name, _, text in ((name.strip(), equals, text.strip()) for name, equals, text in entries):
        if name != "seed":
            found[name] = _trigger(name, text, seed)
    return found


def _trigger(name: str, text: str, seed: int) -> _Trigger:
    if name not in POINTS:
        raise ConfigError(f"There is no failpoint {name!r}.", remedy=f"Failpoints are {', '.join(POINTS)}.")
    entry = _ENTRY.fullmatch(text)
    if entry is None:
        raise ConfigError(f"The failpoint {name} is armed with {text!r}, which is no action.", remedy=_REMEDY)
    milliseconds, chance = int(entry["ms"] or 0), float(entry["chance"] or 1.0)
    if milliseconds > LONGEST_SLEEP_MS or chance > 1.0:
        raise ConfigError(f"The failpoint {name} is armed with {text!r}, which is out of range.", remedy=_REMEDY)
    return _Trigger(
        action=entry["action"].partition("(")[0],  # type: ignore[arg-type]  # one of the pattern's four
        seconds=milliseconds / 1e3,
        chance=chance,
        left=int(entry["most"]) if entry["most"] else None,
        first=int(entry["first"] or 1),
        random=random.Random(f"{seed} {name}"),
    )


_REMEDY: Final = (
    "Write NAME=panic, NAME=error, NAME=drop or NAME=sleep(MS), each with :PROBABILITY, *TIMES or @FIRST after it, "
    "parted by semicolons; seed=N draws the probabilities."
)
