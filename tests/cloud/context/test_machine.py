"""Sessions that open, grow, rest, lose their caches and end in any order: everything stays true, and every bit."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from tests.cloud.context.holders import Sheet, alone, manager_of, turn
from tests.fakes.engine import HashEngine
from updraft.errors import Overloaded
from updraft_cloud.context.costs import Measured
from updraft_cloud.context.prefixes import common_length

# Few prompts, tokens and tenants, so that logs often begin alike.
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=12)
LOGS = st.builds(list.__add__, st.sampled_from([[0] * 9, [1, 0] * 6, [1] * 20]), TOKENS)
NUMBERS = st.integers(0, 1000)


class Sessions(RuleBasedStateMachine):
    """What a worker may do with its manager."""

    def __init__(self) -> None:
        super().__init__()
        self.sheets: list[Sheet] = []
        self.waiting: list[Sheet] = []
        self.copies: list[int] = []
        self.fresh = HashEngine()
        self.logs: dict[str, dict[Sheet, list[int]]] = {"": {}, "a": {}}
        self.unseen: dict[Sheet, str] = {}

    @initialize(
        sequences=st.integers(1, 4), host=st.sampled_from([0, 400, 100_000]), disk=st.sampled_from([0, 400, 100_000])
    )
    def begin(self, sequences: int, host: int, disk: int) -> None:
        self.folder = TemporaryDirectory()
        self.engine = HashEngine(sequences=sequences)
        self.engine.max_run = 5  # so that others' prompts are waited for
        self.manager = manager_of(
            self.engine, min_prefix=4, host_bytes=host, disk_bytes=disk, disk_folder=Path(self.folder.name)
        )
        self.manager.give_way = self.give_way

    def give_way(self) -> bool:
        if self.copies:
            self.manager.drop_copy(self.copies.pop())
            return True
        return False

    @rule(tokens=LOGS, tenant=st.sampled_from(["", "a"]), hidden=st.integers(0, 3))
    def open(self, tokens: list[int], tenant: str, hidden: int) -> None:
        self.sheets.append(Sheet(self.manager, self.engine, tokens, tenant, rebuildable=hidden != 3))
        self.unseen[self.sheets[-1]] = tenant

    @precondition(lambda self: self.sheets)
    @rule(number=NUMBERS, tokens=TOKENS)
    def append(self, number: int, tokens: list[int]) -> None:
        sheet = self.sheets[number % len(self.sheets)]
        if sheet.idle:
            sheet.tokens += tokens

    @precondition(lambda self: self.sheets)
    @rule(number=NUMBERS, stay=st.booleans())
    def compute(self, number: int, stay: bool) -> None:
        sheet = self.sheets[number % len(self.sheets)]
        row = sheet.compute(stay=stay)
        queue = [waiting for waiting in self.waiting if not waiting.idle]
        if row is None:
            if sheet not in self.waiting:
                self.waiting.append(sheet)
            return
        assert queue[:1] in ([], [sheet]) or sheet not in queue, "first come, first served"
        self.waiting = [waiting for waiting in queue if waiting is not sheet]
        self.computed(sheet, row)

    def computed(self, sheet: Sheet, row: NDArray[np.float32]) -> None:
        assert np.array_equal(row, alone(self.fresh, sheet.tokens))
        tenant = self.unseen.pop(sheet, None)
        if tenant is not None:
            logs = [log for other, log in self.logs[tenant].items() if other is not sheet]
            shared = max((common_length(sheet.tokens, log) for log in logs), default=0)
            assert sheet.computed >= len(sheet.tokens) - shared, "from another tenant"
            self.logs[tenant][sheet] = sheet.tokens

    @rule(
        prompt=LOGS,
        ends=st.lists(TOKENS, min_size=2, max_size=4),
        tenant=st.sampled_from(["", "a"]),
        turns=st.integers(1, 12),
        cancelled=st.integers(0, 12),
    )
    def compute_together(
        self, prompt: list[int], ends: list[list[int]], tenant: str, turns: int, cancelled: int
    ) -> None:
        """Sessions open with one prompt; all that have jobs go on turn by turn and rest then, one perhaps before."""
        for end in ends:
            self.open(prompt + end, tenant, 0)
            self.sheets[-1].begin()
        busy = [sheet for sheet in self.sheets if not sheet.idle]
        for sheet in busy:
            if sheet in self.unseen:
                self.logs[self.unseen[sheet]][sheet] = sheet.tokens
        for number in range(turns):
            busy[-len(ends)].idle |= number == cancelled
            ran = turn(self.manager, self.engine, busy, chunk=3)
            awaiting = [place for place in self.manager._awaiting if place.busy]
            assert ran or not awaiting, "who awaits a prompt has somebody that computes it"
            for sheet in ran:
                if sheet.idle and sheet.row is not None:
                    self.computed(sheet, sheet.row)
            self.manager.check_integrity()
        for sheet in busy:
            sheet.idle = True
            self.unseen.pop(sheet, None)  # it goes on with what it has computed itself

    @precondition(lambda self: self.sheets)
    @rule(number=NUMBERS)
    def rest(self, number: int) -> None:
        self.sheets[number % len(self.sheets)].idle = True

    @precondition(lambda self: self.sheets)
    @rule(number=NUMBERS)
    def copy(self, number: int) -> None:
        sheet = self.sheets[number % len(self.sheets)]
        if sheet.sequence < 0:
            return
        try:
            self.copies.append(self.manager.copy(sheet))
        except Overloaded:
            assert self.manager.statistics.prefixes == 0
            return
        if number % 2:
            before = sheet.sequence
            self.manager.exchange(sheet, self.copies.pop())
            self.copies.append(before)

    @precondition(lambda self: self.sheets)
    @rule(number=NUMBERS, keep=st.booleans())
    def close(self, number: int, keep: bool) -> None:
        sheet = self.sheets.pop(number % len(self.sheets))
        self.waiting = [waiting for waiting in self.waiting if waiting is not sheet]
        self.manager.leave(sheet, keep=keep)

    @rule(seconds=st.sampled_from([1e-9, 1e-4, 1.0]))
    def learn(self, seconds: float) -> None:
        self.manager.costs.position_s = Measured(seconds)

    @rule()
    def lose_files(self) -> None:
        for file in Path(self.folder.name).rglob("*.kv"):
            file.write_bytes(file.read_bytes()[:-1])

    @invariant()
    def everything_is_true(self) -> None:
        if hasattr(self, "manager"):
            self.manager.check_integrity()

    def teardown(self) -> None:
        if not hasattr(self, "manager"):
            return
        for sheet in self.sheets:
            self.manager.leave(sheet)
        self.manager.check_integrity()
        self.manager.close()
        assert list(Path(self.folder.name).iterdir()) == []
        self.folder.cleanup()


Sessions.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSessions = Sessions.TestCase
