"""Runs strategies beside the engine's loop: an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, Final

from updraft.config.strategies import StrategySettings
from updraft.engine.base import Engine
from updraft.engine.loop import EngineLoop
from updraft.errors import EngineFailure, LateReply, UpdraftError
from updraft.modes import Origin
from updraft.noise import key_of
from updraft.sampling import SamplingParams
from updraft.strategies import Forks, Places, Strategy, parse_strategy, solve
from updraft.strategies.choice import ComputeOptimal, load_choice
from updraft.strategies.problem import Alternative, Outcome, Problem, Progress, Sample
from updraft_cloud.frames import Failed
from updraft_cloud.messages import Solve
from updraft_cloud.sessions.scoring import report_of
from updraft_cloud.solve_frames import Given, Noted, Proposed, Solved, SolveOrder, SolveReply, Written
from updraft_cloud.solving.turns import Turns
from updraft_cloud.solving.verifiers import close_resources, make_verifier, open_resources

__all__ = ["Solver"]

log = logging.getLogger(__name__)

_OVERTIME_S: Final = 30.0  # beyond the budget's seconds, for what a strategy does not stop itself
_MOST_TOLD: Final = 1 << 18  # tokens of alternatives: a message of gRPC holds 4 MiB
_SALT: Final = 0xC10D  # keeps the cloud's draws apart from the edge's
_END_S: Final = 10.0  # for what is under way to free its sequences


class Solver:
    """Works on orders until each is answered or cancelled.

    Args:
        places: lends sequences, in the engine loop's thread.
        emit: takes answers by number, in the engine loop's thread.

    Raises what loading the reward model of the settings raises, and ConfigError: the file of the choice is wrong.
    """

    def __init__(
        self,
        loop: EngineLoop,
        places: Places,
        settings: StrategySettings,
        emit: Callable[[int, SolveReply], None],
    ) -> None:
        self._loop = loop
        self._places = places
        self._settings = settings
        self._emit = emit
        self._choice = None if settings.choice is None else load_choice(settings.choice)
        self._resources = open_resources(settings)
        self._works: dict[int, asyncio.Task[None]] = {}
        self._events: asyncio.AbstractEventLoop | None = None  # until it is started

    @property
    def active(self) -> int:
        """Orders under way."""
        return len(self._works)

    def start(self) -> None:
        self._events = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._events.run_forever, name="updraft-solver", daemon=True)
        self._thread.start()

    def begin(self, message: Solve) -> None:
        """Work on an order. From any thread, as are the others."""
        self._post(partial(self._begin, message))

    def cancel(self, number: int) -> None:
        """Give an order up, and free its sequences; unknown ones are ignored."""
        self._post(partial(self._cancel, number))

    def stop(self) -> None:
        """Give up all orders and end the thread; the engine's loop must still run. Safe to call twice."""
        events, self._events = self._events, None
        if events is None:
            close_resources(self._resources)
            return
        ending: Future[None] = asyncio.run_coroutine_threadsafe(self._end(), events)
        try:
            ending.result(_END_S)
        except TimeoutError:
            log.error("%d strategies did not end", self.active)
        events.call_soon_threadsafe(events.stop)
        self._thread.join()
        events.close()
        close_resources(self._resources)

    def _post(self, command: Callable[[], None]) -> None:
        if self._events is not None:
            self._events.call_soon_threadsafe(command)

    def _begin(self, message: Solve) -> None:
        self._works[message.session] = work = asyncio.create_task(self._work(message))
        work.add_done_callback(lambda work: self._works.pop(message.session))  # also of one that never began

    def _cancel(self, number: int) -> None:
        if (work := self._works.get(number)) is not None:
            work.cancel()

    async def _end(self) -> None:
        works = list(self._works.values())
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    async def _work(self, message: Solve) -> None:
        reply: SolveReply
        try:
            reply = await self._solved(message)
        except UpdraftError as error:
            reply = Failed.of(error)
        except Exception as error:  # its message may hold text of a prompt
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("a strategy failed with %s\n%s", type(error).__name__, where)
            reply = Failed.of(EngineFailure("The strategy failed."))
        self._tell(message.session, reply)

    async def _solved(self, message: Solve) -> Solved:
        order = message.order
        strategy = self._strategy(order)
        forks = Forks(
            self._loop,
            Turns(self._places),
            _noise(order),
            ends=order.stop_tokens,
            tenant=message.tenant,
            top_logprobs=order.top_logprobs,
        )
        verifier = None
        if order.verifier:
            resources = replace(self._resources, tenant=message.tenant)
            verifier = make_verifier(_object(order.verifier), resources, self._settings, forks)
        problem = _problem(order, self._loop.engine)
        note = partial(self._note, message.session)
        code = self._settings.execute_code
        try:
            async with asyncio.timeout((order.budget.seconds or self._settings.max_s) + _OVERTIME_S):
                outcome = await solve(
                    problem, strategy, order.budget, forks, verifier=verifier, note=note, runs_code=code
                )
        except TimeoutError as error:
            raise LateReply("The strategy did not stop when its time was used up.") from error
        if not outcome.sample.tokens:
            raise LateReply("The budget was used up before an answer was begun.", remedy="Allow more.")
        return _answer(order, outcome)

    def _strategy(self, order: SolveOrder) -> Strategy:
        """The one that is ordered; `auto` without settings is the operator's choice, where there is one."""
        settings = _object(order.settings)
        if self._choice is not None and order.strategy == ComputeOptimal.name and not settings:
            return self._choice
        return parse_strategy(order.strategy, settings)

    def _note(self, number: int, progress: Progress) -> None:
        stage = progress.text if progress.kind == "stage" else ""
        noted = Noted(progress.kind, progress.branch, progress.value, progress.source, progress.tokens, stage)
        self._tell(number, noted)

    def _tell(self, number: int, reply: SolveReply) -> None:
        self._loop.post(partial(self._emit, number, reply))


