"""The solver by itself: orders that end before they begin, and strategies that do not stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.solving import solve_request
from updraft.config import StrategySettings
from updraft.engine.loop import EngineLoop
from updraft.strategies import STRATEGIES
from updraft_cloud.context.manager import ContextManager
from updraft_cloud.frames import Failed, Limits
from updraft_cloud.messages import Solve
from updraft_cloud.solve_frames import SolveReply
from updraft_cloud.solving import Solver, solver
from updraft_cloud.wire import read_solve

Replies = SimpleQueue[tuple[int, SolveReply]]


@pytest.fixture
def running() -> Iterator[tuple[Solver, Replies]]:
    engine, replies = HashEngine(), Replies()
    manager = ContextManager(engine)
    loop = EngineLoop(engine, settle=manager.begin_turn)
    loop.start()
    solving = Solver(loop, manager, StrategySettings(), lambda number, reply: replies.put((number, reply)))
    solving.start()
    yield solving, replies
    solving.stop()
    loop.stop()
    manager.close()
    assert solving.active == 0


def order(number: int, **changes: Any) -> Solve:
    limits = Limits(vocabulary=64, context=512, max_draft=9)
    return Solve(number, "", read_solve(solve_request(progress=False, **changes), limits, StrategySettings()))


def last(replies: Replies, number: int) -> SolveReply:
    found, reply = replies.get(timeout=20)
    assert found == number
    return reply


def wait(gate: threading.Event) -> None:
    gate.wait(20)


def test_an_order_that_is_cancelled_before_it_begins_is_forgotten(running: tuple[Solver, Replies]) -> None:
    solving, replies = running
    gate = threading.Event()
    solving._post(partial(wait, gate))  # both commands are there in one turn
    solving.begin(order(1))
    solving.cancel(1)
    gate.set()
    solving.begin(order(2))
    assert not isinstance(last(replies, 2), Failed)


def test_a_strategy_that_does_not_stop_in_time_is_stopped(
    running: tuple[Solver, Replies], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reads_on(self: object, work: Any) -> None:
        while True:
            await work.forks.choices([[1, 2]], [3])

    solving, replies = running
    monkeypatch.setattr(solver, "_OVERTIME_S", -599.9)
    monkeypatch.setattr(STRATEGIES["self-consistency"], "solve", reads_on)
    solving.begin(order(1))
    reply = last(replies, 1)
    assert isinstance(reply, Failed) and reply.code == "late_reply"
