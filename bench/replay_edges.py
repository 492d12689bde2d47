"""Edges that replay recorded drafts at their recorded pace against a real cloud: they ask, wait, learn and stop as an
agent does, over the agent's own session and loop, but no model computes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from updraft.config import CloudLinkSettings
from updraft.errors import CloudUnavailable, UpdraftError
from updraft.generation import GenerationRequest
from updraft.modes import Mode, parse_settings
from updraft.sampling import Sampled, SamplingParams
from updraft.token_log import TokenLog
from updraft_edge import wire
from updraft_edge.answer import Answer
from updraft_edge.cloud_session import CloudSession
from updraft_edge.composition import Composition, Order
from updraft_edge.drafters import ModelDrafter, NoDrafter
from updraft_edge.link import CloudLink
from updraft_edge.policies.load import WhileItCarries
from updraft_edge.policies.plain import Always, HandOverAll
from updraft_edge.rules.guard import Rules
from updraft_edge.stopping.costs import Costs
from updraft_edge.stopping.predictors import Calibration, ScorePredictor, confidence
from updraft_edge.stopping.rules import FixedLength, make_stop_rule
from updraft_edge.writing import write

from .capacity_record import Script, Scripts
from .objective import Seen
from .stopping_replay import Timeline
from .tiers import edge_settings, relay_to
from .traffic import Asking, Link

__all__ = ["ReplayDrafter", "ReplayEdge", "ReplayPool"]

_LONGEST: Final = 16
_AHEAD: Final = 2 * _LONGEST
_GREEDY: Final = SamplingParams(temperature=0.0, seed=0)


class _Mute:
    """A tokenizer of answers that nobody reads."""

    def encode(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        raise CloudUnavailable("Recorded prompts are token ids.")

    def piece(self, token: int) -> bytes:
        return b""

    def written(self, token: int) -> str:
        return ""


class ReplayDrafter:
    """Proposes what was recorded, when it would have been drafted. It cannot go on without the cloud."""

    def __init__(self, script: Script, costs: Costs, start: int) -> None:
        self._recording = script.recording
        pace = script.pace(start)
        self._timeline = Timeline(lambda: next(pace), _AHEAD, costs, time.perf_counter() + script.read_s)
        self._place = 0  # tokens of the answer that are committed
        self._taken: list[int] = []

    async def propose(self) -> Sampled | None:
        number = len(self._taken)
        proposals = self._recording.run(self._place, number + 1)
        if len(proposals) <= number or number >= _AHEAD:
            return None
        wait_s = self._timeline.time_of(number) - time.perf_counter()
        if wait_s > 0.0:
            await asyncio.sleep(wait_s)
        self._taken.append(proposals[number].token)
        return proposals[number]

    def available(self) -> bool:
        number = len(self._taken)
        return number < _AHEAD and self._timeline.time_of(number) <= time.perf_counter()

    def settle(self, tokens: Sequence[int]) -> None:
        now = time.perf_counter()
        self._timeline.work_until(now)
        drafted = [sampled.token for sampled in self._recording.run(self._place, len(tokens))]
        kept = len(tokens) >= len(self._taken) and drafted == list(tokens)
        self._timeline.settle(len(tokens) if kept else None, now)
        self._place += len(tokens)
        self._taken.clear()

    def hold(self, held: bool) -> None:
        self._timeline.settle(None, time.perf_counter())

    def alone(self) -> None:
        raise CloudUnavailable("A recorded edge cannot write alone.")

    def close(self) -> None:
        pass


class ReplayEdge:
    """One edge. What it learns of the cloud and of its drafts stays with it from answer to answer.

    Args:
        mode: as `ReplayPool`'s.
    """

    def __init__(self, address: str, mode: str, scripts: Scripts, patience_s: float) -> None:
        settings = edge_settings(scripts.edge, address=address, context=4096, sequences=1)
        link = CloudLinkSettings(address=address, overload_wait_s=patience_s, connect_timeout_s=10.0)
        self._link = CloudLink(link, Rules(settings, _Mute().piece))
        self._scripts = scripts
        self.costs = Costs()
        self._link.on_price = self.costs.heed
        self._settings = _settings(mode)
        self._predictor = ScorePredictor(confidence, Calibration())
        self.busy = False
        self._answers = 0

    async def answer(self, asking: Asking) -> Seen:
        """Ask, and read the answer to its end or until the cloud sheds it."""
        script, started = self._scripts.scripts[asking.script], time.perf_counter()
        token_log = TokenLog(script.prompt)
        answer = Answer(token_log, _Mute(), ends=frozenset(), stop=(), most=asking.tokens, started=started)
        composition = self._compose(script, answer, asking)
        arrivals: list[float] = []
        refused_s = None
        try:
            composition.begin(answer)
            async for _ in write(answer, composition):
                arrivals.append(time.perf_counter() - started)
        except UpdraftError:
            refused_s = time.perf_counter() - started
        finally:
            await composition.close()
        same = tuple(token_log.generated) == script.recording.text[: len(token_log.generated)]
        return Seen(0.0, tuple(arrivals), refused_s, same)

    async def close(self) -> None:
        await self._link.close()

    def _compose(self, script: Script, answer: Answer, asking: Asking) -> Composition:
        settings = self._settings
        opening = wire.Opening(
            tokenizer_hash=self._scripts.tokenizer_hash,
            sampling=_GREEDY,
            max_tokens=asking.tokens,
            stop_tokens=(),
            report=False,
            top_logprobs=0,
            ignore_end=False,
        )
        session = CloudSession(self._link, opening, answer.log, answer.statistics)
        request = GenerationRequest(prompt_tokens=script.prompt, sampling=_GREEDY, max_tokens=asking.tokens)
        rest = (self.costs, session, _cannot, request, _GREEDY)
        if settings.mode is Mode.CLOUD:
            return Composition(settings.mode, settings, 0, NoDrafter(), FixedLength(1), HandOverAll(), *rest)
        self._answers += 1
        drafter = ReplayDrafter(script, self.costs, 31 * self._answers)
        rule = make_stop_rule(settings.stop, self._predictor, self.costs, drafter.available)
        policy = WhileItCarries(self.costs, self._predictor, _LONGEST) if settings.stop.heeds_load else Always()
        return Composition(settings.mode, settings, 0, drafter, rule, policy, *rest)


class ReplayPool:
    """Edges of one mode behind links; one is made where all of a link are busy.

    Args:
        mode: `cloud`, `draft`, `draft, load unheeded`, or `draft N` for runs of N tokens.
        patience_s: how long an edge waits for a cloud that sheds load.
    """

    def __init__(self, address: str, mode: str, scripts: Scripts, links: Sequence[Link], patience_s: float) -> None:
        self.mode = mode
        self._address = address
        self._scripts = scripts
        self._links = links
        self._patience_s = patience_s
        self._edges: list[list[ReplayEdge]] = [[] for _ in links]
        self._addresses: list[str] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> ReplayPool:
        for link in self._links:
            relay = relay_to(self._address, round_trip_s=link.round_trip_s, trace=link.trace)
            self._addresses.append((await self._stack.enter_async_context(relay)).address)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await asyncio.gather(*(edge.close() for own in self._edges for edge in own))
        await self._stack.aclose()

    @property
    def costs(self) -> list[Costs]:
        """What its edges have measured and were told."""
        return [edge.costs for own in self._edges for edge in own]

    async def run(self, clients: Sequence[Sequence[Asking]], until_s: float = math.inf) -> list[Seen]:
        """What the readers of all sessions see; clients as `simulate`'s. None begins a session after `until_s`."""
        started = time.perf_counter()
        seen: list[Seen] = []

        async def client(askings: Sequence[Asking]) -> None:
            for asking in askings:
                await asyncio.sleep(max(0.0, started + asking.at_s - time.perf_counter()))
                asked_s = time.perf_counter() - started
                if asked_s > until_s:
                    return
                edge = self._edge(asking.edge)
                edge.busy = True
                try:
                    one = await edge.answer(asking)
                finally:
                    edge.busy = False
                seen.append(Seen(asked_s, one.arrivals, one.refused_s, one.same))

        async with asyncio.TaskGroup() as group:
            for askings in clients:
                group.create_task(client(askings))
        return sorted(seen, key=lambda one: one.asked_s)

    def _edge(self, number: int) -> ReplayEdge:
        own = self._edges[number]
        for edge in own:
            if not edge.busy:
                return edge
        own.append(ReplayEdge(self._addresses[number], self.mode, self._scripts, self._patience_s))
        return own[-1]


def _settings(mode: str) -> Any:
    name, _, length = mode.partition(" ")
    if mode == "cloud":
        return parse_settings({"mode": "cloud"})
    if length.isdigit():
        return parse_settings({"mode": "draft", "stop": {"rule": "fixed", "length": int(length)}})
    return parse_settings({"mode": "draft", "stop": {"longest": _LONGEST, "heed_load": name == mode}})


def _cannot(_order: Order) -> ModelDrafter:
    raise CloudUnavailable("A recorded edge cannot write alone.")