def _object(text: str) -> dict[str, Any]:
    """A JSON object that `wire` has read before."""
    return json.loads(text) if text else {}


def _noise(order: SolveOrder) -> SamplingParams:
    """What branches draw with: not the noise that the edge drew its answers with, or like ones would vote twice."""
    return replace(order.sampling, seed=key_of((order.sampling.seed or 0) ^ _SALT)) if order.given else order.sampling


def _problem(order: SolveOrder, engine: Engine) -> Problem:
    ends = engine.info.end_tokens | order.stop_tokens

    def text(tokens: list[int]) -> str:
        pieces = (engine.tokenizer.piece(token) for token in tokens if token not in ends)
        return b"".join(pieces).decode(errors="replace")

    problem = Problem(order.prompt, text(order.question or order.prompt), order.sampling, order.max_tokens)

    def sample(given: Given) -> Sample:
        said = text(given.tokens)
        answer = problem.extract(said)
        return Sample(
            said,
            tuple(given.tokens),
            given.logprob,
            answer,
            given.finished,
            Origin.EDGE,
            entropy=given.entropy,
            energy=given.energy,
        )

    return replace(problem, given=[sample(given) for given in order.given])


def _answer(order: SolveOrder, outcome: Outcome) -> Solved:
    alternatives = _told(outcome.alternatives) if order.alternatives else []
    return Solved(
        sample=_written(order, outcome.sample, reported=True),
        confidence=outcome.confidence,
        verified=outcome.verified,
        alternatives=[_proposed(order, alternative) for alternative in alternatives],
        unparsed=outcome.unparsed,
        ended=outcome.ended,
        spent=outcome.spent,
        complaints=list(outcome.complaints),
    )


def _told(alternatives: Sequence[Alternative]) -> list[Alternative]:
    """Those that a reply has room for, the heaviest first."""
    told, room = list[Alternative](), _MOST_TOLD
    for found in alternatives:
        room -= len(found.sample.tokens)
        if found.sample.tokens and room >= 0:
            told.append(found)
    return told


def _proposed(order: SolveOrder, alternative: Alternative) -> Proposed:
    sample = _written(order, alternative.sample)
    return Proposed(sample, alternative.weight, alternative.samples, alternative.score)


def _written(order: SolveOrder, sample: Sample, *, reported: bool = False) -> Written:
    tokens, number = list(sample.tokens), 0
    if sample.origin is Origin.EDGE:
        number = 1 + next(index for index, given in enumerate(order.given) if given.tokens == tokens)
    reports = [report_of(drawn) for drawn in sample.written] if reported else []
    return Written(tokens, sample.logprob, sample.finished, number, reports)
