"""Saved states in memory and on disk: budgets, order, and disks that fail."""

from __future__ import annotations

import errno
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.cloud.context.holders import Sheet, alone, manager_of
from tests.fakes.engine import HashEngine
from updraft.config.kv import KvSettings
from updraft_cloud.context.costs import Costs, Measured
from updraft_cloud.context.disk import SpillFolder
from updraft_cloud.context.place import Place, State
from updraft_cloud.context.statistics import ContextStatistics
from updraft_cloud.context.store import StateStore


class FullFolder(SpillFolder):
    """A disk without room."""

    def write(self, data: bytes) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")


def store_of(folder: SpillFolder | None = None, **settings: object) -> StateStore:
    costs = Costs()
    costs.position_s.note(1e9)  # dearer than any disk is slow
    chosen = KvSettings.model_validate({"host_bytes": 100, "disk_bytes": 100, **settings})
    return StateStore(chosen, costs, ContextStatistics(), folder=folder)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    store = store_of(SpillFolder(tmp_path / "spill"))
    yield store
    store.close()


def put(store: StateStore, size: int, letter: bytes = b"x") -> State:
    state = store.put("", [1, 2, 3], letter * size)
    assert state is not None
    return state


def sizes(store: StateStore) -> tuple[int, int]:
    return store._statistics.host_bytes, store._statistics.disk_bytes


def test_what_was_used_longest_ago_goes_to_disk_and_then_away(store: StateStore) -> None:
    first, second, third = (put(store, 40, letter) for letter in (b"1", b"2", b"3"))
    assert (first.data, sizes(store)) == (None, (80, 40))
    assert store.get(first) == b"1" * 40
    put(store, 40)
    put(store, 40)
    assert second not in store.states and third.data is None, "the first was read since"
    assert sizes(store) == (80, 80)


def test_who_is_waited_for_stays_longer(store: StateStore) -> None:
    first, second = put(store, 40), put(store, 40)
    Place("", None).want(first)
    put(store, 40)
    assert first.data is not None and second.data is None


def test_what_does_not_fit_into_memory_goes_to_disk_at_once(store: StateStore) -> None:
    assert put(store, 101 - 1).data is not None
    with_disk = store_of(host_bytes=10)
    state = put(with_disk, 50)
    assert (state.data, sizes(with_disk)) == (None, (0, 50))
    assert with_disk.put("", [1], b"x" * 101) is None
    with_disk.close()


def test_nothing_is_written_where_computing_costs_less(store: StateStore) -> None:
    store._costs.position_s = Measured(1e-12)
    first = put(store, 60)
    put(store, 60)
    assert first not in store.states and sizes(store) == (60, 0)


def test_a_full_disk_means_dropping_and_rests() -> None:
    folder = FullFolder()
    store = store_of(folder, host_bytes=50)
    first = put(store, 40)
    put(store, 40)
    assert first not in store.states and store._statistics.failures == 1
    put(store, 40)
    assert store._statistics.failures == 1, "it is not tried again at once"
    assert sizes(store) == (40, 0)


def test_a_real_limit_of_file_size_leaves_no_half_file(store: StateStore, tmp_path: Path) -> None:
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        put(store, 60)
        put(store, 60)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert store._statistics.failures == 1 and sizes(store) == (60, 0)
    assert list(tmp_path.rglob("*.kv")) == []


@pytest.mark.parametrize("damage", ["truncated", "missing", "grown", "link"])
def test_a_file_that_cannot_be_read_is_forgotten(store: StateStore, damage: str, tmp_path: Path) -> None:
    first = put(store, 60)
    put(store, 60)
    assert first.file is not None
    if damage == "truncated":
        first.file.write_bytes(b"x" * 30)
    elif damage == "grown":
        first.file.write_bytes(b"x" * 61)
    else:
        first.file.unlink()
    if damage == "link":
        (tmp_path / "other").write_bytes(b"x" * 60)
        first.file.symlink_to(tmp_path / "other")
    assert store.get(first) is None
    assert sizes(store) == (60, 0) and first not in store.states


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_session_whose_file_is_damaged_is_computed_again(tmp_path: Path, damage: str) -> None:
    engine = HashEngine(sequences=1)
    manager = manager_of(engine, host_bytes=0, disk_bytes=1 << 20, disk_folder=tmp_path)
    sheets = [Sheet(manager, engine, [number, *range(30)]) for number in range(2)]
    for sheet in sheets:
        sheet.compute()
    (file,) = tmp_path.rglob("*.kv")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content if damage == "flipped" else content[:-9])
    for sheet in sheets:
        assert np.array_equal(sheet.compute(), alone(HashEngine(), sheet.tokens))  # type: ignore[arg-type]
        manager.check_integrity()
    assert manager.statistics.failures == 1 and manager.statistics.restored == 1
    manager.close()


def test_the_folder_is_private_and_goes_at_the_end(tmp_path: Path) -> None:
    folder = SpillFolder(tmp_path / "new")
    assert not (tmp_path / "new").exists(), "made on first use"
    file = folder.write(b"secret")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert folder.read(file, 6) == b"secret"
    folder.close()
    folder.close()
    assert list((tmp_path / "new").iterdir()) == []


def test_folders_of_processes_that_were_killed_are_deleted_and_others_are_not(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from updraft_cloud.context.disk import SpillFolder\n"
        "SpillFolder(Path(sys.argv[1])).write(b'left'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    (stale,) = tmp_path.iterdir()
    (tmp_path / "updraft-kv-mine").write_text("a file of somebody's")
    (tmp_path / "updraft-kv-link").symlink_to(tmp_path)
    alive = SpillFolder(tmp_path)
    kept = alive.write(b"x")
    other = SpillFolder(tmp_path)
    other.write(b"y")
    assert not stale.exists() and kept.exists()
    assert (tmp_path / "updraft-kv-mine").exists() and (tmp_path / "updraft-kv-link").is_symlink()
    alive.close()
    other.close()


def test_a_folder_that_cannot_be_made_is_a_failure_like_any(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = store_of(SpillFolder(tmp_path / "file"), host_bytes=0)
    assert store.put("", [1], b"xx") is None
    assert store._statistics.failures == 1
