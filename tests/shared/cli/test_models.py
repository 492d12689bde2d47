from __future__ import annotations

import json
from pathlib import Path

import pytest

import updraft.models as updraft_models
from tests.fakes.hf_model import write_hf_model
from tests.fakes.staged_model import write_exit, write_staged_model
from tests.fakes.tiny_model import write_tiny_model
from tests.shared.cli.conftest import Updraft
from updraft.models import CatalogEntry
from updraft.models.gguf_header import open_header
from updraft.models.weights import read_weights


def test_list_names_the_models_and_their_licence(updraft: Updraft) -> None:
    result = updraft("models", "list", "--json")
    models = {entry["name"]: entry for entry in json.loads(result.stdout)}
    assert {"smollm2", "smollm2-q4_0", "smollm2-student", "smollm2-exit8", "smollm2-staged"} <= models.keys()
    assert {entry["licence"] for entry in models.values()} == {"Apache-2.0"}
    table = updraft("models", "list").stdout
    assert all(name in table for name in models)


def test_show_says_what_the_file_says(updraft: Updraft, tiny_model_path: Path) -> None:
    shown = json.loads(updraft("models", "show", str(tiny_model_path), "--json").stdout)
    assert shown["path"] == str(tiny_model_path)
    assert (shown["architecture"], shown["layers"], shown["vocabulary"]) == ("llama", 2, 320)
    assert len(shown["fingerprint"]) == len(shown["tokenizer_hash"]) == 64
    assert shown["chat_template"] is True
    text = updraft("models", "show", str(tiny_model_path)).stdout
    assert shown["fingerprint"] in text and "chat template    yes" in text


def test_show_knows_the_stages_of_a_folder(updraft: Updraft, tmp_path: Path) -> None:
    manifest = write_staged_model(tmp_path / "staged")
    shown = json.loads(updraft("models", "show", str(tmp_path / "staged"), "--json").stdout)
    assert (shown["layers"], shown["stages"], shown["exits"]) == (6, ["0-1", "2-3", "4-5"], [2, 4])
    assert shown["fingerprint"] == manifest.fingerprint
    assert "0-1, 2-3, 4-5" in updraft("models", "show", str(tmp_path / "staged")).stdout


def test_show_reads_a_hugging_face_folder(updraft: Updraft, tmp_path: Path) -> None:
    folder = write_hf_model(tmp_path / "moe", "qwen3_moe")
    shown = json.loads(updraft("models", "show", str(folder), "--json").stdout)
    assert (shown["architecture"], shown["layers"], shown["quantisation"]) == ("qwen3_moe", 3, "F32")
    assert "stages" not in shown
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    result = updraft("models", "show", str(folder))
    assert result.exit_code != 0
    assert "'gpt2' is not supported; supported are llama" in result.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("entry", "state"),
    [
        (CatalogEntry("a", "", True, Path("a.gguf"), ""), "ready"),
        (CatalogEntry("a", "", True, None, ""), "made on first use"),
        (CatalogEntry("a", "", False, None, "", "export"), "needs the extra export"),
        (CatalogEntry("a", "", False, None, ""), "not installed"),
    ],
)
def test_list_says_what_a_model_needs(
    entry: CatalogEntry, state: str, updraft: Updraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updraft_models, "catalog", lambda: [entry])
    assert state in updraft("models", "list").stdout


@pytest.mark.parametrize("tied", [False, True])
def test_a_rung_becomes_a_gguf_with_the_output_matrix_asked_for(tied: bool, updraft: Updraft, tmp_path: Path) -> None:
    trunk = write_tiny_model(tmp_path / "trunk.gguf", layers=6, tied=tied)
    rung = write_exit(tmp_path / "exit.safetensors", read_weights(trunk), 2)
    made = {}
    for kind in ("Q8_0", "Q4_0"):
        target = tmp_path / f"{kind}.gguf"
        command = ("models", "export", str(trunk), str(target), "--to", "gguf", "--rung", str(rung))
        assert updraft(*command, "--output-type", kind).exit_code == 0
        with open_header(target) as header:
            made[kind] = {tensor.name: tensor.kind for tensor in header.tensors}
    q4_0, q8_0 = 2, 8  # of ggml's types
    output = "token_embd.weight" if tied else "output.weight"
    assert [made[kind][output] for kind in ("Q8_0", "Q4_0")] == [q8_0, q4_0]
    assert tied or {kinds["token_embd.weight"] for kinds in made.values()} == {q8_0}
    assert {kinds["blk.2.ffn_up.weight"] for kinds in made.values()} == {q4_0}


def test_show_refuses_unknown_names_and_damaged_files(updraft: Updraft, tmp_path: Path) -> None:
    unknown = updraft("models", "show", "gpt-17", "--json")
    assert unknown.exit_code == 2
    assert json.loads(unknown.stdout)["error"]["code"] == "unknown_name"
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    damaged = updraft("models", "show", str(tmp_path / "bad.gguf"), "--json")
    assert damaged.exit_code == 1
    assert json.loads(damaged.stdout)["error"]["code"] == "bad_model_file"
