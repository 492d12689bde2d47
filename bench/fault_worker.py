"""Schedules in processes of their own, so that both cores work: one line in, a line for each outcome."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from updraft.errors import EngineFailure

from .fault_runner import Outcome, shrunk, tiny_arena
from .fault_schedule import Schedule, random_schedule

__all__ = ["Share", "in_process", "in_this_process"]

_LONGEST_LINE: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class Share:
    """Which schedules one process runs: every `stride`-th from `first` on, `lanes` at once."""

    first: int
    stop: int
    stride: int
    lanes: int
    tokens: int

    @property
    def schedules(self) -> Iterable[Schedule]:
        return (random_schedule(seed, tokens=self.tokens) for seed in range(self.first, self.stop, self.stride))


async def in_this_process(schedules: Iterable[Schedule], lanes: int, done: Callable[[Outcome], None]) -> None:
    """Run the schedules here, several at once. One that goes wrong is run again alone, with fewer and fewer faults."""
    pending, wrong = iter(schedules), list[Outcome]()
    async with tiny_arena(lanes) as arena:

        async def lane() -> None:
            for schedule in pending:
                outcome = await arena.outcome(schedule)
                if outcome.wrong:
                    wrong.append(outcome)
                else:
                    done(outcome)

        await asyncio.gather(*(lane() for _ in range(lanes)))
        for outcome in wrong:
            alone = await shrunk(arena, outcome.schedule)
            done(alone if alone.wrong else outcome)


async def in_process(share: Share, done: Callable[[Outcome], None]) -> None:
    """Run a share in a child process. Raises EngineFailure, with the end of its log, if it dies."""
    module, root = _module()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # a folder named `bench` where the user happens to be is not meant
        "-m",
        module,
        json.dumps(asdict(share)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
        # The child imports what this process would, wherever that was found.
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *(path for path in sys.path if path)])},
    )
    assert process.stdout is not None and process.stderr is not None  # noqa: S101 (pipes were asked for)
    log = asyncio.create_task(process.stderr.read())
    try:
        async for line in process.stdout:
            done(_outcome(line))
        if await process.wait():
            tail = (await log).decode(errors="replace")[-2000:]
            raise EngineFailure(f"The process of the schedules ended with code {process.returncode}.\n{tail}")
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.gather(process.wait(), log, return_exceptions=True)


def _outcome(line: bytes) -> Outcome:
    values: dict[str, Any] = json.loads(line)
    return Outcome(**values | {"schedule": Schedule.from_json(json.dumps(values["schedule"]))})


def _module() -> tuple[str, Path]:
    """This module as the child must name it, and the folder to find it from: installed, or in the source tree."""
    folder = Path(__file__).resolve().parent
    name = Path(__file__).stem
    return (
        (f"updraft._bench.{name}", folder.parents[1]) if folder.name == "_bench" else (f"bench.{name}", folder.parent)
    )


def _main() -> None:
    logging.disable(logging.CRITICAL)  # faults are the point here; the outcome says what became of them
    share = Share(**json.loads(sys.argv[1]))

    def done(outcome: Outcome) -> None:
        print(json.dumps(asdict(outcome)), flush=True)

    asyncio.run(in_this_process(share.schedules, share.lanes, done))


if __name__ == "__main__":
    _main()
