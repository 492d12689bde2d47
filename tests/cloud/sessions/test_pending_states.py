"""A session of hidden states: whenever states come and questions are asked, the tokens are those of the whole model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cloud.sessions.test_session import LENGTH, PROMPT, TRUTH, opening
from tests.fakes.engine import HashEngine
from tests.fakes.staged_engine import FakeStagedEngine
from updraft.engine.base import FloatRows, Run
from updraft.engine.loop import Priority
from updraft.errors import LogMismatch, ProtocolViolation
from updraft.exits.carry import CARRIES, Carry, pack
from updraft.sampling import Sampler
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud import wire
from updraft_cloud.context import ContextManager
from updraft_cloud.frames import Draft, Hidden, HiddenEntry, Limits, TakeOver, Verdict
from updraft_cloud.sessions.pending_states import PendingStates, entry_stages
from updraft_cloud.sessions.session import Session
from updraft_edge.wire import hidden_frame

LIMITS = Limits(vocabulary=64, context=512, max_draft=62, width=8)


def states_of(tokens: list[int], *, split: int = 0, **options: Any) -> FloatRows:
    """What the edge computes for a log: the states after stage `split`, shape (len(tokens), 8)."""
    edge = FakeStagedEngine(deepest=split, split=split, **options)
    sequence = edge.open()
    for start in range(0, len(tokens), edge.max_run):
        edge.forward([Run(sequence, start, tokens[start : start + edge.max_run])])
    return edge.boundary(sequence, split, 0, len(tokens))


class Pair:
    """An edge's log and states, and a session stepped by hand that the frames of a wire reach."""

    def __init__(
        self, *, carry: Carry = "float16", split: int = 0, rough: bool = False, temperature: float = 0.8
    ) -> None:
        self.carry, self.split = carry, split
        self.options: dict[str, Any] = {"carry": carry if rough else None}
        self.temperature = temperature
        self.engine = FakeStagedEngine(split=split, **self.options)
        self.log = TokenLog(PROMPT)
        self.frames: list[Any] = []
        self.open()

    def open(self) -> None:
        """A new session from the log, as after a lost stream."""
        entry = HiddenEntry(2 * self.split + 2, self.carry, self.engine.info.fingerprint)
        frame = opening(temperature=self.temperature, generated=self.log.generated, entry=entry)
        frame.check_model(self.engine.info, entry_stages(self.engine))
        self.session = Session(self.engine, ContextManager(self.engine), frame, self.frames.append, chunk=7)
        self.uploaded = 0

    def upload(self, start: int, stop: int, tokens: list[int] | None = None) -> None:
        states = states_of(tokens or self.log.tokens, split=self.split, **self.options)[start:stop]
        message = pb.EdgeFrame.FromString(hidden_frame(start, pack(states, self.carry)).SerializeToString())
        frame = wire.read_frame(message, LIMITS)
        assert isinstance(frame, Hidden)
        self.session.take_hidden(frame)
        self.uploaded = stop

    def step(self, passes: int = 1) -> bool:
        for _ in range(passes):
            planned = self.session.plan()
            if planned is None:
                return False
            (output,) = self.engine.forward([planned.run])
            self.session.consume(planned.run, output)
        return True

    def ask(self, committed: list[int], run: list[int] | None = None) -> Verdict:
        """Send what is missing, then ask."""
        position = len(self.log)
        self.log.extend(committed)
        whole = self.log.tokens + (run or [])
        if self.uploaded < len(whole):
            self.upload(self.uploaded, len(whole), whole)
        self.session.take_draft(Draft(position, committed, self.log.hash, run or []))
        while self.step():
            pass
        verdict: Verdict = self.frames.pop()
        self.log.extend([*(run or [])[: verdict.accepted], *([verdict.token] if (verdict.token is not None) else [])])
        assert (verdict.position, verdict.log_hash) == (len(self.log), self.log.hash)
        self.uploaded = min(self.uploaded, verdict.position - (verdict.token is not None))
        return verdict


