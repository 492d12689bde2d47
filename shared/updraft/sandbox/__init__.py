"""Runs programs that a model wrote, and programs of the operator, with limits.

A model's program is confined: namespaces of its own take the network, other processes and all files but an empty
folder of its own away (reading stays possible), besides limits on time, processor, memory, files, processes and output.
Where the system allows no such namespaces it is not run, unless that is allowed explicitly. It shares the kernel, and
can read what the user can read: for untrusted users, run all of Updraft in a container or a virtual machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from updraft.errors import ConfigError

__all__ = ["Ended", "Limits", "Verdict", "run_command", "run_program", "unconfinable"]

Outcome = Literal["passed", "failed", "timeout", "limit"]
_LAUNCHER: Final = Path(__file__).with_name("launcher.py")
_GRACE: Final = 10.0  # seconds that the launcher may take beside the command
_TAIL: Final = 4096  # bytes of errors that are kept
_STOPPED: Final = {
    "time": "not done in time",
    "cpu": "the processor time is used up",
    "memory": "too much memory",
    "processes": "too many processes",
    "output": "too much output",
    "cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a command may use, with all that it starts; None is no limit.

    Attributes:
        seconds: on the clock.
        memory_bytes: address space of each process, and memory of all.
        file_bytes, disk_bytes: of one file, and of all in the folder of a confined one.
        processes: processes and threads.
        output_bytes: on standard output.
    """

    seconds: float = 10.0
    cpu_seconds: int | None = 8
    memory_bytes: int | None = 512 << 20
    file_bytes: int | None = 4 << 20
    disk_bytes: int = 16 << 20
    processes: int | None = 32
    output_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        status: as of `subprocess`; None where it was stopped.
        stopped: the limit that stopped it: time, cpu, memory, processes or output; empty for none.
        output, errors: what it wrote; of errors the end.
    """

    status: int | None
    stopped: str = ""
    output: bytes = b""
    errors: bytes = b""

    @property
    def reason(self) -> str:
        """In words, why it did not end well; at most 200 characters."""
        if self.stopped:
            return _STOPPED.get(self.stopped, self.stopped)
        if self.status is not None and self.status < 0:
            return f"ended by signal {-self.status}"
        lines = self.errors.decode(errors="replace").strip().splitlines()
        return (lines[-1] if lines else f"status {self.status}")[:200]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a program ended; `reason` is the last line of its errors, or the limit that it broke."""

    outcome: Outcome
    reason: str = ""


