"""What goes wrong during one answer, as data: drawn from a seed, written as JSON, and replayed from it."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

from updraft.errors import ConfigError

__all__ = ["BYTE_KINDS", "FRAME_KINDS", "LOSSES", "MODES", "Fault", "Level", "Schedule", "Way", "random_schedule"]

Level = Literal["frame", "bytes"]
Way = Literal["up", "down"]

# What may happen to a frame, as the link between the tiers' gRPC ends sees it.
FRAME_KINDS: Final = ("cut", "delay", "drop", "duplicate", "foreign", "garble", "replay", "swap", "truncate")
# What may happen to the bytes of a connection, whatever is in them.
BYTE_KINDS: Final = ("cut", "garble", "stall", "truncate")
MODES: Final = ("cloud", "draft", "lookup", "span")
# After these nobody learns that something is missing until a wait has ended, and a late cloud is not waited for again.
LOSSES: Final = frozenset({("frame", "drop"), ("frame", "swap"), ("bytes", "garble"), ("bytes", "stall")})

POINTS: Final = (
    "front.receive",
    "front.before_write",
    "engine.receive",
    "engine.before_send",
    "prefill",
    "verdict.before_commit",
    "verdict.after_commit",
    "verdict.before_ack",
    "span.before_commit",
    "span.before_ack",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        at: which frame (or piece of bytes) of the answer in its direction it strikes, from 1, counted over all streams
            that the answer opens.
        size: milliseconds of a delay or stall; else the seed of what is random in it.
        fit: later frames are renumbered, so that sequence numbers alone do not betray what was lost or added.
    """

    level: Level
    way: Way
    kind: str
    at: int
    size: int = 0
    fit: bool = False

    def __post_init__(self) -> None:
        kinds = {"frame": FRAME_KINDS, "bytes": BYTE_KINDS}.get(self.level)
        if kinds is None or self.kind not in kinds or self.way not in get_args(Way):
            raise ConfigError(
                f"There is no fault {self.kind!r} of {self.level} {self.way}.", remedy="See docs/faults.md."
            )
        if not 1 <= self.at <= 1_000_000 or not 0 <= self.size <= 1 << 32:
            raise ConfigError(f"A fault strikes at {self.at} with size {self.size}, which is out of range.")

    def __str__(self) -> str:
        size = f" {self.size} ms" if self.kind in ("delay", "stall") else ""
        return f"{self.kind}{size} at {self.way} {self.level} {self.at}{', renumbered' if self.fit else ''}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """An answer and what goes wrong while it is written.

    Attributes:
        seed: of sampling and of the prompt.
        points: failpoints to arm in the cloud, as `updraft.failpoints.arm` reads them.
    """

    seed: int
    mode: str
    temperature: float
    tokens: int
    faults: tuple[Fault, ...] = ()
    points: str = ""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"The mode {self.mode!r} is not one of {', '.join(MODES)}.")

    @property
    def asked(self) -> Schedule:
        """The same answer without faults."""
        return replace(self, faults=(), points="")

    @property
    def may_degrade(self) -> bool:
        """Whether a correct edge may finish alone: something is lost in silence, or comes too late."""
        return any((fault.level, fault.kind) in LOSSES for fault in self.faults) or "drop" in self.points

    def without(self, place: int) -> Schedule:
        """The same without one of its faults."""
        return replace(self, faults=self.faults[:place] + self.faults[place + 1 :])

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Schedule:
        """Raises ConfigError for anything that `to_json` does not write."""
        try:
            values: dict[str, Any] = json.loads(text)
            faults = tuple(Fault(**fault) for fault in values.pop("faults", ()))
            return cls(**values, faults=faults)
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"This is no schedule of faults: {error}.", remedy="Take one that a run wrote."
            ) from error

    @classmethod
    def read(cls, path: Path) -> Schedule:
        """From a file. Raises ConfigError."""
        try:
            return cls.from_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"The schedule {path} cannot be read: {error.strerror}.") from error


def random_schedule(
    seed: int, *, modes: Sequence[str] = MODES, tokens: int = 24, most: int = 4, points: bool = True
) -> Schedule:
    """Up to `most` faults. The answer is one of a hundred, so that its text without faults is known soon."""
    chance = random.Random(seed)
    asked = random.Random(chance.randrange(100))
    faults = tuple(_fault(chance, tokens) for _ in range(chance.randint(1, most)))
    return Schedule(
        seed=asked.randrange(1000),
        mode=asked.choice(modes),
        temperature=asked.choice((0.0, 0.8)),
        tokens=tokens,
        faults=faults,
        points=_points(chance) if points and chance.random() < 0.2 else "",
    )


def _fault(chance: random.Random, tokens: int) -> Fault:
    way = chance.choice(get_args(Way))
    if chance.random() < 0.2:
        kind = chance.choice(BYTE_KINDS)
        size = chance.randint(1, 30) if kind == "stall" else chance.randrange(1 << 30)
        return Fault("bytes", way, kind, chance.randint(1, tokens), size)
    kind = chance.choice(FRAME_KINDS)
    size = chance.randint(1, 30) if kind == "delay" else chance.randrange(1 << 30)
    fits = kind in ("drop", "duplicate", "foreign", "replay")
    return Fault("frame", way, kind, chance.randint(1, max(4, tokens // 2)), size, fit=fits and chance.random() < 0.5)


def _points(chance: random.Random) -> str:
    """Failures that a process survives; those that end one need a process of its own."""
    name = chance.choice(POINTS)
    action = chance.choice(("error*1", "sleep(5)*2") if "receive" in name else ("error*1", "error:0.1*3", "sleep(5)*2"))
    return f"seed={chance.randrange(1000)};{name}={action}@{chance.randint(1, 6)}"
