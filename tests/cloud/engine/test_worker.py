"""The engine's side: what fails in a session is said to its edge, and to nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import pytest

from tests.fakes.engine import HashEngine
from updraft.failpoints import armed
from updraft.sampling import SamplingParams
from updraft.token_log import TokenLog
from updraft_cloud.engine.worker import Worker, WorkerOptions
from updraft_cloud.frames import Draft, Failed, Open, Reply, Verdict
from updraft_cloud.messages import Begin, Deliver, Emitted, Finish, FromEngine
from updraft_cloud.sessions.session import Session
from updraft_cloud.solve_frames import SolveReply

PROMPT = list(range(1, 41))  # long enough for its cache to be shared
DRAFT = Draft(len(PROMPT), [], TokenLog(PROMPT).hash, [4])


def opening() -> Open:
    return Open("letters", "", PROMPT, [], SamplingParams(seed=1), 20, frozenset(), False, 0, True)


@contextmanager
def working() -> Iterator[tuple[Worker, SimpleQueue[FromEngine]]]:
    heard: SimpleQueue[FromEngine] = SimpleQueue()
    worker = Worker(HashEngine(), 1, WorkerOptions(), heard.put)
    worker.start()
    try:
        yield worker, heard
        worker.loop.call(worker.context.check_integrity).result(10)
    finally:
        worker.stop()


def answers(heard: SimpleQueue[FromEngine], count: int) -> dict[int, Reply | SolveReply]:
    found: dict[int, Reply | SolveReply] = {}
    while len(found) < count:
        message = heard.get(timeout=20)
        if isinstance(message, Emitted):
            found |= dict(message.replies)
    return found


def ask(worker: Worker, *sessions: int) -> None:
    for number in sessions:
        worker.take(Begin(number, "", opening()))
    for number in sessions:
        worker.take(Deliver(number, DRAFT, 0.0))


def test_a_mistake_in_a_session_is_told_to_its_edge_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    take, taken = Session.take_draft, 0

    def mistaken(session: Session, draft: Draft) -> None:
        nonlocal taken
        taken += 1
        if taken == 1:
            raise KeyError("a mistake")
        take(session, draft)

    monkeypatch.setattr(Session, "take_draft", mistaken)
    with working() as (worker, heard):
        ask(worker, 1, 2)
        found = answers(heard, 2)
        assert isinstance(found[1], Failed) and found[1].code == "engine_failure" and found[1].retryable
        assert isinstance(found[2], Verdict)


@pytest.mark.parametrize("point", ["engine.receive", "verdict.before_commit", "verdict.after_commit"])
def test_a_failpoint_ends_one_session_and_leaves_nothing(point: str) -> None:
    with armed(f"{point}=error*1"), working() as (worker, heard):
        ask(worker, 1, 2)
        kinds = sorted(type(reply).__name__ for reply in answers(heard, 2).values())
        assert kinds == ["Failed", "Verdict"]
        assert worker.context.statistics.finished == 0  # what failed is nobody's beginning
        for number in (1, 2):
            worker.take(Finish(number))
        worker.loop.call(lambda: None).result(10)
        assert worker.context.statistics.sessions == 0


def test_answers_that_cannot_be_sent_end_their_sessions_and_no_others() -> None:
    with working() as (worker, heard):
        with armed("engine.before_send=error*1"):
            ask(worker, 1)
            assert isinstance(answers(heard, 1)[1], Failed)
        ask(worker, 2)
        assert isinstance(answers(heard, 1)[2], Verdict)
        assert worker.context.statistics.sessions == 1


LONG = [index % 60 for index in range(200)]


def ask_long(worker: Worker, sessions: list[int], drafts: list[int]) -> None:
    """Open sessions of one prompt in one turn of the loop; some ask for a verdict, the others compute ahead."""
    long = Open("letters", "", LONG, [], SamplingParams(seed=1), 20, frozenset(), False, 0, True)
    draft = Draft(len(LONG), [], TokenLog(LONG).hash, [4])

    def take_all() -> None:
        for number in sessions:
            worker._handle(Begin(number, "", long))
        for number in drafts:
            worker._handle(Deliver(number, draft, 0.0))

    worker.loop.call(take_all).result(10)


@pytest.mark.parametrize("drafts", [[1, 2, 3], [2, 3], [3]])
def test_sessions_that_open_at_once_with_one_prompt_compute_it_once(drafts: list[int]) -> None:
    with working() as (worker, heard):
        ask_long(worker, [1, 2, 3], drafts)
        found = answers(heard, len(drafts))
        assert len({repr(reply.log_hash) for reply in found.values() if isinstance(reply, Verdict)}) == 1
        assert worker.loop.statistics.positions <= len(LONG) + 3 * 2


@pytest.mark.parametrize("ends", ["fails", "finished"])
def test_who_waited_for_a_session_that_ends_computes_the_prompt_itself(ends: str) -> None:
    with armed("prefill=error*1" if ends == "fails" else ""), working() as (worker, heard):
        ask_long(worker, [1, 2, 3], [1, 2, 3])
        if ends == "finished":
            worker.take(Finish(1))
        found = answers(heard, 3 if ends == "fails" else 2)
        kinds = [type(found[number]) for number in sorted(found)]
        assert kinds[-2:] == [Verdict, Verdict] and kinds[0] in (Failed, Verdict)
        assert worker.loop.statistics.positions <= 2 * len(LONG) + 3 * 2
