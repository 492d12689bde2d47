"""Answers under schedules of faults: several at once, each over a link of its own, all to one cloud."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from updraft import failpoints
from updraft.config import CloudLinkSettings, CloudSettings, EdgeSettings, ListenSettings, RulesSettings
from updraft.config.kv import KvSettings
from updraft.engine.base import Engine
from updraft.errors import CloudUnavailable, ConfigError, UpdraftError
from updraft.generation import GenerationRequest, TokenEvent
from updraft.modes import parse_settings
from updraft.sampling import SamplingParams
from updraft_edge.agent import Agent

from .fault_link import FaultLink, Strike
from .fault_schedule import Schedule
from .history import History, Reference, violations
from .starvation import Starvation

__all__ = ["Arena", "Outcome", "edge_settings", "shrunk", "tiny_arena", "tiny_engine", "tiny_prompt"]

_GIVEN_UP_S: Final = 120.0
_QUICK: Final[dict[str, Any]] = {
    "connect_timeout_s": 2.0,
    "reply_timeout_s": 4.0,
    "reconnect_attempts": 10,
    "reconnect_backoff_s": 0.002,
    "breaker_failures": 1000,
}
_REFERENCE_ATTEMPTS: Final = 5
_STARVED_SHARE: Final = 0.5  # of the edge's patience
_LOOKUP_TOKENS: Final = 512  # past answers are soon forgotten, too
_LETTERS: Final = 60  # of the tiny engine's 64 tokens
_SPAN: Final[dict[str, Any]] = {"span": {"escalate": 0.5, "hand_back": 0.1, "min_stay": 2}}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one schedule; `told` is its history, if `wrong` says that something is.

    `starved`: the edge finished alone for want of a core, which no fault of the schedule explains.
    """

    schedule: Schedule
    wrong: list[str]
    told: str
    struck: list[str]
    reopened: int
    degraded: bool
    starved: bool
    tokens: int


def tiny_engine(**options: Any) -> Engine:
    """An engine without a model, whose logits show every mistake of a cache.

    Raises ConfigError outside the source tree.
    """
    try:
        from tests.fakes.engine import HashEngine
    except ModuleNotFoundError as error:
        raise ConfigError(
            "The tiny engine is in the source tree only.", remedy="Run this there, or name models with --model."
        ) from error
    return HashEngine(recorded=False, **options)


@asynccontextmanager
async def tiny_arena(lanes: int) -> AsyncIterator[Arena]:
    """Both tiers with tiny engines in this process."""
    from updraft_cloud.server import CloudServer

    kv = KvSettings(min_prefix=4)  # answers share most of their prompts, so that a wrong cache spoils another answer
    settings = CloudSettings(listen=ListenSettings(port=0), drain_s=0.1, max_sessions=16 * lanes, kv=kv)
    async with (
        CloudServer(settings, engine=tiny_engine(sequences=4 * lanes)) as server,
        Arena(server.address, lanes, prompt=tiny_prompt, agent=_tiny_agent) as arena,
    ):
        yield arena


def tiny_prompt(agent: Agent, schedule: Schedule) -> list[int]:
    """Some letters, repeated, so that look-ups find something."""
    chance = random.Random(schedule.seed)
    return [chance.randrange(_LETTERS) for _ in range(chance.randint(1, 12))] * chance.randint(1, 3)


def edge_settings(address: str, *, link: dict[str, Any] | None = None, **more: Any) -> EdgeSettings:
    """An agent's settings, with `link` in place of waits that are short."""
    return EdgeSettings(
        cloud=CloudLinkSettings(**{"address": address, **_QUICK, **(link or {})}),
        rules=RulesSettings(keep_local=()),
        **more,
    )


def _tiny_agent(address: str) -> Agent:
    settings = edge_settings(address, lookup_tokens=_LOOKUP_TOKENS)
    return Agent(settings, engine=tiny_engine(noise=0.8, own_seed=7, sequences=4))


