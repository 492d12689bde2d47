"""Trees of drafts: whichever branches are offered, and whichever of them find a sequence, the text stays the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cloud.sessions.test_session import LENGTH, PROMPT, TRUTH, opening
from tests.fakes.engine import HashEngine
from updraft import failpoints
from updraft.engine.loop import EngineLoop
from updraft.errors import EngineFailure, ProtocolViolation
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft_cloud import wire
from updraft_cloud.context import ContextManager
from updraft_cloud.frames import Branch, Draft, Failed, Limits, Open, Verdict
from updraft_cloud.sessions.acceptance import Tolerance
from updraft_cloud.sessions.session import Session
from updraft_cloud.sessions.tree import Copies

LIMITS = Limits(vocabulary=64, context=512, max_draft=20)


class Forest:
    """Sessions in an engine loop that is stepped by hand."""

    def __init__(self, *, sequences: int = 8, pass_tokens: int = 256) -> None:
        self.engine = HashEngine(sequences=sequences)
        self.context = ContextManager(self.engine)
        self.loop = EngineLoop(self.engine, pass_tokens=pass_tokens, settle=self.context.begin_turn)
        self.copies = Copies(self.loop, self.context)

    def open(self, frame: Open) -> Grown:
        return Grown(self, frame)

    def run_dry(self) -> None:
        while self.loop.turn():
            pass


class Grown:
    """One session of a forest, with the edge's view of its log."""

    def __init__(self, forest: Forest, frame: Open) -> None:
        self.forest = forest
        self.frames: list[Any] = []
        self.session = Session(forest.engine, forest.context, frame, self.frames.append, chunk=7, copies=forest.copies)
        self.log = TokenLog(frame.prompt, frame.generated)
        forest.loop.add(self.session)

    def judge(self, run: list[int], *branches: tuple[int, list[int]], ahead: bool = True) -> Verdict:
        if ahead:
            self.forest.run_dry()
        self.ask(run, *branches)
        self.forest.run_dry()
        return self.answer(run, *branches)

    def ask(self, run: list[int], *branches: tuple[int, list[int]]) -> None:
        tree = [Branch(shared, tokens) for shared, tokens in branches]
        self.session.take_draft(Draft(len(self.log), [], self.log.hash, run, tree))

    def answer(self, run: list[int], *branches: tuple[int, list[int]]) -> Verdict:
        verdict: Verdict = self.frames.pop()
        ways = [run, *(run[:shared] + tokens for shared, tokens in branches)]
        self.log.extend(ways[verdict.branch][: verdict.accepted])
        if verdict.token is not None:
            self.log.extend([verdict.token])
        assert (verdict.position, verdict.log_hash) == (len(self.log), self.log.hash)
        return verdict

    def close(self) -> None:
        self.forest.loop.remove(self.session)
        self.session.close()


@given(st.data(), st.sampled_from([0.0, 0.8]), st.integers(1, 5), st.sampled_from([64, 256]))
@settings(max_examples=120, deadline=None)
def test_any_trees_give_the_clouds_own_text(
    data: st.DataObject, temperature: float, sequences: int, pass_tokens: int
) -> None:
    truth, forest = TRUTH[temperature], Forest(sequences=sequences, pass_tokens=pass_tokens)
    grown = forest.open(opening(temperature=temperature))
    others: list[Grown] = []
    wrong = st.lists(st.integers(0, 62), max_size=4)
    while grown.log.generated_length < LENGTH:
        done = grown.log.generated_length
        if len(others) < sequences - 1 and data.draw(st.booleans()):
            others.append(forest.open(opening(temperature=temperature)))
        run = truth[done : done + data.draw(st.integers(0, 5))] + data.draw(wrong)
        branches = []
        for _ in range(data.draw(st.integers(0, 4))):
            shared = data.draw(st.integers(0, len(run)))
            good = truth[done + shared : done + shared + data.draw(st.integers(0, 4))]
            branches.append((shared, good + data.draw(wrong.filter(bool) if not good else wrong)))
        grown.judge(run, *branches, ahead=data.draw(st.booleans()))
    assert grown.log.generated == truth
    for one in [grown, *others]:
        one.close()
    statistics = forest.context.statistics
    assert (statistics.sessions, statistics.resident, statistics.copies) == (0, 0, 0)
    assert forest.engine.open_sequences == statistics.prefixes
    forest.context.check_integrity()


def test_the_best_branch_is_followed_in_one_pass() -> None:
    truth, forest = TRUTH[0.8], Forest()
    grown = forest.open(opening())
    wrong = [(token + 1) % 60 for token in truth]
    forest.run_dry()
    passes = forest.loop.statistics.passes
    verdict = grown.judge([truth[0], wrong[1]], (0, [wrong[0]]), (1, truth[1:5]), (1, truth[1:3]))
    assert (verdict.branch, verdict.accepted, verdict.token) == (2, 5, truth[5])
    assert forest.loop.statistics.passes == passes + 1
    assert verdict.spent.passes == 1
    assert verdict.spent.positions == 3 + 2 + 6 + 4  # with the log's last token in each
    verdict = grown.judge(truth[6:8], (0, [wrong[6]]))
    assert (verdict.branch, verdict.accepted) == (0, 2)


