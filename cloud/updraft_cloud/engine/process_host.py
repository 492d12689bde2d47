"""The engine in a process of its own: started, watched, and started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, TypeVar

import zmq
import zmq.asyncio

from updraft.config import CloudSettings
from updraft.errors import CloudUnavailable, ProtocolViolation, from_code
from updraft_cloud.engine.host import Listener
from updraft_cloud.messages import (
    MAX_BYTES,
    Description,
    FromEngine,
    NotReady,
    Ready,
    ToEngine,
    decode_from_engine,
    encode,
)

AnySocket = TypeVar("AnySocket", bound=zmq.Socket[Any])

__all__ = ["FROM_ENGINE", "TO_ENGINE", "ProcessHost"]

log = logging.getLogger(__name__)

TO_ENGINE: Final = "to-engine"
FROM_ENGINE: Final = "from-engine"
_QUEUE: Final = 10_000  # messages that wait for the engine; sessions are bounded, and each has one piece of work
_LONGEST_BACKOFF_S: Final = 30.0
_STOP_S: Final = 10.0


class ProcessHost:
    """An `EngineHost` whose engine dies alone.

    The two processes talk over ZeroMQ in a folder that only this user can enter. The engine's process ends when its
    standard input does, which is this process's end.

    Args:
        settings: of the cloud tier; the engine's process loads its model.
        start_timeout_s: longest wait until it has loaded.
        silence_s: an engine that says nothing for so long is killed and started again: a pass may take seconds.
    """

    def __init__(self, settings: CloudSettings, *, start_timeout_s: float = 600.0, silence_s: float = 60.0) -> None:
        self.restarts = 0
        self._settings = settings
        self._start_timeout_s = start_timeout_s
        self._silence_s = silence_s
        self._description: Description | None = None
        self._ready = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def description(self) -> Description:
        assert self._description is not None  # noqa: S101  # `start` comes first
        return self._description

    @property
    def process(self) -> int | None:
        """The engine's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self, listener: Listener) -> None:
        """Start the process and wait for its acknowledgement.

        Raises:
            UpdraftError: what loading the model raised there.
            CloudUnavailable: the process ended or did not load in time.
        """
        self._listener = listener
        self._zmq = zmq.Context()
        try:
            await self._launch()
        except BaseException:
            await self._end()
            self._zmq.destroy(linger=0)
            raise
        self._watching = asyncio.create_task(self._watch())

    async def ready(self) -> None:
        await self._ready.wait()

    def send(self, message: ToEngine) -> None:
        if not self._ready.is_set():
            return
        data = encode(message)
        try:
            self._to_engine.send(data, zmq.NOBLOCK)
        except zmq.Again:
            log.error("the engine's queue of %d messages is full", _QUEUE)
            self._kill()

    async def stop(self) -> None:
        if self._watching is None:
            return
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        self._watching = None
        await self._end()
        self._zmq.destroy(linger=0)

    async def _watch(self) -> None:
        """Pass on what the engine says; when it dies or falls silent, start it again."""
        while True:
            await self._listen()
            self._kill()
            self._ready.clear()
            log.error("the engine's process has ended (exit status %s)", await self._end())
            self._listener.lost()
            await self._launch_again()

    async def _listen(self) -> None:
        """Until the process ends, says what it should not, or says nothing for too long."""
        assert self._process is not None  # noqa: S101  # launched
        self._heard_at = time.monotonic()
        ends = [asyncio.create_task(part) for part in (self._process.wait(), self._hear(), self._silence())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
        while await self._from_engine.poll(0):  # the last words of a process that has ended
            self._hear_one(await self._from_engine.recv())

    async def _hear(self) -> None:
        while self._hear_one(await self._from_engine.recv()):
            self._heard_at = time.monotonic()

    def _hear_one(self, data: bytes) -> bool:
        try:
            self._listener.heard(decode_from_engine(data))
        except ProtocolViolation:
            log.exception("the engine's process does not speak the protocol")
            return False
        return True

    async def _silence(self) -> None:
        while (left := self._heard_at + self._silence_s - time.monotonic()) > 0:
            await asyncio.sleep(left)
        log.error("the engine has said nothing for %g s", self._silence_s)

    async def _launch_again(self) -> None:
        backoff = 0.1
        while True:
            try:
                await self._launch()
            except Exception:
                log.exception("the engine could not be started again")
                await self._end()
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, _LONGEST_BACKOFF_S)
            else:
                self.restarts += 1
                return

    async def _launch(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="updraft-"))  # mode 0700
        self._to_engine = self._bind(self._zmq.socket(zmq.PUSH), TO_ENGINE)
        listening = zmq.asyncio.Context.shadow(self._zmq.underlying)
        self._from_engine = self._bind(listening.socket(zmq.PULL), FROM_ENGINE)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "updraft_cloud.engine.process",
            str(self.folder),
            stdin=asyncio.subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,  # Ctrl-C is for the front end, which then stops its engine
        )
        assert self._process.stdin is not None  # noqa: S101  # a pipe was asked for
        self._process.stdin.write(self._settings.model_dump_json(exclude={"listen"}).encode() + b"\n")
        started = time.monotonic()
        self._description = await self._acknowledged(self._process)
        self._ready.set()
        log.info("the engine is ready after %.1f s (process %d)", time.monotonic() - started, self._process.pid)

    def _bind(self, socket: AnySocket, name: str) -> AnySocket:
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, _QUEUE)
        socket.set(zmq.RCVHWM, _QUEUE)
        socket.set(zmq.MAXMSGSIZE, MAX_BYTES)
        socket.bind(f"ipc://{self.folder / name}")
        return socket

    async def _acknowledged(self, process: asyncio.subprocess.Process) -> Description:
        message = await self._first_message(process)
        if isinstance(message, NotReady):
            raise from_code(message.code, message.message, message.remedy)
        if not isinstance(message, Ready):
            raise CloudUnavailable(f"The engine's process began with {type(message).__name__}.")
        return message.description

    async def _first_message(self, process: asyncio.subprocess.Process) -> FromEngine:
        ended = asyncio.create_task(process.wait())
        arrived = asyncio.ensure_future(self._from_engine.poll(round(1000 * self._start_timeout_s)))
        try:
            await asyncio.wait([ended, arrived], return_when=asyncio.FIRST_COMPLETED)
            if not await self._from_engine.poll(0):
                why = f"ended ({process.returncode})" if ended.done() else f"took over {self._start_timeout_s:g} s"
                raise CloudUnavailable(f"The engine's process {why} before it was ready.", remedy="Its log says why.")
            return decode_from_engine(await self._from_engine.recv())
        finally:
            ended.cancel()
            arrived.cancel()

    async def _end(self) -> int | None:
        """Have the process end, by force if need be, and leave nothing of it; its exit status."""
        self._ready.clear()
        process, self._process = self._process, None
        status = None
        if process is not None:
            assert process.stdin is not None  # noqa: S101  # a pipe was asked for
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_S)
            if process.returncode is None:
                process.kill()
            status = await process.wait()
        for socket in (self._to_engine, self._from_engine):
            socket.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return status

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
