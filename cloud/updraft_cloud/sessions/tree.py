"""Drafts being judged, and trees of them: branches are computed in copies of the session's sequence, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Protocol

from updraft.engine.base import FloatRows, Output, Run
from updraft.engine.loop import EngineLoop, Priority, Task, Want
from updraft.errors import Overloaded, UpdraftError
from updraft_cloud.context import ContextManager, Holder
from updraft_cloud.frames import Draft

__all__ = ["BranchRun", "Copies", "Verification", "Walk"]


class Verification:
    """A draft under way: its run, computed by the session, and its branches, each by a task of its own.

    Args:
        passes: how many the engine loop has made, to count those that the branches needed besides the run's.
    """

    def __init__(
        self, run: list[int], branches: Sequence[BranchRun] = (), *, passes: Callable[[], int] = lambda: 0
    ) -> None:
        self.run = run
        self.branches = list(branches)
        self._passes = passes
        self._passed = -1
        self._rows: FloatRows | None = None

    @property
    def waiting(self) -> bool:
        """The run is computed."""
        return self._rows is not None

    @property
    def computed(self) -> bool:
        """The run is, and every branch that can be."""
        return self.waiting and all(branch.done for branch in self.branches)

    def take(self, rows: FloatRows) -> None:
        """The run's rows, shape (len(run) + 1, vocabulary); kept if a branch is still to come."""
        self._passed = self._passes()
        self._rows = rows if all(branch.done for branch in self.branches) else rows.copy()

    def branch_work(self) -> tuple[int, int]:
        """Passes and positions that the branches took beside the run."""
        computed = [branch for branch in self.branches if branch.rows is not None]
        passes = {branch.passed for branch in computed} - {self._passed}
        return len(passes), sum(branch.positions for branch in computed)

    def walk(self) -> Walk:
        assert self._rows is not None  # noqa: S101  # `computed` comes first
        return Walk(self.run, self._rows, self.branches)


class Walk:
    """Follows a tree of drafts from its root, as deep as its tokens stand."""

    def __init__(self, run: list[int], rows: FloatRows, branches: Sequence[BranchRun]) -> None:
        self._rows = rows
        self._branches = {branch.number: branch for branch in branches if branch.rows is not None}
        paths = {branch.number: branch.path for branch in self._branches.values()}
        self._paths = {0: run} | paths
        self._alive = list(self._paths)
        self._depth = 0

    @property
    def way(self) -> int:
        """The first of the ways that hold all followed tokens: 0 for the run, else a branch's number."""
        return self._alive[0]

    @property
    def row(self) -> FloatRows:
        """Logits after the followed tokens, shape (vocabulary,)."""
        branch = self._branches.get(self.way)
        rows, place = self._rows, self._depth
        if branch is not None and branch.rows is not None and place > branch.shared:
            rows, place = branch.rows, place - branch.shared - 1
        row: FloatRows = rows[place]
        return row

    def drafted(self, token: int) -> int | None:
        """What was drafted here: `token` if any way has it, else the first way's; None at the end of all."""
        here = [path[self._depth] for way in self._alive if len(path := self._paths[way]) > self._depth]
        return token if token in here else next(iter(here), None)

    def follow(self, token: int) -> None:
        depth = self._depth
        self._alive = [way for way in self._alive if self._paths[way][depth : depth + 1] == [token]]
        self._depth += 1


class Owner(Holder, Task, Protocol):
    """A session whose drafts are trees."""


class BranchRun:
    """A branch of a tree as a task of the engine loop.

    Attributes:
        number: of the branch in its frame, from 1.
        path: its tokens from the tree's root; the first `shared` are the run's.
        rows: logits after each of its own tokens; None if it could not be computed.
    """

    def __init__(
        self, loop: EngineLoop, owner: Owner, sequence: int, number: int, path: list[int], shared: int, text: list[int]
    ) -> None:
        self.sequence = sequence
        self.number = number
        self.path = path
        self.shared = shared
        self.rows: FloatRows | None = None
        self.done = False
        self.positions = 0
        self.passed = -1
        self.tenant = ""
        self.on_done: Callable[[], None] = lambda: None
        self._loop = loop
        self._owner = owner
        self._text = text  # log and path

    def plan(self) -> Want:
        start = self._loop.engine.length(self.sequence)
        run = Run(self.sequence, start, self._text[start:], len(self.path) - self.shared)
        return Want(Priority.VERIFY, run, self.tenant)

    def consume(self, run: Run, output: Output) -> None:
        self.rows = output.logits.copy()  # the run's may come in a later pass
        self.positions = len(run.tokens)
        self.passed = self._loop.statistics.passes
        self.stop()

    def fail(self, error: UpdraftError) -> None:
        self.stop()

    def stop(self) -> None:
        """No longer wait for it."""
        if not self.done:
            self.done = True
            self._loop.remove(self)
            try:
                self.on_done()
            except Exception as error:
                # It is the session that judges now. As the branch's own failure nobody would hear of it.
                self._loop.fail(self._owner, error)


