"""Runs programs that a model wrote, with limits. This is no security boundary.

A child interpreter in isolated mode gets an empty folder, an empty environment, limits on processor time, memory,
files and processes, and no network where the system lets an ordinary user take it away. It can still read what the
user can read. Run untrusted code in a container or a virtual machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

__all__ = ["Limits", "Verdict", "run_program"]

Outcome = Literal["passed", "failed", "timeout"]

# Sets the limits and becomes the program: nothing runs between fork and exec in a process with threads.
_LIMITER: Final = """
import os, resource, sys
cpu, memory, size = map(int, sys.argv[2:5])
resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if hasattr(resource, "RLIMIT_NPROC"):
    resource.setrlimit(resource.RLIMIT_NPROC, (64, 64))
os.execv(sys.executable, [sys.executable, "-I", "-B", sys.argv[1]])
"""
_NO_NETWORK: Final = ("unshare", "--user", "--map-root-user", "--net")


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds on the clock and of the processor, bytes of memory and of one file."""

    seconds: float = 10.0
    cpu_seconds: int = 8
    memory_bytes: int = 512 << 20
    file_bytes: int = 4 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a program ended; `reason` is the last line of its errors, at most 200 characters."""

    outcome: Outcome
    reason: str = ""


async def run_program(program: str, limits: Limits | None = None) -> Verdict:
    """Run a Python program to its end; it passed if it ended with status 0."""
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="updraft-eval-") as folder:
        path = Path(folder) / "program.py"
        path.write_text(program, encoding="utf-8", errors="replace")
        process = await asyncio.create_subprocess_exec(
            *await _without_network(),
            sys.executable,
            "-I",
            "-B",
            "-c",
            _LIMITER,
            str(path),
            *map(str, (limits.cpu_seconds, limits.memory_bytes, limits.file_bytes)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        return await _ended(process, limits.seconds)


async def _ended(process: asyncio.subprocess.Process, seconds: float) -> Verdict:
    if process.stderr is None:
        raise RuntimeError("a pipe was asked for")
    try:
        errors = await asyncio.wait_for(_tail(process.stderr), seconds)
        status = await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        return Verdict("timeout", f"not done after {seconds:g} s")
    finally:
        _kill_group(process.pid)
        await process.wait()
    if status == 0:
        return Verdict("passed")
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return Verdict("timeout", "the processor time is used up")
    lines = errors.decode(errors="replace").strip().splitlines()
    return Verdict("failed", (lines[-1] if lines else f"status {status}")[:200])


async def _tail(stream: asyncio.StreamReader, keep: int = 4096) -> bytes:
    """The end of a stream; what comes before is read and dropped."""
    tail = b""
    while part := await stream.read(65536):
        tail = (tail + part)[-keep:]
    return tail


def _kill_group(pid: int) -> None:
    """End the program and whatever it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


_network_off: list[tuple[str, ...]] = []


async def _without_network() -> tuple[str, ...]:
    """The words before a command that take its network away, or none where the system does not allow it."""
    if not _network_off:
        _network_off.append(await _probe())
    return _network_off[0]


async def _probe() -> tuple[str, ...]:
    program = shutil.which(_NO_NETWORK[0])
    if program is None:
        return ()
    command = (program, *_NO_NETWORK[1:])
    process = await asyncio.create_subprocess_exec(
        *command, "true", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return command if await process.wait() == 0 else ()
