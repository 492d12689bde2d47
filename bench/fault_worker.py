"""Schedules in processes of their own, so that both cores work: one line in, a line for each outcome."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any

from .child import lines_of
from .fault_runner import Outcome, shrunk, tiny_arena
from .fault_schedule import Schedule, random_schedule

__all__ = ["Share", "in_process", "in_this_process"]


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
    """Run a share in a child process. Raises as `lines_of` does."""
    async with aclosing(lines_of("fault_worker", json.dumps(asdict(share)))) as lines:
        async for line in lines:
            done(_outcome(line))


def _outcome(line: bytes) -> Outcome:
    values: dict[str, Any] = json.loads(line)
    return Outcome(**values | {"schedule": Schedule.from_json(json.dumps(values["schedule"]))})


def _main() -> None:
    logging.disable(logging.CRITICAL)  # faults are the point here; the outcome says what became of them
    share = Share(**json.loads(sys.argv[1]))

    def done(outcome: Outcome) -> None:
        print(json.dumps(asdict(outcome)), flush=True)

    asyncio.run(in_this_process(share.schedules, share.lanes, done))


if __name__ == "__main__":
    _main()