def drawn(log: TokenLog, length: int, temperature: float) -> int:
    """The token that the whole model draws at a place of a log."""
    sampler = Sampler(opening(temperature=temperature).sampling, PROMPT)
    sampler.commit(log.tokens[len(PROMPT) : length])
    return sampler.draw(HashEngine()._row(tuple(log.tokens[:length])), length).token


@given(st.data(), st.sampled_from(CARRIES), st.integers(0, 1), st.booleans(), st.sampled_from([0.0, 0.8]))
@settings(max_examples=150, deadline=None)
def test_any_schedule_of_uploads_questions_and_losses_gives_the_whole_models_tokens(
    data: st.DataObject, carry: Carry, split: int, rough: bool, temperature: float
) -> None:
    pair = Pair(carry=carry, split=split, rough=rough, temperature=temperature)
    truth, lossless = TRUTH[temperature], True
    actions = st.sampled_from(["ask", "ahead", "again", "wrong", "draft", "alone", "reopen", "compute"])
    for action in data.draw(st.lists(actions, max_size=20)):
        done = pair.log.generated_length
        if done > LENGTH - 10:
            break
        if action == "ahead" and pair.uploaded < len(pair.log):
            pair.upload(pair.uploaded, data.draw(st.integers(pair.uploaded + 1, len(pair.log))))
        elif action == "again" and pair.uploaded:
            start = data.draw(st.integers(0, pair.uploaded - 1))
            pair.upload(start, data.draw(st.integers(start + 1, len(pair.log))))
        elif action == "wrong":
            start = data.draw(st.integers(0, min(pair.uploaded, len(pair.log) - 1)))
            other = [*pair.log.tokens[:start], 60, *pair.log.tokens[start + 1 :]]
            pair.upload(start, data.draw(st.integers(start + 1, len(other))), other)
            pair.step(data.draw(st.integers(0, 3)))
            pair.uploaded = start  # the right ones take their place before the next question
        elif action == "ask":
            pair.ask([])
        elif action == "draft":
            right = truth[done : done + data.draw(st.integers(0, 4))]
            pair.ask([], right + data.draw(st.lists(st.integers(0, 62), max_size=3)))
        elif action == "alone":
            committed = data.draw(st.lists(st.integers(0, 62), min_size=1, max_size=3))
            asked = len(pair.log) + len(committed)
            pair.ask(committed)
            assert pair.log.tokens[asked] == drawn(pair.log, asked, temperature)
            lossless = False
        elif action == "reopen":
            pair.session.close()
            pair.open()
        else:
            pair.step(data.draw(st.integers(1, 3)))
        if lossless:
            assert pair.log.generated == truth[: pair.log.generated_length]
    pair.session.close()
    assert pair.engine.open_sequences == 0


def test_a_question_takes_one_pass_over_the_whole_backlog_and_only_the_remaining_layers() -> None:
    pair = Pair(split=0)
    pair.upload(0, len(PROMPT))
    pair.step()
    assert pair.engine.length(pair.session.sequence) == len(PROMPT) - 1
    before = pair.engine.forwards
    verdict = pair.ask([7, 8, 9, 10, 11])
    assert pair.engine.forwards == before + 1
    assert verdict.spent.layers == (len(PROMPT) + 5) * 4  # of 6
    (run,) = pair.engine.batches[-1]
    assert (run.entry, len(run.tokens), run.rows) == (1, 6, 1)
    assert run.inputs is not None
    assert pair.ask([]).spent.layers == 4


def test_a_plain_session_on_a_staged_model_runs_all_layers() -> None:
    engine, frames = FakeStagedEngine(), list[Any]()
    session = Session(engine, ContextManager(engine), opening(), frames.append, chunk=7)
    log = TokenLog(PROMPT)
    session.take_draft(Draft(len(log), [], log.hash, []))
    planned = session.plan()
    assert planned is not None
    assert (planned.priority, planned.run.inputs, planned.run.entry) == (Priority.VERIFY, None, 0)
    session.consume(planned.run, engine.forward([planned.run])[0])
    verdict = frames.pop()
    assert (verdict.token, verdict.spent.layers) == (TRUTH[0.8][0], 6 * len(PROMPT))


