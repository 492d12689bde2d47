"""Files that are read again when they change, and never replaced by something that is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from updraft.errors import ConfigError
from updraft.transport.reload import Reloaded


def held(path: Path) -> Reloaded[str]:
    def load() -> str:
        if not path.exists() or not path.read_text().isalpha():
            raise ConfigError(f"{path.name} is wrong.")
        return path.read_text()

    return Reloaded("things", [path], load)


def test_what_is_wrong_at_first_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        held(tmp_path / "missing")


def test_a_change_is_seen_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    things = held(path)
    assert not things.refresh()
    path.write_text("another")
    assert things.refresh() and things.value == "another"
    assert not things.refresh()


def test_a_file_of_the_same_size_and_time_that_takes_its_place_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    things = held(path)
    before = path.stat()
    fresh = tmp_path / "fresh"
    fresh.write_text("two")
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(path)
    assert things.refresh() and things.value == "two"


def test_a_mounted_secret_that_is_swapped_by_its_link_is_seen(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "data").symlink_to("one")
    things = held(tmp_path / "data" / "file")
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(tmp_path / "data")
    assert things.refresh() and things.value == "two"


def test_wrong_content_leaves_the_old_and_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    things = held(path)
    path.write_text("wrong 1")
    assert not things.refresh() and not things.refresh()
    path.unlink()
    assert not things.refresh() and not things.refresh()
    assert things.value == "one"
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 2 and all("things" in line and "old" in line for line in lines)
    path.write_text("three")
    assert things.refresh() and things.value == "three"
