"""Who gets a sequence, who loses one, and what becomes of its cache."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import Mock

import numpy as np
import pytest

from tests.cloud.context.holders import Sheet, alone, manager_of
from tests.fakes.engine import HashEngine
from updraft.errors import EngineFailure, Overloaded
from updraft_cloud.context import ContextManager
from updraft_cloud.context.costs import Measured

PROMPT = [index % 60 for index in range(40)]


def log_of(number: int, length: int = 20) -> list[int]:
    return [(number * 7 + index * index) % 60 for index in range(length)]


@pytest.fixture
def engine() -> HashEngine:
    return HashEngine(sequences=2)


@pytest.fixture
def manager(engine: HashEngine) -> ContextManager:
    return manager_of(engine)


def exact(sheet: Sheet) -> bool:
    row = sheet.compute()
    assert row is not None
    return np.array_equal(row, alone(HashEngine(), sheet.tokens))


def test_more_sessions_than_sequences_take_turns(manager: ContextManager, engine: HashEngine) -> None:
    sheets = [Sheet(manager, engine, log_of(number)) for number in range(6)]
    for _ in range(3):
        for sheet in sheets:
            assert exact(sheet)
            sheet.tokens.append(5)
            manager.check_integrity()
    statistics = manager.statistics
    assert (statistics.sessions, statistics.resident) == (6, 2)
    assert statistics.restored > 0 and statistics.rebuilt_positions == 0


@pytest.mark.parametrize("settings", [{"host_bytes": 0}, {"host_bytes": 10}])
def test_without_host_memory_a_log_is_computed_again(engine: HashEngine, settings: dict[str, int]) -> None:
    manager = manager_of(engine, **settings)
    sheets = [Sheet(manager, engine, log_of(number)) for number in range(3)]
    for sheet in sheets * 2:
        assert exact(sheet)
    manager.check_integrity()
    assert manager.statistics.dropped == 4
    assert manager.statistics.rebuilt_positions == 3 * 19
    assert manager.statistics.host_bytes == 0


def test_where_computing_costs_less_than_saving_one_cache_shows_it(engine: HashEngine) -> None:
    manager = manager_of(engine)
    manager.costs.position_s = Measured(1e-9)
    for sheet in [Sheet(manager, engine, log_of(number)) for number in range(3)] * 2:
        assert exact(sheet)
    assert manager.statistics.spilled_host == 1 and manager.statistics.rebuilt_positions > 0


def test_who_computes_is_never_evicted_and_the_waiting_are_served_in_order(
    manager: ContextManager, engine: HashEngine
) -> None:
    first, second, third, fourth = (Sheet(manager, engine, log_of(number)) for number in range(4))
    first.compute(stay=True)
    second.compute(stay=True)
    assert third.compute() is None and fourth.compute() is None
    assert manager.statistics.waiting == 2
    second.idle = True
    assert fourth.compute() is None, "the third came first"
    assert third.compute() is not None
    assert (second.sequence, first.idle) == (-1, False)
    assert fourth.compute() is not None
    manager.check_integrity()


def test_who_has_entered_in_a_turn_stays_for_it(manager: ContextManager, engine: HashEngine) -> None:
    ahead, other = Sheet(manager, engine, log_of(0)), Sheet(manager, engine, log_of(1))
    busy = Sheet(manager, engine, log_of(2))
    manager.begin_turn()
    assert manager.enter(ahead) and manager.enter(other)
    busy.idle = False
    assert not manager.enter(busy), "the others' runs may be planned already"
    manager.begin_turn()
    assert not manager.enter(ahead), "who computes ahead stands back"
    assert manager.enter(busy)
    manager.check_integrity()


def test_who_computes_ahead_takes_no_session_its_sequence(manager: ContextManager, engine: HashEngine) -> None:
    for number in range(2):
        Sheet(manager, engine, log_of(number)).compute()
    ahead = Sheet(manager, engine, log_of(3))
    manager.begin_turn()
    assert not manager.enter(ahead)
    assert manager.statistics.waiting == 0


def test_a_cancelled_job_does_not_hold_up_the_queue(manager: ContextManager, engine: HashEngine) -> None:
    for number in range(2):
        Sheet(manager, engine, log_of(number)).compute(stay=True)
    gone, cancelled, last = (Sheet(manager, engine, log_of(number)) for number in range(2, 5))
    for sheet in (gone, cancelled, last):
        assert sheet.compute() is None
    manager.leave(gone)
    cancelled.idle = True
    manager.leave(next(iter(manager._places)))
    assert last.compute() is not None


def test_the_cheapest_to_bring_back_goes_first(engine: HashEngine) -> None:
    manager = manager_of(engine, host_bytes=0)
    long, short = Sheet(manager, engine, log_of(0, 60)), Sheet(manager, engine, log_of(1, 10))
    long.compute()
    short.compute()
    Sheet(manager, engine, log_of(2)).compute()
    assert long.sequence >= 0 and short.sequence == -1


def test_what_is_dear_goes_too_when_it_is_never_used(engine: HashEngine) -> None:
    manager = manager_of(engine, host_bytes=0)
    Sheet(manager, engine, log_of(0, 60)).compute()
    others = [Sheet(manager, engine, log_of(number, 30)) for number in range(1, 9)]
    for sheet in others:
        sheet.compute()
    assert all(sheet.sequence >= 0 for sheet in others[-2:])


def test_a_finished_session_leaves_its_prompt_to_the_next(manager: ContextManager, engine: HashEngine) -> None:
    first = Sheet(manager, engine, [*PROMPT, 1, 2, 3])
    first.compute()
    sequence = first.sequence
    manager.leave(first)
    manager.check_integrity()
    assert (first.sequence, manager.statistics.prefixes) == (-1, 1)
    engine.max_sequences = 1  # nothing else is free: it takes over the entry's own sequence
    second = Sheet(manager, engine, [*PROMPT, 9, 9])
    assert exact(second)
    assert (second.sequence, second.computed) == (sequence, 2)
    assert (manager.statistics.prefix_hits, manager.statistics.reused_positions) == (1, 40)


def test_a_prompt_is_copied_from_a_session_that_goes_on(manager: ContextManager, engine: HashEngine) -> None:
    first, second = Sheet(manager, engine, [*PROMPT, 1]), Sheet(manager, engine, [*PROMPT, 2])
    first.compute(stay=True)
    assert exact(second)
    assert second.computed == 1
    assert exact(first)
    manager.check_integrity()


def test_where_copying_costs_more_than_computing_nothing_is_copied(manager: ContextManager, engine: HashEngine) -> None:
    manager.costs.fork_s.note(1e9)
    first, second = Sheet(manager, engine, [*PROMPT, 1]), Sheet(manager, engine, [*PROMPT, 2])
    first.compute()
    assert exact(second)
    assert second.computed == len(second.tokens)


@pytest.mark.parametrize("finished", [True, False])
def test_tenants_share_nothing(manager: ContextManager, engine: HashEngine, finished: bool) -> None:
    first = Sheet(manager, engine, [*PROMPT, 1], tenant="a")
    first.compute()
    if finished:
        manager.leave(first)
    second = Sheet(manager, engine, [*PROMPT, 1], tenant="b")
    assert exact(second)
    assert second.computed == len(second.tokens) and manager.statistics.prefix_hits == 0


def test_sharing_can_be_turned_off(engine: HashEngine) -> None:
    manager = manager_of(engine, share=False)
    first, second, third = (Sheet(manager, engine, [*PROMPT, 1]) for _ in range(3))
    first.compute()
    manager.leave(first)
    for sheet in (second, third):
        assert exact(sheet) and sheet.computed == len(sheet.tokens)
    assert (manager.statistics.prefixes, manager.statistics.prefix_hits) == (0, 0)
    fourth = Sheet(manager, engine, log_of(4, 50))
    assert exact(fourth)
    assert exact(second) and exact(third) and manager.statistics.restored > 0, "its own cache is saved all the same"


def test_a_saved_prompt_serves_others_too(manager: ContextManager, engine: HashEngine) -> None:
    first = Sheet(manager, engine, [*PROMPT, 1])
    first.compute()
    for number in (1, 2):
        Sheet(manager, engine, log_of(number, 60)).compute(stay=True)
    assert first.sequence == -1 and manager.statistics.spilled_host == 1
    manager.leave(next(sheet for sheet in manager._places if sheet.sequence >= 0))
    second = Sheet(manager, engine, [*PROMPT, 2])
    assert exact(second) and second.computed == 1


def test_an_entry_that_another_begins_with_is_dropped(manager: ContextManager, engine: HashEngine) -> None:
    short, long = Sheet(manager, engine, [*PROMPT, 1]), Sheet(manager, engine, [*PROMPT, 1, 2, 3, 4])
    short.compute()
    manager.leave(short)
    engine.max_sequences = 3
    long.compute()
    again = Sheet(manager, engine, [*PROMPT, 1])
    again.compute()
    manager.leave(long)
    manager.leave(again)
    manager.check_integrity()
    assert (manager.statistics.prefixes, engine.open_sequences) == (1, 1)


def test_of_states_that_begin_alike_the_longest_is_kept(engine: HashEngine) -> None:
    manager = manager_of(HashEngine(sequences=1))
    engine = manager._caches.engine  # type: ignore[assignment]
    sheets = [Sheet(manager, engine, [*PROMPT, *range(count)]) for count in (1, 5, 9)]
    for sheet in sheets:
        assert exact(sheet)
        manager.check_integrity()
    Sheet(manager, engine, log_of(3)).compute()
    assert len(manager._caches.store.states) == 1
    for sheet in sheets:
        assert exact(sheet) and sheet.computed == 1
        manager.check_integrity()


def hidden_sheet(manager: ContextManager, engine: HashEngine, tokens: list[int]) -> Sheet:
    """A session whose cache cannot be computed from its log."""
    return Sheet(manager, engine, tokens, rebuildable=False)


def push_out(manager: ContextManager, engine: HashEngine) -> None:
    """Take the two sequences for others, who rest then."""
    others = [Sheet(manager, engine, log_of(number)) for number in range(2)]
    for other in others:
        assert other.compute(stay=True) is not None
    for other in others:
        other.idle = True


@pytest.mark.parametrize("host_bytes", [0, 250])
def test_without_room_a_session_of_hidden_states_keeps_its_sequence(engine: HashEngine, host_bytes: int) -> None:
    manager = manager_of(engine, host_bytes=host_bytes)
    hidden, other = hidden_sheet(manager, engine, PROMPT), Sheet(manager, engine, PROMPT)
    hidden.compute()
    other.compute(stay=True)
    assert other.computed == len(PROMPT), "not shared"
    third = hidden_sheet(manager, engine, log_of(3))
    assert (third.compute() is None) == (host_bytes == 0)
    assert (hidden.sequence >= 0) == (host_bytes == 0)
    manager.check_integrity()
    for sheet in (hidden, other, third):
        sheet.idle = True
        manager.leave(sheet)
    manager.check_integrity()
    assert manager.statistics.prefixes == 1 and manager.statistics.host_bytes == 0


def test_sessions_of_hidden_states_take_turns_and_lose_nothing(manager: ContextManager, engine: HashEngine) -> None:
    sheets = [hidden_sheet(manager, engine, log_of(number)) for number in range(4)]
    for sheet in sheets * 3:
        assert exact(sheet)
        manager.check_integrity()
    assert all(sheet.computed == 1 for sheet in sheets)
    assert manager.statistics.rebuilt_positions == manager.statistics.prefix_hits == 0


def test_what_a_session_takes_back_while_it_is_away_is_cut(manager: ContextManager, engine: HashEngine) -> None:
    hidden = hidden_sheet(manager, engine, PROMPT)
    hidden.compute()
    push_out(manager, engine)
    assert hidden.sequence == -1
    manager.truncate(hidden, 30)
    hidden.tokens[30:] = [1, 2, 3]
    assert exact(hidden) and hidden.computed == 3
    manager.truncate(hidden, 10)
    assert engine.length(hidden.sequence) == 10


def test_hidden_states_that_are_lost_are_an_error(
    manager: ContextManager, engine: HashEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = hidden_sheet(manager, engine, PROMPT)
    hidden.compute()
    push_out(manager, engine)

    def fail(state: bytes) -> int:
        raise EngineFailure("told to")

    monkeypatch.setattr(engine, "restore", fail)
    with pytest.raises(EngineFailure, match="is lost"):
        hidden.compute()
    manager.leave(hidden)
    manager.check_integrity()


def test_a_cache_of_a_failed_session_is_not_kept(manager: ContextManager, engine: HashEngine) -> None:
    sheet = Sheet(manager, engine, PROMPT)
    sheet.compute()
    manager.leave(sheet, keep=False)
    manager.leave(sheet)
    assert (engine.open_sequences, manager.statistics.prefixes) == (0, 0)


def test_a_failing_save_means_dropping(
    manager: ContextManager, engine: HashEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(sequence: int) -> bytes:
        raise EngineFailure("told to")

    monkeypatch.setattr(engine, "save", fail)
    for sheet in [Sheet(manager, engine, log_of(number)) for number in range(3)] * 2:
        assert exact(sheet)
        manager.check_integrity()
    assert manager.statistics.failures == manager.statistics.dropped == 4


def test_a_state_that_the_engine_refuses_means_computing(
    manager: ContextManager, engine: HashEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = engine.save
    monkeypatch.setattr(engine, "save", lambda sequence: save(sequence)[:-1] + b"?")
    for sheet in [Sheet(manager, engine, log_of(number)) for number in range(3)] * 2:
        assert exact(sheet)
        manager.check_integrity()
    assert manager.statistics.failures > 0 and manager.statistics.restored == 0


def test_copies_take_what_is_free_and_give_way(manager: ContextManager, engine: HashEngine) -> None:
    first, second = Sheet(manager, engine, PROMPT), Sheet(manager, engine, log_of(1))
    first.compute()
    copy = manager.copy(first)
    with pytest.raises(Overloaded):
        manager.copy(first)
    before = first.sequence
    manager.exchange(first, copy)
    manager.check_integrity()
    assert (first.sequence, manager._caches.copies) == (copy, {before: first})

    def give_way() -> bool:
        manager.drop_copy(before)
        return True

    manager.give_way = give_way
    assert exact(second)
    assert manager.statistics.copies == 0 and first.sequence >= 0
    manager.check_integrity()


def test_a_copy_takes_a_finished_sessions_place(manager: ContextManager, engine: HashEngine) -> None:
    first, done = Sheet(manager, engine, PROMPT), Sheet(manager, engine, log_of(1))
    first.compute()
    done.compute()
    manager.leave(done)
    manager.copy(first)
    assert manager.statistics.prefixes == 0
    manager.check_integrity()


def test_the_check_when_idle_tells_what_is_wrong(
    manager: ContextManager, engine: HashEngine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What watches every test checks once more after every turn, and at the end.
    results = Mock(side_effect=[None, EngineFailure("sequence 3 is lost"), None, None, None])
    monkeypatch.setattr(manager, "check_integrity", results)
    sheet = Sheet(manager, engine, PROMPT)
    sheet.idle = False
    manager.begin_turn()
    assert manager.statistics.faults == 0, "not while somebody computes"
    sheet.idle = True
    manager.begin_turn()
    manager.begin_turn()
    assert manager.statistics.faults == 1, "and not all the time"
    assert "sequence 3 is lost" in caplog.text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda manager, engine: engine.open(), "open but nobody owns it"),
        (lambda manager, engine: engine.close(0), "closed but owned"),
        (lambda manager, engine: setattr(next(iter(manager._places)), "sequence", 7), "believes in another sequence"),
        (lambda manager, engine: next(iter(manager._places)).tokens.clear(), "positions of a log of 0"),
        (lambda manager, engine: manager._caches.index.forget(manager._caches.residents[0]), "the index is wrong"),
        (lambda manager, engine: manager._caches.copies.update({0: None}), "a session's and a copy at once"),
        (lambda manager, engine: manager._places.clear(), "belongs to a session that has left"),
    ],
)
def test_the_check_names_what_is_wrong(
    damage: Callable[[ContextManager, HashEngine], None], message: str, engine: HashEngine
) -> None:
    engine.max_sequences = 3
    manager = manager_of(engine)
    for number in range(2):
        Sheet(manager, engine, log_of(number)).compute()
    manager.check_integrity()
    damage(manager, engine)
    with pytest.raises(EngineFailure, match=message):
        manager.check_integrity()
    manager.close()


def test_everything_is_freed_at_the_end(manager: ContextManager, engine: HashEngine) -> None:
    sheets = [Sheet(manager, engine, log_of(number)) for number in range(4)]
    for sheet in sheets:
        sheet.compute()
    for sheet in sheets:
        manager.leave(sheet)
    manager.close()
    manager.close()
    assert (manager.statistics.sessions, manager.statistics.host_bytes) == (0, 0)