class Arena:
    """Lanes to one cloud, each an agent with a link that goes wrong; an async context manager.

    Args:
        address: of the cloud.
        prompt: the token ids that a schedule's answer follows.
        agent: an agent over a link of this address.
        processes: ids of the cloud's processes, beside this one.
    """

    def __init__(
        self,
        address: str,
        lanes: int,
        *,
        prompt: Callable[[Agent, Schedule], list[int]],
        agent: Callable[[str], Agent],
        processes: Callable[[], list[int]] = list,
    ) -> None:
        self._address = address
        self._lanes = lanes
        self._prompt = prompt
        self._agent = agent
        self._free: asyncio.Queue[tuple[Agent, FaultLink]] = asyncio.Queue()
        self._references: dict[Schedule, asyncio.Task[Reference]] = {}
        self._starvation = Starvation(lambda: [os.getpid(), *processes()])
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._starvation)
        self._straight = await self._stack.enter_async_context(self._agent(self._address))
        for _ in range(self._lanes):
            link = await self._stack.enter_async_context(FaultLink(self._address))
            agent = await self._stack.enter_async_context(self._agent(link.address))
            self._free.put_nowait((agent, link))
        return self

    async def __aexit__(self, *_exception: object) -> None:
        failpoints.disarm()
        await self._stack.aclose()

    async def outcome(self, schedule: Schedule) -> Outcome:
        """Write the answer while its faults strike, and judge its history."""
        history = await self.run(schedule)
        wrong, done = violations(history), history.completion
        return Outcome(
            schedule,
            wrong,
            history.told(wrong) if wrong else "",
            struck=sorted(f"{fault.level} {fault.kind}" for fault in history.strike.struck),
            reopened=done.statistics.reopened if done else 0,
            degraded=bool(done and done.degraded),
            starved=history.starved,
            tokens=len(history.events),
        )

    async def run(self, schedule: Schedule) -> History:
        """Write the answer while its faults strike."""
        reference = await self.reference(schedule)
        agent, link = await self._free.get()
        history = History(schedule, reference, Strike(schedule.faults))
        link.strike = history.strike
        if schedule.points:
            failpoints.arm(schedule.points)
        try:
            await self._write(agent, history)
            if history.unexplained:
                waited = self._starvation.since(history.strike.quiet_since)
                history.starved = waited > _STARVED_SHARE * agent.settings.cloud.reply_timeout_s
        finally:
            link.strike = Strike()
            self._free.put_nowait((agent, link))
        return history

    async def reference(self, schedule: Schedule) -> Reference:
        """The answer without faults; known ones are not written again.

        What is lossless is compared with mode `cloud`, where no draft can be wrong.
        """
        mode = schedule.mode if schedule.mode == "span" else "cloud"
        asked = replace(schedule, mode=mode, faults=(), points="")
        if asked not in self._references:
            self._references[asked] = asyncio.create_task(self._without_faults(asked))
        return await self._references[asked]

    async def _without_faults(self, asked: Schedule) -> Reference:
        for _ in range(_REFERENCE_ATTEMPTS):  # a failpoint that another lane armed may strike here
            history = History(asked, Reference(self._prompt(self._straight, asked), [], ""), Strike())
            await self._write(self._straight, history)
            done = history.completion
            if done is not None and not done.degraded:
                return Reference(history.reference.prompt, done.token_ids, done.text)
        raise CloudUnavailable(f"The answer without faults could not be written: {history.error or 'degraded'}")

    async def _write(self, agent: Agent, history: History) -> None:
        asked = history.schedule
        request = GenerationRequest(
            prompt_tokens=history.reference.prompt,
            sampling=SamplingParams(temperature=asked.temperature, seed=asked.seed),
            max_tokens=asked.tokens,
            settings=parse_settings({"mode": asked.mode, **_SPAN}),
            ignore_end=True,
        )
        try:
            async with asyncio.timeout(_GIVEN_UP_S), contextlib.aclosing(agent.generate(request)) as items:
                async for item in items:
                    if isinstance(item, TokenEvent):
                        history.events.append(item)
                    else:
                        history.completion = item
        except UpdraftError as error:
            history.error = f"{error.code}: {error.message}"
        except TimeoutError:
            history.error = f"it hung for {_GIVEN_UP_S:g} s"
        except Exception as error:  # what no caller of an agent should ever meet
            history.error = f"{type(error).__name__}: {error}"


async def shrunk(arena: Arena, schedule: Schedule) -> Outcome:
    """The outcome of the schedule with as few faults as still go wrong."""
    worst = await arena.outcome(schedule)
    place = 0
    while place < len(worst.schedule.faults):
        fewer = await arena.outcome(worst.schedule.without(place))
        if fewer.wrong:
            worst = fewer
        else:
            place += 1
    return worst