def test_branches_are_computed_on_their_tenants_account() -> None:
    forest = Forest()
    grown = forest.open(opening())
    forest.run_dry()
    tree = Draft(len(grown.log), [], grown.log.hash, [1, 2], [Branch(0, [3]), Branch(1, [4, 5])])
    planted = forest.copies.plant(grown.session, tree, most=9, tenant="acme", done=lambda: None)
    assert [branch.plan().tenant for branch in planted.branches] == ["acme", "acme"]
    grown.close()


def test_copies_are_kept_between_verdicts_and_cost_only_what_is_new() -> None:
    truth, forest = TRUTH[0.8], Forest()
    grown = forest.open(opening())
    forks: list[int] = []
    fork = forest.engine.fork

    def counted(sequence: int) -> int:
        forks.append(sequence)
        return fork(sequence)

    forest.engine.fork = counted  # type: ignore[method-assign]
    for place in range(0, 24, 3):
        grown.judge([60], (0, truth[place : place + 2]))
    assert grown.log.generated == truth[:24]
    assert len(forks) == 1


def test_a_new_session_takes_the_sequence_of_a_copy() -> None:
    truth, forest = TRUTH[0.8], Forest(sequences=2)
    grown = forest.open(opening())
    grown.judge([60], (0, truth[:2]))
    assert forest.engine.open_sequences == 2
    other = forest.open(opening())
    assert forest.engine.open_sequences == 2
    verdict = grown.judge([60], (0, truth[3:5]))
    assert (verdict.branch, verdict.accepted) == (0, 0)  # no sequence was free: the run alone was judged
    other.close()
    assert grown.judge([60], (0, truth[4:6])).branch == 1


def test_a_session_that_opens_in_mid_tree_waits_for_its_branches() -> None:
    truth, forest = TRUTH[0.8], Forest(sequences=2)
    grown = forest.open(opening())
    forest.run_dry()
    grown.ask([60], (0, truth[:2]))
    other = forest.open(opening())
    forest.run_dry()
    assert grown.answer([60], (0, truth[:2])).accepted == 2
    assert other.session.sequence >= 0 and forest.context.statistics.copies == 0


def test_a_pass_that_fails_with_branches_in_it_ends_the_session_and_frees_all() -> None:
    forest = Forest()
    grown = forest.open(opening())
    forest.run_dry()
    forest.engine.fail_after = forest.engine.forwards + 1
    grown.ask([60], (0, [1, 2]))
    forest.run_dry()
    assert grown.frames.pop().code == EngineFailure.code
    grown.close()
    assert forest.engine.open_sequences == 0


@pytest.mark.parametrize("point", ["verdict.before_commit", "verdict.after_commit"])
def test_a_verdict_that_fails_once_the_last_branch_is_there_is_told(point: str) -> None:
    forest = Forest()
    grown = forest.open(opening())
    forest.run_dry()
    with failpoints.armed(f"{point}=error"):
        grown.ask([1, 2, 3], (1, [9, 9]))
        forest.run_dry()
    (failed,) = grown.frames
    assert isinstance(failed, Failed)
    assert forest.context.statistics.resident == forest.context.statistics.copies == 0
    forest.context.check_integrity()


def test_a_tree_under_a_rule_that_tolerates() -> None:
    """The cloud's own draw is followed where any way has it, else the run is what may be tolerated."""
    truth, forest = TRUTH[0.8], Forest()
    grown = forest.open(opening(acceptance=Tolerance(1.0)))
    verdict = grown.judge([60, 61], (0, truth[:3]))
    assert (verdict.branch, verdict.accepted, verdict.tolerated) == (1, 3, 0)
    verdict = grown.judge([60, 61], (1, [59]))
    assert (verdict.branch, verdict.accepted) == (0, 2)
    assert verdict.tolerated


def frame(run: list[int], *branches: tuple[int, list[int]]) -> pb.EdgeFrame:
    tree = [pb.Branch(shared=shared, tokens=tokens) for shared, tokens in branches]
    return pb.EdgeFrame(draft=pb.Draft(position=len(PROMPT), run=run, branches=tree))


def test_a_tree_is_read_as_it_was_sent() -> None:
    draft = wire.read_frame(frame([1, 2], (0, [3]), (2, [4, 5])), LIMITS)
    assert isinstance(draft, Draft)
    assert draft.branches == [Branch(0, [3]), Branch(2, [4, 5])]


@pytest.mark.parametrize(
    "branches",
    [
        [(3, [1])],  # leaves the run after its end
        [(0, [])],  # no tokens of its own
        [(0, [64])],  # outside the vocabulary
        [(0, [1] * 19)],  # more than a draft may have
        [(0, [1] * 10), (0, [2] * 9)],
        [(0, [1])] * 17,
    ],
)
def test_malformed_trees_are_refused(branches: list[tuple[int, list[int]]]) -> None:
    with pytest.raises(ProtocolViolation):
        wire.read_frame(frame([1, 2], *branches), LIMITS)
