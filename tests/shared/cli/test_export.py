from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fakes.tiny_model import write_tiny_model
from tests.shared.cli.conftest import Updraft
from updraft.models import read_model_info
from updraft.models.weights import read_weights

if any(find_spec(name) is None for name in ("onnx", "safetensors")):
    pytest.skip("the extra `onnx` is not installed", allow_module_level=True)


@pytest.fixture
def trunk(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.gguf", layers=3, context=128)


@pytest.fixture
def rung(trunk: Path, tmp_path: Path) -> Path:
    from tests.fakes.staged_model import write_exit

    return write_exit(tmp_path / "exit.safetensors", read_weights(trunk), 1)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fakes.graph_builder import build_graphs
    from updraft.models.staged import export

    monkeypatch.setattr(export, "build", build_graphs)
    monkeypatch.setattr(export, "require_builder", lambda: None)


@pytest.mark.usefixtures("stand_in")
def test_a_staged_folder_is_made_and_described(updraft: Updraft, trunk: Path, rung: Path, tmp_path: Path) -> None:
    target = tmp_path / "staged"
    options = ["--rung", str(rung), "--cut", "2", "--precision", "fp32", "--json"]
    made = json.loads(updraft("models", "export", str(trunk), str(target), *options).stdout)
    assert (made["stages"], made["exits"], made["quantisation"]) == ("0-0, 1-1, 2-2", "1", "fp32")
    assert (made["path"], made["accuracy_level"], made["exact"]) == (str(target), 1, True)
    assert json.loads((target / "manifest.json").read_text())["fingerprint"] == made["fingerprint"]
    text = updraft("models", "export", str(trunk), str(tmp_path / "more"), "--accuracy", "1", "--no-exact").stdout
    assert "exits            none" in text and "stages           0-2" in text


@pytest.mark.usefixtures("stand_in")
def test_what_cannot_be_made_is_refused(updraft: Updraft, trunk: Path, rung: Path, tmp_path: Path) -> None:
    def refused(*arguments: str) -> tuple[int, str]:
        done = updraft("models", "export", str(trunk), *arguments, "--json")
        return done.exit_code, json.loads(done.stdout)["error"]["code"]

    target = str(tmp_path / "out")
    assert refused(target, "--accuracy", "2") == (2, "invalid_request")
    assert refused(target, "--head-bits", "5") == (2, "invalid_request")
    assert refused(target, "--cut", "7") == (2, "invalid_request")
    assert refused(target, "--rung", str(tmp_path / "none")) == (1, "model_not_found")
    assert refused(str(tmp_path)) == (2, "bad_configuration")
    assert refused(target, "--to", "gguf") == (2, "invalid_request")
    assert refused(target, "--to", "gguf", "--rung", str(rung), "--cut", "1") == (2, "invalid_request")
    assert updraft("models", "export", str(trunk), target, "--precision", "int3").exit_code == 2
    assert not Path(target).exists()


def test_a_gguf_is_made_of_one_rung(updraft: Updraft, trunk: Path, rung: Path, tmp_path: Path) -> None:
    target = tmp_path / "small.gguf"
    options = ["--to", "gguf", "--rung", str(rung), "--quantisation", "F16", "--json"]
    made = json.loads(updraft("models", "export", str(trunk), str(target), *options).stdout)
    info = read_model_info(target)
    assert (made["layers"], made["fingerprint"]) == (2, info.fingerprint)
