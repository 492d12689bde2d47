"""A loop in a process of its own, so that loops which are compared share no threads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Self

from updraft.errors import EngineFailure, from_code

from .loops import LOOP_NAMES, LoopOptions, Written

__all__ = ["LoopProcess"]

_TAIL_LINES: Final = 20
_LONGEST_LINE: Final = 1 << 24  # bytes; a token and its time take some 30
_STOP_TIMEOUT_S: Final = 5.0


class LoopProcess:
    """One loop of `bench.loops` as a child process; an async context manager.

    In one process the loops would share libgomp: it keeps a pool of threads for each thread that starts a parallel
    region, and with more threads in its pools than cores its idle threads sleep almost at once, which slows whoever
    pauses longer between two passes.

    Args:
        kind: a key of `LOOP_NAMES`.
    """

    def __init__(self, kind: str, options: LoopOptions) -> None:
        self.name = LOOP_NAMES[kind]
        self._kind = kind
        self._options = options
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._process is None or self._process.returncode is not None else self._process.pid

    async def start(self) -> None:
        """Start the process and wait until its model is loaded.

        Raises:
            UpdraftError: what the loop raised in the process, such as ModelNotFound.
            EngineFailure: it ended; the message holds the end of its log.
        """
        module, root = _module()
        self._tail.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a folder named `bench` where the user happens to be is not meant
            "-m",
            module,
            self._kind,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
            # The child imports what this process would, wherever that was found.
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *(path for path in sys.path if path)])},
            start_new_session=True,  # Ctrl-C is for the parent, which then stops its child
        )
        self._reader = asyncio.create_task(self._read_stderr(self._process))
        try:
            await self._ask(asdict(self._options))
        except BaseException:
            await self.stop()
            raise

    async def encode(self, text: str) -> list[int]:
        """The tokens of a chat with this one message; only the agent can."""
        tokens: list[int] = (await self._ask({"encode": text}))["tokens"]
        return tokens

    async def write(self, prompt: Sequence[int], count: int) -> Written:
        """`count` tokens after the prompt.

        Raises:
            UpdraftError: what the loop raised; it can be asked again.
            EngineFailure: the process ended; the message holds the end of its log.
        """
        answer = await self._ask({"prompt": list(prompt), "count": count})
        return Written(tuple(answer["tokens"]), tuple(answer["arrivals"]))

    async def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self._process is None:
            return
        assert self._process.stdin is not None  # noqa: S101 (a pipe was asked for)
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._reader is not None:
            await self._reader

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.stop()

    async def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None  # noqa: S101
        with contextlib.suppress(ConnectionError):  # it ended; the log says why
            process.stdin.write(json.dumps(command).encode() + b"\n")
            await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            await self.stop()
            raise EngineFailure(
                f"The process of the {self.name} ended with code {process.returncode}.\n" + "\n".join(self._tail),
                remedy="Its log says why.",
            )
        answer: dict[str, Any] = json.loads(line)
        if "code" in answer:
            raise from_code(answer["code"], answer["message"], answer["remedy"])
        return answer

    async def _read_stderr(self, process: asyncio.subprocess.Process) -> None:
        if process.stderr is not None:
            async for line in process.stderr:
                self._tail.append(line.decode(errors="replace").rstrip())


def _module() -> tuple[str, Path]:
    """The loops as the child must name them, and the folder to find them from: installed, or in the source tree."""
    folder = Path(__file__).resolve().parent
    return ("updraft._bench.loops", folder.parents[1]) if folder.name == "_bench" else ("bench.loops", folder.parent)
