"""Batches of fuzzed frames in a process of their own: whoever crashes or hangs it is known by the batch."""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import sys
import time
import traceback
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from .child import lines_of
from .fuzz_targets import TARGETS, fed

__all__ = ["BATCH", "Batch", "batches_of", "run_batch", "target_of"]

BATCH: Final = 1000  # frames
_HANG_S: Final = 60.0
_SHOWN: Final = 400  # bytes of a frame that is reported


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of the frames of one batch.

    Attributes:
        wrong: what was raised that should not have been, each with the frame's bytes.
        slowest_s: the longest time that one frame took.
        memory: resident bytes of the process afterwards; 0 where the system does not say, as with `files`.
        files: its open file descriptors.
    """

    seed: int
    target: str
    frames: int
    taken: int
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    slowest_s: float = 0.0
    memory: int = 0
    files: int = 0


def target_of(seed: int, names: Sequence[str]) -> str:
    """Which of the targets a batch is for, by their shares."""
    return random.Random(seed).choices(names, [TARGETS[name][1] for name in names])[0]


def run_batch(seed: int, name: str, frames: int = BATCH) -> Batch:
    """Feed a target the frames that this seed makes."""
    errors = _Errors()
    logging.getLogger().addHandler(errors)
    target, chance = TARGETS[name][0](), random.Random(f"{seed} {name}")
    started, taken, slowest = time.perf_counter(), 0, 0.0
    try:
        for _ in range(frames):
            data = target.sample(chance)
            begun = time.perf_counter()
            try:
                taken += fed(target, data)
            except Exception:
                errors.add(traceback.format_exc(limit=-3), data)
            errors.blame(data)
            slowest = max(slowest, time.perf_counter() - begun)
        target.close()
    except Exception:
        errors.add(traceback.format_exc(limit=-3), b"")
    finally:
        logging.getLogger().removeHandler(errors)
    seconds = time.perf_counter() - started
    gc.collect()  # what only waits to be collected is no leak
    return Batch(seed, name, frames, taken, errors.wrong, seconds, slowest, *_held())


async def batches_of(seeds: range, names: Sequence[str]) -> AsyncGenerator[Batch, None]:
    """The batches of these seeds, run in a child process. One that dies or hangs is a wrong batch and the last one."""
    argument = json.dumps({"first": seeds.start, "stop": seeds.stop, "step": seeds.step, "names": list(names)})
    seed = seeds.start
    try:
        async with aclosing(lines_of("fuzz_worker", argument, silence_s=_HANG_S)) as lines:
            async for line in lines:
                batch = Batch(**json.loads(line))
                seed = batch.seed + seeds.step
                yield batch
    except Exception as error:
        yield Batch(seed, target_of(seed, names), BATCH, 0, [str(error)])


class _Errors(logging.Handler):
    """Collects what goes wrong: raised here, or logged as an error by a thread that survived it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.wrong: list[str] = []
        self._logged: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        trace = "".join(traceback.format_exception(record.exc_info[1], limit=-3)) if record.exc_info else ""
        self._logged.append(f"{record.getMessage()}\n{trace}")

    def add(self, text: str, data: bytes) -> None:
        self.wrong.append(f"{text.strip()}\nframe: {data[:_SHOWN].hex()}")

    def blame(self, data: bytes) -> None:
        """What was logged since the last frame is this one's."""
        while self._logged:
            self.add(self._logged.pop(0), data)


def _held() -> tuple[int, int]:
    """Resident bytes and open files of this process."""
    try:
        with open("/proc/self/statm", encoding="ascii") as pages:
            return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0, 0


def _main() -> None:
    asked: dict[str, Any] = json.loads(sys.argv[1])
    logging.lastResort = None
    for seed in range(asked["first"], asked["stop"], asked["step"]):
        batch = run_batch(seed, target_of(seed, asked["names"]))
        print(json.dumps(asdict(batch)), flush=True)


if __name__ == "__main__":
    _main()
