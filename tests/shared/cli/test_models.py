from __future__ import annotations

import json
from pathlib import Path

from tests.shared.cli.conftest import Updraft


def test_list_names_the_models_and_their_licence(updraft: Updraft) -> None:
    result = updraft("models", "list", "--json")
    models = {entry["name"]: entry for entry in json.loads(result.stdout)}
    assert {"smollm2", "smollm2-q4_0"} <= models.keys()
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


def test_show_refuses_unknown_names_and_damaged_files(updraft: Updraft, tmp_path: Path) -> None:
    unknown = updraft("models", "show", "gpt-17", "--json")
    assert unknown.exit_code == 2
    assert json.loads(unknown.stdout)["error"]["code"] == "unknown_name"
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    damaged = updraft("models", "show", str(tmp_path / "bad.gguf"), "--json")
    assert damaged.exit_code == 1
    assert json.loads(damaged.stdout)["error"]["code"] == "bad_model_file"
