"""A Solve with many branches does not keep others from a sequence."""

from __future__ import annotations

from tests.fakes.engine import HashEngine
from updraft_cloud.context.manager import ContextManager
from updraft_cloud.solving.turns import Turns


class Branch:
    def __init__(self, token: int) -> None:
        self.sequence = -1
        self.tokens = [token, token]
        self.idle = False


def test_who_comes_later_waits_for_one_branch_and_not_for_all() -> None:
    manager = ContextManager(HashEngine(sequences=1))
    turns = Turns(manager)
    branches, session = [Branch(number) for number in range(1, 9)], Branch(9)
    for branch in branches:
        turns.join(branch, "one")
    manager.join(session, "two")
    assert [turns.enter(branch) for branch in branches] == [True] + [False] * 7
    assert not manager.enter(session)
    turns.leave(branches[0])
    manager.begin_turn()
    assert [turns.enter(branch) for branch in branches[1:]] == [True] + [False] * 6  # it was there before
    assert not manager.enter(session)
    turns.leave(branches[1])
    manager.begin_turn()
    assert not any([turns.enter(branch) for branch in branches[2:]])
    assert manager.enter(session)
    manager.leave(session)
    manager.close()


def test_nobody_is_held_up_by_a_branch_that_wants_no_more() -> None:
    manager = ContextManager(HashEngine(sequences=1))
    turns = Turns(manager)
    first, second, third = (Branch(number) for number in range(1, 4))
    for branch in (first, second, third):
        turns.join(branch)
    assert [turns.enter(branch) for branch in (first, second, third)] == [True, False, False]
    second.idle = True  # its job was cancelled
    turns.leave(first)
    manager.begin_turn()
    assert turns.enter(third)
    turns.leave(third)
    second.idle = False
    manager.begin_turn()
    assert turns.enter(second)
    turns.leave(second)
    manager.close()
