"""On llama.cpp, too: a cache that was saved, written, dropped, taken over or copied gives the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.cloud.context.holders import Sheet, alone, manager_of, turn
from updraft.engine.llama import LlamaEngine
from updraft_cloud.context import ContextManager

PROMPT = [100 + index * 7 for index in range(24)]


@pytest.fixture(scope="module", params=["tiny", pytest.param("smollm2", marks=pytest.mark.smollm2)])
def engine(request: pytest.FixtureRequest) -> Iterator[LlamaEngine]:
    path: Path = request.getfixturevalue("tiny_model_path" if request.param == "tiny" else "smollm2_q4_0_path")
    engine = LlamaEngine(path, context=256, sequences=2, threads=1)
    yield engine
    engine.shutdown()


@pytest.fixture
def opened(engine: LlamaEngine) -> Iterator[list[ContextManager]]:
    managers: list[ContextManager] = []
    yield managers
    for manager in managers:
        for holder in list(manager._places):
            manager.leave(holder, keep=False)
        for place in list(manager._caches.residents.values()):
            manager._caches.release(place)
        manager.close()


@pytest.mark.parametrize("what", ["host", "disk", "dropped"])
def test_a_cache_that_had_to_go_comes_back(
    engine: LlamaEngine, opened: list[ContextManager], what: str, tmp_path: Path
) -> None:
    disk = {"host_bytes": 0, "disk_bytes": 1 << 30, "disk_folder": tmp_path} if what == "disk" else {}
    manager = manager_of(engine, **({"host_bytes": 0} if what == "dropped" else disk))
    opened.append(manager)
    tokens = [token % engine.info.vocabulary for token in PROMPT]
    expected = alone(engine, [*tokens, 5, 6])
    sheet = Sheet(manager, engine, tokens)
    sheet.compute()
    others = [Sheet(manager, engine, [number + 1, *tokens]) for number in range(2)]
    for other in others:
        other.compute()
    assert sheet.sequence == -1
    sheet.tokens += [5, 6]
    row = sheet.compute()
    assert row is not None and np.array_equal(row, expected)
    statistics = manager.statistics
    assert (statistics.restored > 0, statistics.disk_bytes > 0) == (what != "dropped", what == "disk")
    assert sheet.computed == (len(sheet.tokens) if what == "dropped" else 3)
    manager.check_integrity()


@pytest.mark.parametrize("finished", [True, False], ids=["taken over", "copied"])
def test_a_shared_prompt_gives_the_same_bits(engine: LlamaEngine, opened: list[ContextManager], finished: bool) -> None:
    tokens = [token % engine.info.vocabulary for token in PROMPT]
    expected = alone(engine, [*tokens, 5, 6])
    manager = manager_of(engine)
    opened.append(manager)
    first = Sheet(manager, engine, [*tokens, 8, 9, 10])
    first.compute()
    if finished:
        manager.leave(first)
    second = Sheet(manager, engine, [*tokens, 5, 6])
    row = second.compute()
    assert row is not None and np.array_equal(row, expected)
    assert second.computed == 2
    manager.check_integrity()


def test_a_prompt_that_was_waited_for_gives_the_same_bits(engine: LlamaEngine, opened: list[ContextManager]) -> None:
    tokens = [(100 + index * 7) % engine.info.vocabulary for index in range(200)]
    ends = [[8, 9, 10], [5, 6]]
    expected = [alone(engine, tokens + end) for end in ends]
    manager = manager_of(engine)
    opened.append(manager)
    sheets = [Sheet(manager, engine, tokens + end) for end in ends]
    for sheet in sheets:
        sheet.begin()
    while not all(sheet.idle for sheet in sheets):
        assert turn(manager, engine, sheets)
    for sheet, row in zip(sheets, expected, strict=True):
        assert sheet.row is not None and np.array_equal(sheet.row, row)
    assert [sheet.computed for sheet in sheets] == [203, 2]
    manager.check_integrity()
