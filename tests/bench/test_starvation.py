"""Waiting for a core is told apart from waiting for something else."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import pytest

from bench.starvation import Starvation, waited_in_queue

pytestmark = pytest.mark.skipif(not waited_in_queue(os.getpid()), reason="the kernel keeps no account")
_BUSY = "import time; end = time.monotonic() + 2.0\nwhile time.monotonic() < end: pass"


async def test_processes_that_share_a_core_wait_for_it() -> None:
    core = {min(os.sched_getaffinity(0))}
    busy = [await asyncio.create_subprocess_exec(sys.executable, "-c", _BUSY) for _ in range(3)]
    for process in busy:
        os.sched_setaffinity(process.pid, core)
    async with Starvation(lambda: [process.pid for process in busy]) as starvation:
        began = time.perf_counter()
        await asyncio.sleep(1.0)
        assert starvation.since(began) > 0.2
        assert starvation.since(time.perf_counter()) < starvation.since(began)
    for process in busy:
        await process.wait()


async def test_who_waits_for_something_else_is_not_starved() -> None:
    sleeping = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    async with Starvation(lambda: [sleeping.pid]) as starvation:
        began = time.perf_counter()
        await asyncio.sleep(0.6)
        assert starvation.since(began) < 0.6
    await sleeping.communicate(b"\n")


def test_a_process_that_has_gone_waits_for_nothing() -> None:
    assert waited_in_queue(2**22 + 1) == {}


async def test_nothing_is_known_of_no_process() -> None:
    async with Starvation(list) as starvation:
        assert starvation.since(0.0) == 0.0
