"""Nothing of an answer stays when it is written: counted in objects, which allocators do not blur."""

from __future__ import annotations

import asyncio
import gc
import logging
from asyncio import TimerHandle
from collections import Counter
from collections.abc import Iterable, Iterator
from contextvars import Context
from functools import reduce
from itertools import pairwise
from operator import and_

import pytest

from bench import starvation
from bench.fault_runner import Arena, tiny_arena
from bench.fault_schedule import Schedule, random_schedule
from updraft_edge.lookup.memory import LookupMemory

_ANSWERS = 30
_ROUNDS = 3
_LANES = 2


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    """Whoever captures a log keeps its records, and what they hold."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


async def test_nothing_grows_with_the_number_of_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starvation, "_KEPT_S", 1.0)  # what the arena itself keeps, by time
    drawn = (random_schedule(seed, tokens=16, points=False) for seed in range(1000))
    schedules = [one for one in drawn if not one.may_degrade][:_ANSWERS]  # where nobody waits for what is lost
    async with tiny_arena(_LANES) as arena:
        assert not any(await _write(arena, schedules * 3))  # fills what is bounded
        counts = [_objects()]
        for _ in range(_ROUNDS):
            assert not any(await _write(arena, schedules))
            counts.append(_objects())
    # Streams that are about to end come and go.
    grown = reduce(and_, (after - before for before, after in pairwise(counts)))
    assert not {kind: count for kind, count in grown.items() if count > _ANSWERS / 4}


async def _write(arena: Arena, schedules: Iterable[Schedule]) -> list[list[str]]:
    """Write the answers; what was wrong with each."""
    pending, wrong = iter(schedules), list[list[str]]()

    async def lane() -> None:
        for schedule in pending:
            wrong.append((await arena.outcome(schedule)).wrong)

    await asyncio.gather(*(lane() for _ in range(_LANES)))
    await asyncio.sleep(2.0)  # streams end on both sides, and passes are reported, once a second
    return wrong


def _objects() -> Counter[type]:
    """All objects that the collector knows, by type.

    Not counted are past answers, which are bounded and fill for long, and timers with their contexts: event loops keep
    those that were cancelled until their time comes.
    """
    for one in gc.get_objects():
        if type(one) is LookupMemory:
            one.tries.clear()
    gc.collect()
    return Counter(type(one) for one in gc.get_objects() if type(one) not in (TimerHandle, Context))