async def run_program(
    program: str, limits: Limits | None = None, *, success: int = 0, unconfined: bool = False
) -> Verdict:
    """Run a Python program to its end.

    Args:
        success: the status that it ends with if it passed.
        unconfined: run it with limits alone where the system cannot confine it.

    Raises:
        ConfigError: it cannot be confined here.
    """
    why = await unconfinable()
    if why and not unconfined:
        raise ConfigError(
            f"This system lets nobody take the network and the files away from a program ({why}), so it is not run.",
            remedy="Allow user namespaces, or run Updraft in a container and allow it there with --unconfined-code.",
        )
    with tempfile.TemporaryDirectory(prefix="updraft-code-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "program.py"
        path.write_text(program, encoding="utf-8", errors="replace")
        command = (sys.executable, "-I", "-B", str(path))
        ended = await _launch(command, Path(folder), limits or Limits(), confined=not why, quiet=True)
    if ended.status == success:
        return Verdict("passed")
    if ended.status == -signal.SIGXCPU or ended.stopped in ("time", "cpu"):
        return Verdict("timeout", _STOPPED[ended.stopped or "cpu"])
    return Verdict("limit" if ended.stopped else "failed", ended.reason)


async def run_command(
    command: Sequence[str], given: bytes, limits: Limits, *, environment: Mapping[str, str] | None = None
) -> Ended:
    """Run a program of the operator with limits, in a folder of its own; `given` is its standard input.

    It is trusted: it has the network, the files and, unless told otherwise, the environment of this process.

    Raises:
        ConfigError: it cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="updraft-command-", ignore_cleanup_errors=True) as folder:
        return await _launch(command, Path(folder), limits, given=given, environment=environment or os.environ)


async def unconfinable() -> str:
    """Why programs cannot be confined here; empty where they can. Tried once."""
    if not _tried:
        _tried.append(await _try())
    return _tried[0]


_tried: list[str] = []


async def _try() -> str:
    if sys.platform != "linux":
        return "only Linux can"
    with tempfile.TemporaryDirectory(prefix="updraft-code-") as folder:
        try:
            ended = await _launch((sys.executable, "-I", "-S", "-c", ""), Path(folder), Limits(), confined=True)
        except ConfigError as error:
            return error.message
    return "" if ended.status == 0 else ended.reason


async def _launch(
    command: Sequence[str],
    folder: Path,
    limits: Limits,
    *,
    confined: bool = False,
    given: bytes = b"",
    environment: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> Ended:
    reading, writing = os.pipe()
    try:
        order = {
            "command": list(command),
            "folder": str(folder),
            "environment": dict(environment or {}),
            "confined": confined,
            "report": writing,
            **asdict(limits),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-B", str(_LAUNCHER), json.dumps(order)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL if quiet else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(writing,),
            env={},
            start_new_session=True,
        )
        os.close(writing)
        writing = -1
        output, errors, flooded = await _attended(process, given, limits)
        return _read(os.read(reading, 1 << 16), output, errors, flooded)
    finally:
        for descriptor in (reading, writing):
            if descriptor >= 0:
                os.close(descriptor)


async def _attended(process: asyncio.subprocess.Process, given: bytes, limits: Limits) -> tuple[bytes, bytes, bool]:
    """See a launcher to its end, also where this is cancelled. Output, errors, and whether there was too much."""
    streams = (
        _collect(process, process.stdout, limits.output_bytes),
        _collect(process, process.stderr, None),
        _feed(process, given),
    )
    try:
        (output, flooded), (errors, _), _ = await asyncio.wait_for(asyncio.gather(*streams), limits.seconds + _GRACE)
        await process.wait()
        return output, errors, flooded
    except TimeoutError:
        return b"", b"the launcher did not end", False
    finally:
        await _stopped(process)


async def _stopped(process: asyncio.subprocess.Process) -> None:
    """The launcher ends all that it started before it ends itself."""
    if process.returncode is not None:
        return
    try:
        process.terminate()
        await asyncio.wait_for(process.wait(), _GRACE)
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()


async def _collect(
    process: asyncio.subprocess.Process, stream: asyncio.StreamReader | None, most: int | None
) -> tuple[bytes, bool]:
    """All of a stream, up to `most` bytes, and whether there was more; without `most` its end."""
    kept = b""
    while stream is not None and (part := await stream.read(65536)):
        kept += part
        if most is None:
            kept = kept[-_TAIL:]
        elif len(kept) > most:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            while await stream.read(65536):  # what it still writes must not keep it from ending
                pass
            return kept[:most], True
    return kept, False


async def _feed(process: asyncio.subprocess.Process, given: bytes) -> None:
    stream = process.stdin
    if stream is None:
        return
    with contextlib.suppress(ConnectionError):  # a command need not read
        stream.write(given)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


def _read(report: bytes, output: bytes, errors: bytes, flooded: bool) -> Ended:
    if flooded:
        return Ended(None, "output", output, errors)
    try:
        found: dict[str, Any] = json.loads(report.partition(b"\n")[0])
    except ValueError:
        return Ended(None, "", output, errors or b"the launcher told nothing")
    if "error" in found:
        raise ConfigError(str(found["error"]), remedy="Correct the command, or what the system allows.")
    return Ended(found["status"], found["stopped"], output, errors)
