"""A cloud service as a child process, for the demo and the benches: started, killed and never left behind.

The child gets its settings as one line on standard input and ends when that pipe closes, so that it outlives its
parent under no circumstances. It answers with one line on standard output: its address, or why it cannot serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from updraft.errors import CloudUnavailable, UpdraftError, from_code
from updraft.transport.address import parse_address

if TYPE_CHECKING:
    from updraft.config import CloudSettings

__all__ = ["CloudProcess"]

_TAIL_LINES: Final = 20
_STOP_MARGIN_S: Final = 5.0


class CloudProcess:
    """`updraft serve cloud` with these settings as a process of its own; an async context manager.

    Port 0 takes any free port; a process started again listens on the address that it had.

    Args:
        start_timeout_s: longest wait until it serves; loading a model counts.
    """

    def __init__(self, settings: CloudSettings, *, start_timeout_s: float = 120.0) -> None:
        self.settings = settings
        self.address = ""
        self._start_timeout_s = start_timeout_s
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def stderr_tail(self) -> str:
        """The last lines that it logged."""
        return "\n".join(self._tail)

    async def start(self) -> None:
        """Start the process and wait until it serves.

        Raises:
            UpdraftError: what `serve` raised in the process, such as ModelNotFound or AddressInUse.
            CloudUnavailable: it ended or did not serve in time; the message holds the end of its log.
        """
        self._tail.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # The child imports what this process would, wherever that was found.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,  # Ctrl-C is for the parent, which then stops its child
        )
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 (pipes were asked for)
        self._reader = asyncio.create_task(self._read_stderr(self._process))
        try:
            self._process.stdin.write(self._settings_line())
            with contextlib.suppress(ConnectionError):  # it ended at once; the log says why
                await self._process.stdin.drain()
            line = await asyncio.wait_for(self._process.stdout.readline(), self._start_timeout_s)
        except TimeoutError as error:
            await self.kill()
            raise CloudUnavailable(
                f"The cloud process did not serve within {self._start_timeout_s:g} s.\n{self.stderr_tail}"
            ) from error
        except BaseException:
            await self.kill()
            raise
        if not line:
            await self.kill()
            raise CloudUnavailable(
                f"The cloud process ended before it served.\n{self.stderr_tail}", remedy="Its log says why."
            )
        answer = json.loads(line)
        if "address" not in answer:
            await self.kill()
            raise from_code(answer["code"], answer["message"], answer["remedy"])
        self.address = answer["address"]

    async def stop(self) -> None:
        """SIGTERM: it drains its sessions and ends; killed if it takes too long."""
        if self._process is None or not self.running:
            return
        self._process.terminate()
        try:
            drain_s = self.settings.operations.drain_notice_s + self.settings.drain_s
            await asyncio.wait_for(self._process.wait(), drain_s + _STOP_MARGIN_S)
        except TimeoutError:
            self._process.kill()
        await self._reap()

    async def kill(self) -> None:
        """SIGKILL, as when a machine dies: no session is told."""
        if self._process is None:
            return
        if self.running:
            self._process.kill()
        await self._reap()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.stop()

    def _settings_line(self) -> bytes:
        values = self.settings.model_dump(mode="json")
        for name, token in (("listen", self.settings.listen.token), ("operations", self.settings.operations.token)):
            if token is not None:
                values[name]["token"] = token.get_secret_value()
        if self.address and not self.settings.listen.port:
            values["listen"]["port"] = parse_address(self.address)[1]
        return json.dumps(values).encode() + b"\n"

    async def _read_stderr(self, process: asyncio.subprocess.Process) -> None:
        if process.stderr is not None:
            async for line in process.stderr:
                self._tail.append(line.decode(errors="replace").rstrip())

    async def _reap(self) -> None:
        if self._process is not None:
            await self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
        if self._reader is not None:
            await self._reader


def _end_with_parent() -> None:
    """Wait for the end of standard input, which is the parent's end, and ask this process to stop."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _main() -> None:
    """The child: settings in, address out, serve."""
    from updraft.config import CloudSettings
    from updraft.logging_setup import configure_logging
    from updraft_cloud.server import CloudServer, serve

    line = b""
    while not line.endswith(b"\n"):  # unbuffered: what follows is for the thread
        line += os.read(0, 1) or sys.exit("the settings ended early")
    settings = CloudSettings.model_validate_json(line)
    configure_logging(settings.log_level, settings.log_format)

    def ready(server: CloudServer) -> None:
        # A thread before this would turn the parent's early end into a signal that nobody handles.
        threading.Thread(target=_end_with_parent, daemon=True).start()
        print(json.dumps({"address": server.address}), flush=True)

    try:
        asyncio.run(serve(settings, ready=ready))
    except UpdraftError as error:
        print(json.dumps({"code": error.code, "message": error.message, "remedy": error.remedy}), flush=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    _main()
