"""Which waiting runs share a pass: those that are likely to need the same experts, with the bits of any other order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.hf_model import write_hf_model
from updraft.config import CloudSettings
from updraft.config.experts import ExpertSettings
from updraft.engine.base import Output, Run
from updraft.engine.experts import MoeShape
from updraft.engine.loop import EngineLoop, Priority, Want
from updraft.errors import ConfigError, UpdraftError
from updraft_cloud.engine.host import load_engine
from updraft_cloud.experts.factory import make_experts
from updraft_cloud.experts.policies.base import NoForecast
from updraft_cloud.experts.policies.forecast import TokenTable
from updraft_cloud.experts.together import ExpertOverlap, choose_together, grouping_of, overlap_of


def test_runs_that_need_the_same_go_together() -> None:
    chances = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]], np.float32)
    assert choose_together(chances, [2, 2, 2, 2], 4) == [0, 2]
    assert choose_together(chances, [2, 1, 2, 2], 3) == [0, 1]  # what does not fit is left
    assert choose_together(chances, [9, 1, 1, 1], 4) == [0]  # the oldest goes even if it is large
    assert choose_together(chances[:0], [], 4) == []


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), most=st.integers(1, 20), seed=st.integers(0, 9))
def test_a_choice_is_lawful(sizes: list[int], most: int, seed: int) -> None:
    chances = np.random.default_rng(seed).random((len(sizes), 12)).astype(np.float32)
    chosen = choose_together(chances, sizes, most)
    assert chosen[0] == 0 and chosen == sorted(set(chosen))
    total = sum(sizes[run] for run in chosen)
    assert len(chosen) == 1 or total <= most
    assert all(total + sizes[run] > most for run in range(len(sizes)) if run not in chosen)


def taught(kinds: int = 2) -> TokenTable:
    """A table of one layer where token t chooses experts 2 k and 2 k + 1, k = t mod `kinds`."""
    table = TokenTable(MoeShape(1, 2 * kinds, 2, 4, 4, 100))
    tokens = np.arange(40)
    table.begin(tokens)
    table.routed(0, np.stack([2 * (tokens % kinds), 2 * (tokens % kinds) + 1], axis=1), lambda: None)
    table.end()
    return table


def test_a_table_of_tokens_says_who_goes_together() -> None:
    overlap = ExpertOverlap(taught())
    placed, waiting = [Run(0, 0, [2, 4])], [Run(1, 0, [1, 3]), Run(2, 0, [6, 8]), Run(3, 0, [10]), Run(4, 0, [5])]
    assert overlap(placed, waiting, 9)[:2] == [1, 2]
    assert overlap(placed, waiting, 1) == [2]  # only that fits
    assert overlap(placed, waiting, 0) == []


def test_before_anything_was_learned_the_order_is_that_of_arrival() -> None:
    overlap = ExpertOverlap(TokenTable(MoeShape(1, 4, 2, 4, 4, 100)))
    assert overlap([Run(0, 0, [1])], [Run(number, 0, [number]) for number in (3, 1, 2)], 9) == [0, 1, 2]


def test_only_forecasters_of_tokens_group() -> None:
    assert overlap_of(NoForecast()) is None
    assert isinstance(overlap_of(taught()), ExpertOverlap)
    assert grouping_of(object()) is None
    with pytest.raises(ConfigError, match="under the policy expected"):
        make_experts(ExpertSettings(budget="50%", policy="expected", group=True))
    with pytest.raises(ValueError, match="group needs a budget"):
        ExpertSettings(group=True)


class Reader:
    """A task that has a text computed, run by run, with rows of logits for all of it."""

    def __init__(self, loop: EngineLoop, text: list[int], size: int) -> None:
        self._loop, self._text, self._size = loop, text, size
        self._sequence = loop.engine.open()
        self.rows: list[Any] = []

    def plan(self) -> Want | None:
        start = self._loop.engine.length(self._sequence)
        part = self._text[start : start + self._size]
        return Want(Priority.VERIFY, Run(self._sequence, start, part, len(part))) if part else None

    def consume(self, run: Run, output: Output) -> None:
        self.rows.append(output.logits.copy())

    def fail(self, error: UpdraftError) -> None:
        raise error


def computed(folder: Path, experts: ExpertSettings, texts: list[list[int]]) -> tuple[list[Any], int]:
    """Logits of every text, computed in passes that do not hold all runs, and how often the loop asked who to group."""
    pytest.importorskip("torch")
    options: dict[str, Any] = {"context": 64, "sequences": len(texts), "batch_tokens": 64, "pass_tokens": 64}
    engine = load_engine(CloudSettings(model=str(folder), experts=experts, threads=1, **options))
    asked = 0
    grouping = grouping_of(engine)

    def counted(placed: Any, waiting: Any, room: int) -> Any:
        nonlocal asked
        asked += 1
        assert grouping is not None
        return grouping(placed, waiting, room)

    loop = EngineLoop(engine, pass_tokens=64, grouping=None if grouping is None else counted)
    readers = [Reader(loop, text, 9) for text in texts]
    for reader in readers:
        loop.add(reader)
    while loop.turn():
        pass
    engine.shutdown()
    return [np.concatenate(reader.rows) for reader in readers], asked


def test_the_bits_are_the_same_whoever_shares_a_pass(tmp_path: Path) -> None:
    folder = write_hf_model(tmp_path / "model", "qwen3_moe")
    random = np.random.default_rng(0)
    texts = [random.integers(5, 60, int(length)).tolist() for length in random.integers(20, 60, 12)]
    resident, _ = computed(folder, ExpertSettings(), texts)
    in_turn, never = computed(folder, ExpertSettings(budget="50%"), texts)
    grouped, asked = computed(folder, ExpertSettings(budget="50%", group=True), texts)
    assert never == 0 < asked
    for one in (in_turn, grouped):
        assert all(np.array_equal(own, other) for own, other in zip(one, resident, strict=True))
