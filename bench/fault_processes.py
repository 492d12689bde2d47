"""A cloud of two real processes that are killed: by failpoints, or at any moment; what dies is started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

from updraft.cloud_process import CloudProcess
from updraft.config import CloudSettings
from updraft.errors import ConfigError, UpdraftError
from updraft.failpoints import POINTS, VARIABLE
from updraft_edge.agent import Agent

from .fault_runner import Arena, Outcome, edge_settings
from .fault_schedule import Schedule
from .prompts import PROMPTS

__all__ = ["ENGINE_THREADS", "MortalCloud", "children", "model_arena", "random_death", "run_mortally", "tiny_models"]

ENGINE_THREADS: Final = 1  # of the cloud: on a busy machine two would wait for each other most of the time
_WATCH_S: Final = 0.02
_KILLED_SHARE: Final = 0.35
_LATEST_S: Final = 1.5  # into an answer
_ATTEMPTS: Final = 40  # of an edge, most of them 2 s apart: longer than any restart takes
_RESTARTS: Final = 5  # attempts to start a front end again, a second apart


class MortalCloud:
    """A cloud process with an engine's process; an async context manager.

    Attributes:
        points: failpoints that a front end started from now on, and its engines, have armed.
        deaths: of each process, how often.
    """

    def __init__(self, settings: CloudSettings, points: str = "") -> None:
        self.points = points
        self.deaths = {"front": 0, "engine": 0}
        self._process = CloudProcess(settings)
        self._engine: int | None = None

    async def __aenter__(self) -> Self:
        with _environment(self.points):
            await self._process.start()
        self._engine = self.engine
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._process.stop()
        await self._process.kill()  # leaves nothing of one that had died

    @property
    def address(self) -> str:
        return self._process.address

    @property
    def front(self) -> int | None:
        """Process id of the front end while it runs."""
        return self._process.pid

    @property
    def engine(self) -> int | None:
        """Process id of the engine while it runs."""
        return next(iter(children(self.front)), None) if self.front is not None else None

    def kill(self, name: str) -> None:
        """SIGKILL to `front` or `engine`, as when a machine runs out of memory."""
        pid = self.front if name == "front" else self.engine
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def _watch(self) -> None:
        """Count deaths, and start the front end again; the engine's process is the front end's to start again."""
        while True:
            await asyncio.sleep(_WATCH_S)
            if not self._process.running:
                self.deaths["front"] += 1
                await self._start_again()
                self._engine = self.engine
            elif (engine := self.engine) is not None and engine != self._engine:
                self.deaths["engine"] += 1
                self._engine = engine

    async def _start_again(self) -> None:
        await self._process.kill()
        for left in range(_RESTARTS, -1, -1):
            try:
                with _environment(self.points):
                    await self._process.start()
                return
            except UpdraftError:  # the port may be taken for a moment, or a failpoint strikes at once
                if not left:
                    raise
                await asyncio.sleep(1.0)


def random_death(seed: int) -> str:
    """Failpoints at which a process dies, sooner or later after each of its starts."""
    chance = random.Random(seed)
    name = chance.choice(list(POINTS))
    return f"{name}=panic@{chance.randint(20, 120)}"


async def run_mortally(
    schedules: Iterable[Schedule], cloud: MortalCloud, arena: Arena, lanes: int, done: Callable[[Outcome], None]
) -> None:
    """Run the schedules while the cloud's processes die at failpoints and, in every third answer, at any moment."""
    pending = iter(schedules)

    async def lane() -> None:
        for schedule in pending:
            killing = asyncio.create_task(_kill(cloud, schedule))
            done(await arena.outcome(schedule))
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)

    await asyncio.gather(*(lane() for _ in range(lanes)))


async def _kill(cloud: MortalCloud, schedule: Schedule) -> None:
    chance = random.Random(f"{schedule.seed} {len(schedule.faults)}")
    cloud.points = random_death(chance.randrange(1000))
    if chance.random() < _KILLED_SHARE:
        await asyncio.sleep(chance.uniform(0.0, _LATEST_S))
        cloud.kill(chance.choice(("front", "engine")))


def children(pid: int) -> list[int]:
    """Process ids of a process's children; empty where the system does not tell."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


@asynccontextmanager
async def model_arena(
    cloud: MortalCloud, edge_model: str, lanes: int, *, context: int, reply_timeout_s: float = 10.0, **more: Any
) -> AsyncIterator[Arena]:
    """Agents with a model, in this process, to a cloud of processes, whose engine may have to be started again.

    `more` are other settings of the agents.
    """

    def agent(address: str) -> Agent:
        patient = {
            "connect_timeout_s": 10.0,
            "reply_timeout_s": reply_timeout_s,
            "reconnect_backoff_s": 0.05,
            "reconnect_attempts": _ATTEMPTS,
        }
        model = {"model": edge_model, "context": context, "sequences": 1, "threads": 1}
        return Agent(edge_settings(address, link=patient, **model, **more))

    def processes() -> list[int]:
        return [pid for pid in (cloud.front, cloud.engine) if pid is not None]

    async with Arena(cloud.address, lanes, prompt=_prompt, agent=agent, processes=processes) as arena:
        yield arena


def _prompt(agent: Agent, schedule: Schedule) -> list[int]:
    return agent.encode(PROMPTS[schedule.seed % len(PROMPTS)])


@contextlib.contextmanager
def tiny_models() -> Iterator[tuple[str, str]]:
    """Files of a tiny edge model and a tiny cloud model. Raises ConfigError outside the source tree."""
    try:
        from tests.fakes.tiny_model import write_tiny_model
    except ModuleNotFoundError as error:
        raise ConfigError(
            "The tiny models are made in the source tree only.", remedy="Run this there, or name models."
        ) from error
    with tempfile.TemporaryDirectory(prefix="updraft-tiny-") as folder:
        edge = write_tiny_model(Path(folder) / "edge.gguf", noise=0.05)
        yield str(edge), str(write_tiny_model(Path(folder) / "cloud.gguf"))


@contextlib.contextmanager
def _environment(points: str) -> Iterator[None]:
    """The failpoints of processes that are started inside."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = points
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
