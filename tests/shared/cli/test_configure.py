from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.shared.cli.conftest import Updraft
from updraft.config import CloudSettings, load_cloud_settings


def test_show_prints_every_setting_with_its_place(updraft: Updraft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDRAFT_EDGE__HTTP__PORT", "7")
    result = updraft("config", "show")
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("edge.http.port")]
    assert line.split() == ["edge.http.port", "7", "7070", "UPDRAFT_EDGE__HTTP__PORT"]
    assert any(line.startswith("cloud.drain_s") for line in result.stdout.splitlines())


def test_show_as_json_masks_secrets(updraft: Updraft, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDRAFT_CLOUD__LISTEN__TOKEN", "hunter2")
    result = updraft("config", "show", "cloud", "--json")
    assert "hunter2" not in result.output
    rows = {row["key"]: row for row in json.loads(result.stdout)}
    assert rows["cloud.listen.token"] == {
        "key": "cloud.listen.token",
        "value": "***",
        "default": None,
        "from": "UPDRAFT_CLOUD__LISTEN__TOKEN",
    }
    assert not any(key.startswith("edge.") for key in rows)


def test_show_changed_leaves_out_what_nothing_has_set(updraft: Updraft, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(updraft("config", "show", "cloud", "--changed", "--json").stdout) == []
    monkeypatch.setenv("UPDRAFT_CLOUD__DRAIN_S", "3")
    (row,) = json.loads(updraft("config", "show", "cloud", "--changed", "--json").stdout)
    assert (row["key"], row["value"]) == ("cloud.drain_s", 3.0)


def test_show_refuses_what_is_wrong(updraft: Updraft, monkeypatch: pytest.MonkeyPatch) -> None:
    assert updraft("config", "show", "sky").exit_code == 2
    monkeypatch.setenv("UPDRAFT_CLOUD__DRAINS", "3")
    result = updraft("config", "show", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "bad_configuration"


def test_path(updraft: Updraft, tmp_path: Path) -> None:
    file = tmp_path / "config" / "updraft" / "config.toml"
    assert updraft("config", "path").stdout == f"{file}\n"
    assert json.loads(updraft("config", "path", "--json").stdout) == {"path": str(file), "exists": False}
    assert updraft("config", "path", "--config", "x.toml").stdout == "x.toml\n"


def test_init_writes_a_file_once_that_only_its_owner_reads(updraft: Updraft, tmp_path: Path) -> None:
    file = tmp_path / "config" / "updraft" / "config.toml"
    assert updraft("config", "init").stdout == f"wrote {file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_cloud_settings(file) == CloudSettings()
    file.write_text("# mine")
    refused = updraft("config", "init")
    assert refused.exit_code == 2 and "exists already" in refused.stderr
    assert file.read_text() == "# mine"
    assert updraft("config", "init", "--force").exit_code == 0
    assert file.read_text() == updraft("config", "init", "--stdout").stdout


def test_init_says_where_it_cannot_write(updraft: Updraft, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = updraft("config", "init", "--config", str(tmp_path / "file" / "below.toml"))
    assert result.exit_code == 2 and "cannot be written" in result.stderr
