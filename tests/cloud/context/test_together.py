"""Sessions that open at once with one prompt: the first computes it, the others wait and copy it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cloud.context.holders import Sheet, alone, manager_of, turn
from tests.fakes.engine import HashEngine
from updraft_cloud.context.costs import Measured

OTHER = [7, 8, 9] * 7

LONG = [(index * index) % 60 for index in range(160)]
ENDS = ([1], [2, 3], [4, 5, 6])


class Together:
    """Sessions of one prompt that have opened at once, computed turn by turn."""

    def __init__(self, *tenants: str, sequences: int = 8, settings: dict[str, object] | None = None) -> None:
        self.engine = HashEngine(sequences=sequences)
        self.manager = manager_of(self.engine, **(settings or {}))
        self.sheets = [
            Sheet(self.manager, self.engine, [*LONG, *end], tenant)
            for end, tenant in zip(ENDS, tenants or [""] * 3, strict=True)
        ]
        for sheet in self.sheets:
            sheet.begin()

    @property
    def computed(self) -> list[int]:
        return [sheet.computed for sheet in self.sheets]

    def turns(self, most: int = 40) -> None:
        """As many turns of the loop, or until all have their rows."""
        for _ in range(most):
            if all(sheet.idle for sheet in self.sheets):
                break
            assert turn(self.manager, self.engine, self.sheets), "everybody waits"
            self.manager.check_integrity()

    def leave(self, number: int) -> None:
        self.manager.leave(self.sheets.pop(number), keep=False)

    def check(self) -> None:
        self.turns()
        for sheet in self.sheets:
            assert sheet.row is not None and np.array_equal(sheet.row, alone(HashEngine(), sheet.tokens))


def test_who_opens_with_a_prompt_that_another_computes_waits_and_copies_it() -> None:
    together = Together()
    together.turns(1)
    assert [sheet.sequence for sheet in together.sheets[1:]] == [-1, -1], "they hold no sequence meanwhile"
    together.check()
    assert together.computed == [161, 2, 3]
    assert together.manager.statistics.prefix_hits == 2


def test_a_prompt_whose_session_fails_is_computed_by_one_of_those_who_waited() -> None:
    together = Together()
    together.turns(2)
    together.leave(0)
    together.check()
    assert together.computed == [162, 3]


def test_nobody_waits_for_a_session_that_rests() -> None:
    together = Together()
    together.turns(2)
    together.sheets[0].idle = True  # cancelled, with half of the prompt in its cache
    together.turns(1)
    together.sheets.pop(0)
    together.check()
    assert together.computed == [162 - 2 * 48, 3]


def test_nobody_waits_for_a_session_that_loses_its_sequence() -> None:
    together = Together(sequences=1)
    manager, engine = together.manager, together.engine
    together.turns(2)
    first = together.sheets.pop(0)
    first.idle = True
    other = Sheet(manager, engine, OTHER)
    assert other.compute() is not None, "who waits for a prompt holds up nobody"
    assert first.sequence == -1
    together.check()
    manager.check_integrity()


def test_who_waits_for_a_prompt_leaves_the_sequences_to_others() -> None:
    together = Together(sequences=2)
    other = Sheet(together.manager, together.engine, OTHER)
    together.sheets.append(other)
    other.begin()
    together.turns(1)
    assert other.row is not None and len(together.sheets[1].tokens) > len(OTHER)
    together.check()
    assert together.computed == [161, 2, 3, len(other.tokens)]


@pytest.mark.parametrize(
    ("tenants", "settings", "seconds"),
    [
        (("", "a", "b"), {}, 1e6),
        ((), {"share": False}, 1e6),
        ((), {"min_prefix": 200}, 1e6),
        ((), {}, 0.0),
    ],
    ids=["tenants", "no sharing", "short", "copying costs more"],
)
def test_who_may_not_or_need_not_share_a_prompt_waits_for_nobody(
    tenants: tuple[str, ...], settings: dict[str, object], seconds: float
) -> None:
    together = Together(*tenants, settings=settings)
    together.manager.costs.position_s = Measured(seconds)
    together.manager.costs.fork_s = Measured(1.0)
    together.turns(1)
    assert together.computed == [48, 48, 48]
    together.check()


def test_who_computes_little_waits_for_nobody() -> None:
    engine = HashEngine()
    manager = manager_of(engine)
    sheets = [Sheet(manager, engine, [*LONG[:40], number]) for number in range(2)]
    for sheet in sheets:
        sheet.begin()
    assert turn(manager, engine, sheets) == sheets