class Copies:
    """Sequences that no session needs at the moment: between verdicts each keeps the beginning of one session's log, so
    that a branch costs the tokens since then and not a copy of the whole cache. They give way to sessions.

    Used from the loop's thread alone.
    """

    def __init__(self, loop: EngineLoop, context: ContextManager) -> None:
        self._loop = loop
        self._engine = loop.engine
        self._context = context
        self._kept: dict[Holder, list[int]] = {}
        self._running: dict[Holder, list[BranchRun]] = {}
        context.give_way = self._give_way

    def plant(self, owner: Owner, draft: Draft, *, most: int, tenant: str, done: Callable[[], None]) -> Verification:
        """Begin to judge a draft, with those of its branches that there are sequences for; with none while the
        session's own cache is behind.

        Args:
            owner: the session, which has a sequence.
            most: tokens that a way may have.
            tenant: whose session it is.
            done: called when a branch needs no more waiting for.
        """
        run, log = draft.run[:most], owner.tokens
        limit, planted = self._engine.max_run, list[BranchRun]()
        if len(log) + len(run) - self._engine.length(owner.sequence) > limit:
            return Verification(run)
        free = sorted(self._kept.get(owner, ()), key=self._engine.length)
        for number, branch in enumerate(draft.branches, 1):
            path = (run[: branch.shared] + branch.tokens)[:most]
            if branch.shared > len(run) or len(path) <= branch.shared:
                continue
            copy = self._copy(owner, free, len(log) + len(path) - limit)
            if copy is None:
                break
            self._engine.truncate(copy, min(self._engine.length(copy), len(log) - 1))
            task = BranchRun(self._loop, owner, copy, number, path, branch.shared, log + path)
            task.tenant, task.on_done = tenant, done
            planted.append(task)
        if planted:
            self._running[owner] = planted
        for task in planted:
            self._loop.add(task)
        return Verification(run, planted, passes=lambda: self._loop.statistics.passes)

    def settle(self, owner: Holder, run: list[int], *, way: int, start: int, stood: list[int]) -> None:
        """After a verdict: the sequence whose cache holds most of the tokens that stood is the session's from now on.
        Every cache is cut to what the log now begins with.

        Args:
            run: that the session's own sequence was computed with.
            way: that was followed.
            start: the log's length before the verdict; `stood`: accepted tokens after it.
        """
        self._cut(owner.sequence, start, run, stood)
        for task in self._running.pop(owner, ()):
            self._cut(task.sequence, start, task.path, stood)
            if task.number == way:
                kept = self._kept[owner]
                kept[kept.index(task.sequence)] = owner.sequence
                self._context.exchange(owner, task.sequence)

    def _cut(self, sequence: int, start: int, path: list[int], stood: list[int]) -> None:
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(path, stood, strict=False)))
        self._engine.truncate(sequence, min(self._engine.length(sequence), start + same))

    def drop(self, owner: Holder) -> None:
        """Free the copies of a session; unknown ones are ignored."""
        tasks, kept = self._running.pop(owner, []), self._kept.pop(owner, [])
        for sequence in kept:
            self._context.drop_copy(sequence)
        for task in tasks:
            task.stop()

    def _give_way(self) -> bool:
        """Free a copy of a session whose tree is not being judged: no run of it can be planned."""
        for owner, kept in self._kept.items():
            if kept and owner not in self._running:
                self._context.drop_copy(kept.pop())
                return True
        return False

    def _copy(self, owner: Holder, free: list[int], least: int) -> int | None:
        """A copy that holds at least `least` tokens of the log; None if there is no sequence for it."""
        kept = self._kept.setdefault(owner, [])
        if free:
            copy = free.pop()
            if self._engine.length(copy) >= least:
                return copy
            kept.remove(copy)
            self._context.drop_copy(copy)  # too far behind: copying anew costs less than computing
        if self._engine.length(owner.sequence) < least:
            return None
        try:
            copy = self._context.copy(owner)
        except Overloaded:
            return None
        kept.append(copy)
        return copy
