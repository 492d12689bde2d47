"""The engine's side of the cloud: sessions by number, and what they answer, sent off once a turn of the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from updraft.config.kv import KvSettings
from updraft.config.strategies import StrategySettings
from updraft.engine.base import Engine
from updraft.engine.loop import EngineLoop, PassRecord
from updraft.errors import EngineFailure, UpdraftError
from updraft.failpoints import reach
from updraft_cloud.context import ContextManager
from updraft_cloud.engine.costs import PassCosts
from updraft_cloud.engine.crowd import Crowd
from updraft_cloud.experts.statistics import expert_numbers
from updraft_cloud.experts.together import grouping_of
from updraft_cloud.frames import Cost, Draft, End, Failed, Reply, Span, Verdict
from updraft_cloud.messages import (
    Begin,
    Deliver,
    Description,
    Emitted,
    Finish,
    FromEngine,
    Measured,
    Solve,
    ToEngine,
)
from updraft_cloud.sessions.pending_states import entry_stages
from updraft_cloud.sessions.session import Session
from updraft_cloud.sessions.tree import Copies
from updraft_cloud.solve_frames import Solved, SolveReply
from updraft_cloud.solving.solver import Solver

__all__ = ["Worker", "WorkerOptions"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Tokens in one forward pass, and in one prefill run of a session; what becomes of idle sessions' caches; what
    strategies may take."""

    pass_tokens: int = 256
    prefill_chunk: int = 48
    kv: KvSettings = field(default_factory=KvSettings)
    strategies: StrategySettings = field(default_factory=StrategySettings)


class Worker:
    """Owns the engine loop. Messages go in by `take`, from any thread; answers come out by `send`, in the loop's."""

    def __init__(
        self, engine: Engine, process: int, options: WorkerOptions, send: Callable[[FromEngine], None]
    ) -> None:
        self._send = send
        self._chunk = options.prefill_chunk
        self.loop = EngineLoop(
            engine,
            pass_tokens=options.pass_tokens,
            settle=self._settle,
            observe=self._observe,
            grouping=grouping_of(engine),
        )
        self.context = ContextManager(engine, options.kv)
        self._copies = Copies(self.loop, self.context)
        self._sessions: dict[int, Session] = {}
        self._solver = Solver(self.loop, self.context, options.strategies, self._emit)
        self._replies: list[tuple[int, Reply | SolveReply]] = []
        self._passes: list[PassRecord] = []
        self._costs = PassCosts()
        self._crowd = Crowd()
        self.description = Description(
            info=engine.info,
            context=engine.context,
            max_run=engine.max_run,
            sequences=engine.max_sequences,
            boundaries=tuple(entry_stages(engine)),
            process=process,
        )

    def start(self) -> None:
        self.loop.start()
        self._solver.start()

    def stop(self) -> None:
        """End the loop after the pass under way and free the engine. Safe to call twice."""
        self._solver.stop()
        self.loop.stop()
        self.context.close()

    def take(self, message: ToEngine) -> None:
        self.loop.post(partial(self._handle, message))

    def measure(self) -> None:
        """Send what was done since the last time; from the loop's thread, so that it shows that the loop goes round."""
        self.loop.post(self._report)

    def _handle(self, message: ToEngine) -> None:
        try:
            if reach("engine.receive"):
                return
            match message:
                case Begin():
                    self._begin(message)
                case Deliver():
                    self._deliver(message)
                case Solve():
                    self._solver.begin(message)
                case Finish():
                    self._finish(message.session)
        except UpdraftError as error:
            self._emit(message.session, Failed.of(error))
        except Exception:  # a mistake in this program: the edge must not wait for an answer that never comes
            log.exception("a message to a session failed")
            self._spoil(message.session, EngineFailure("The session failed."))

    def _begin(self, message: Begin) -> None:
        session = Session(
            self.loop.engine,
            self.context,
            message.opening,
            partial(self._emit, message.session),
            chunk=self._chunk,
            tenant=message.tenant,
            copies=self._copies,
        )
        self._sessions[message.session] = session
        self.loop.add(session)

    def _deliver(self, message: Deliver) -> None:
        session = self._sessions.get(message.session)
        if session is None:
            return  # it has ended meanwhile, and the front end knows or will know
        if isinstance(message.work, Draft):
            self._crowd.asked(message.session, len(message.work.run), message.arrived)
        if message.deadline is None:
            session.take(message.work, arrived=message.arrived)
        else:
            session.take(message.work, arrived=message.arrived, deadline=message.deadline)

    def _spoil(self, number: int, failure: UpdraftError) -> None:
        """End a session that may be in disorder."""
        session = self._sessions.get(number)
        if session is None:
            self._emit(number, Failed.of(failure))
        else:
            session.fail(failure)

    def _finish(self, number: int) -> None:
        self._solver.cancel(number)
        session = self._sessions.pop(number, None)
        self._crowd.left(number)
        if session is not None:
            self.loop.remove(session)
            session.close()

    def _emit(self, number: int, reply: Reply | SolveReply) -> None:
        if isinstance(reply, Verdict):
            self._crowd.judged(number, reply.accepted)
        elif isinstance(reply, Span):
            self._crowd.wrote(number, len(reply.tokens))
        if isinstance(reply, Verdict | Solved) or (isinstance(reply, Span) and reply.end is not End.NOT_YET):
            # The edge decides now what to ask for next.
            reply = msgspec.structs.replace(reply, cost=self._cost())
        self._replies.append((number, reply))

    def _cost(self) -> Cost | None:
        return self._costs.cost(self._count, self._crowd.figures)

    @property
    def _count(self) -> int:
        """Sessions and solves that are open."""
        return len(self._sessions) + self._solver.active

    def _settle(self) -> None:
        """Once a turn of the loop: idle sessions may lose their sequences; what was answered goes off together."""
        self.context.begin_turn()
        if not self._replies:
            return
        replies, self._replies = self._replies, []
        try:
            if not reach("engine.before_send"):
                self._send(Emitted(replies))
        except Exception as error:
            log.exception("answers could not be sent; their sessions end")
            lost = Failed.of(EngineFailure(f"An answer could not be sent: {type(error).__name__}."))
            replies = [(number, lost) for number in dict.fromkeys(number for number, _ in replies)]
            self._send(Emitted(replies))
        for number, reply in replies:
            if isinstance(reply, Failed):
                self._finish(number)

    def _observe(self, record: PassRecord) -> None:
        self._passes.append(record)
        self._costs.note(record)
        self._crowd.computed(record.prefill.positions)
        self.context.costs.note_pass(record)

    def _report(self) -> None:
        passes, self._passes = self._passes, []
        experts = expert_numbers(self.loop.engine)
        self._send(Measured(passes, self.context.statistics, self._count, self._cost(), experts))
