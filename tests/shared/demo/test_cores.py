from __future__ import annotations

import os
import threading

import pytest

from updraft.demo.cores import CoreSplit, pinned, split_cores, usable_cores
from updraft.errors import ConfigError

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot pin")


@pytest.mark.parametrize(
    ("cores", "expected", "apart"),
    [
        ((0,), CoreSplit((0,), (0,), 1), False),
        ((0, 1), CoreSplit((0,), (1,), 1), True),
        ((2, 3, 5), CoreSplit((2,), (3,), 1), True),
        ((0, 1, 2, 3, 8, 9, 10, 11), CoreSplit((0, 1, 2, 3), (8, 9, 10, 11), 4), True),
    ],
)
def test_each_tier_gets_as_many_cores(cores: tuple[int, ...], expected: CoreSplit, apart: bool) -> None:
    split = split_cores(cores)
    assert split == expected
    assert split.apart is apart


def test_a_system_that_cannot_pin_still_shares_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    split = split_cores(None)
    assert (split.edge, split.cloud, split.threads, split.apart) == (None, None, 4, False)


def test_the_sentence_says_what_the_figures_are_worth() -> None:
    assert "own half of the cores" in split_cores((0, 1)).sentence()
    assert "share one core" in split_cores((0,)).sentence()
    assert "cannot pin" in split_cores(None).sentence()


@needs_affinity
def test_threads_started_meanwhile_are_pinned_and_this_one_is_set_free_again() -> None:
    before = usable_cores()
    assert before
    seen: list[set[int]] = []
    with pinned(before[:1]):
        thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
    assert seen == [{before[0]}]
    assert usable_cores() == before


@needs_affinity
def test_this_thread_is_set_free_after_an_error() -> None:
    before = usable_cores()
    assert before
    with pytest.raises(KeyError), pinned(before[:1]):
        raise KeyError
    assert usable_cores() == before
    with pytest.raises(ConfigError), pinned([4000]):
        raise AssertionError("not reached")
    assert usable_cores() == before
