"""A module of the benches as a child process that says one line for each thing done."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from updraft.errors import EngineFailure, LateReply

__all__ = ["lines_of"]

_LONGEST_LINE: Final = 1 << 24
_TAIL: Final = 2000  # characters of a log


async def lines_of(module: str, argument: str, *, silence_s: float = 120.0) -> AsyncGenerator[bytes, None]:
    """The lines that `bench.MODULE` writes with this argument; it does not outlive the iteration.

    Raises:
        EngineFailure: it ended otherwise than with status 0; the message holds the end of its log.
        LateReply: it said nothing for too long.
    """
    name, root = _found(module)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # a folder named `bench` where the user happens to be is not meant
        "-X",
        "faulthandler",
        "-m",
        name,
        argument,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
        # The child imports what this process would, wherever that was found.
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *(path for path in sys.path if path)])},
    )
    assert process.stdout is not None and process.stderr is not None  # noqa: S101 (pipes were asked for)
    log = asyncio.create_task(process.stderr.read())
    try:
        while line := await asyncio.wait_for(process.stdout.readline(), silence_s):
            yield line
        if await process.wait():
            tail = (await log).decode(errors="replace")[-_TAIL:]
            raise EngineFailure(f"The process {module} ended with status {process.returncode}.\n{tail}")
    except TimeoutError as error:
        raise LateReply(f"The process {module} said nothing for {silence_s:g} s.") from error
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.gather(process.wait(), log, return_exceptions=True)


def _found(module: str) -> tuple[str, Path]:
    """A module as the child must name it, and the folder to find it from: installed, or in the source tree."""
    folder = Path(__file__).resolve().parent
    if folder.name == "_bench":
        return f"updraft._bench.{module}", folder.parents[1]
    return f"bench.{module}", folder.parent