def test_states_are_let_go_once_they_are_computed() -> None:
    pair = Pair()
    pair.upload(0, len(PROMPT))
    pair.step()
    pending = pair.session._states
    assert pending is not None
    assert len(pending._rows) == 1
    pair.ask([])
    assert len(pending._rows) == 0
    assert pending.end == len(PROMPT)


def test_wrong_states_do_not_go_unnoticed_by_these_tests() -> None:
    pair = Pair()
    pair.upload(0, len(PROMPT), [*PROMPT[:-1], 60])
    pair.uploaded = len(PROMPT)
    assert [pair.ask([]).token, pair.ask([]).token, pair.ask([]).token] != TRUTH[0.8][:3]


@pytest.mark.parametrize(
    ("position", "count", "carry", "match"),
    [(1, 1, "float16", "start at 1"), (0, 1, "int8", "takes float16"), (0, 1, "float32", "takes float16")],
)
def test_states_that_do_not_follow_are_refused(position: int, count: int, carry: Carry, match: str) -> None:
    states = states_of(PROMPT)[position : position + count]
    with pytest.raises(ProtocolViolation, match=match):
        Pair().session.take_hidden(Hidden(position, carry, states))


def test_a_question_without_its_states_is_refused() -> None:
    pair = Pair()
    pair.upload(0, len(PROMPT) - 1)
    with pytest.raises(ProtocolViolation, match="4 positions of 5"):
        pair.session.take_draft(Draft(len(pair.log), [], pair.log.hash, []))


def test_states_of_positions_under_judgement_are_refused_and_later_ones_are_forgotten() -> None:
    pair = Pair()
    pair.upload(0, len(PROMPT))
    pair.session.take_draft(Draft(len(pair.log), [], pair.log.hash, []))
    states = states_of([*PROMPT, 1])
    with pytest.raises(ProtocolViolation, match="being judged"):
        pair.session.take_hidden(Hidden(4, "float16", states[4:]))
    pair.session.take_hidden(Hidden(5, "float16", states[5:]))
    while pair.step():
        pass
    pair.log.extend([pair.frames.pop().token])
    with pytest.raises(ProtocolViolation, match="5 positions of 6"):
        pair.session.take_draft(Draft(len(pair.log), [], pair.log.hash, []))


def test_spans_and_drafts_that_do_not_fit_are_refused() -> None:
    pair = Pair()
    pair.upload(0, len(PROMPT))
    with pytest.raises(ProtocolViolation, match="no spans"):
        pair.session.take_over(TakeOver(len(pair.log), [], pair.log.hash, 0, None))
    with pytest.raises(LogMismatch):
        pair.session.take_draft(Draft(len(pair.log), [], 1, []))


def test_states_in_a_plain_session_are_refused() -> None:
    session = Session(FakeStagedEngine(), ContextManager(FakeStagedEngine()), opening(), list[Any]().append, chunk=7)
    with pytest.raises(ProtocolViolation, match="not opened for them"):
        session.take_hidden(Hidden(0, "float16", states_of(PROMPT)))


def test_stages_may_be_entered_if_the_engine_holds_the_whole_model() -> None:
    assert entry_stages(FakeStagedEngine(stages=4)) == {2: 1, 4: 2, 6: 3}
    assert entry_stages(FakeStagedEngine(deepest=1)) == {}
    assert entry_stages(HashEngine()) == {}


def test_states_may_start_again_before_what_the_cache_holds() -> None:
    pending = PendingStates(HiddenEntry(2, "float32", ""), 1)
    states = states_of(list(range(10)))
    pending.take(Hidden(0, "float32", states))
    pending.release(6)
    pending.take(Hidden(3, "float32", states[3:5]))
    assert pending.end == 5
    run = pending.enter(Run(0, 3, [3, 4]))
    assert run.inputs is not None
    assert (run.inputs == states[3:5]).all()
    pending.forget(4)
    assert pending.end == 4
