from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.graph_builder import build_graphs
from tests.fakes.staged_model import write_exit
from tests.fakes.tiny_model import write_tiny_model
from tests.shared.models.staged.staged_runs import StagedRuns, whole_logits
from updraft.errors import BadModelFile, ConfigError, MissingExtra
from updraft.models.staged import builder, export_staged
from updraft.models.staged.builder import GRAPH_FILE, block_job, build, trunk_job
from updraft.models.staged.hf_folder import write_model
from updraft.models.weights import read_weights

with_builder = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnxruntime_genai", "onnx_ir", "torch", "transformers")),
    reason="the extra `export` is not installed",
)
TOKENS = [int(token) for token in np.random.default_rng(2).integers(0, 320, 16)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    trunk = write_tiny_model(tmp_path / "tiny.gguf", layers=3, context=128)
    write_model(read_weights(trunk), tmp_path / "model", bos=1, end_tokens=[2])
    return tmp_path / "model"


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builder, "_NEEDED", ("json", "no_such_library"))
    with pytest.raises(MissingExtra, match="no_such_library") as caught:
        export_staged(tmp_path / "none.gguf", tmp_path / "staged")
    assert "updraft-llm[export]" in caught.value.remedy


@pytest.mark.parametrize(
    ("program", "error", "words"),
    [
        ("raise SystemExit(3)", BadModelFile, "status 3"),
        ("raise NotImplementedError('no such model')", BadModelFile, "no such model"),
        ("raise OSError(28, 'No space left on device')", ConfigError, "disk"),
        ("import os; os.kill(os.getpid(), 9)", BadModelFile, "status -9"),
    ],
)
def test_failures_of_the_builder_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, error: type[Exception], words: str
) -> None:
    module = tmp_path / "failing_builder.py"
    module.write_text(program)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(builder, "_PROCESS", "failing_builder")
    monkeypatch.setattr(builder, "_NEEDED", ())
    with pytest.raises(error, match=words):
        build([trunk_job(tmp_path, tmp_path / "graph")], "fp32")


def test_the_process_gets_the_jobs_and_its_steps_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "echoing_builder.py"
    module.write_text(
        "import json, os, sys\ntask = json.load(sys.stdin)\nprint('Reading layer 0')\nprint('chatter')\n"
        f"open({str(tmp_path / 'task.json')!r}, 'w').write(json.dumps([task, os.environ['HF_HUB_OFFLINE']]))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(builder, "_PROCESS", "echoing_builder")
    monkeypatch.setattr(builder, "_NEEDED", ())
    said: list[str] = []
    jobs = [trunk_job(tmp_path / "a", tmp_path / "b", [2, 4]), block_job(tmp_path / "c", tmp_path / "d")]
    build(jobs, "int8", progress=said.append)
    task, offline = json.loads((tmp_path / "task.json").read_text())
    assert (task["precision"], offline, said) == ("int8", "1", ["Reading layer 0"])
    assert task["jobs"][0]["options"]["aux_hidden_state_layers"] == "2,4"
    assert task["jobs"][1]["options"]["exclude_embeds"] == "true"
    assert [job["target"] for job in task["jobs"]] == [str(tmp_path / "b"), str(tmp_path / "d")]


@with_builder
@pytest.mark.slow
def test_the_stand_in_builds_what_the_real_builder_builds(source: Path, tmp_path: Path) -> None:
    build([trunk_job(source, tmp_path / "real", [1])], "fp32")
    build_graphs([trunk_job(source, tmp_path / "stand-in", [1])], "fp32")
    real = whole_logits(tmp_path / "real" / GRAPH_FILE, TOKENS, (1, 32))
    stand_in = whole_logits(tmp_path / "stand-in" / GRAPH_FILE, TOKENS, (1, 32))
    np.testing.assert_allclose(real, stand_in, rtol=0, atol=1e-4)


@with_builder
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int4", "int8"])
def test_stages_of_the_real_builder_are_its_uncut_graph(
    source: Path, tmp_path: Path, precision: builder.Precision
) -> None:
    trunk = tmp_path / "tiny.gguf"
    rung = write_exit(tmp_path / "exit.safetensors", read_weights(trunk), 2)
    made = export_staged(trunk, tmp_path / "staged", rungs=[rung], precision=precision, accuracy_level=1)
    assert (made.quantisation, made.accuracy_level) == (precision, 1)
    logits, exits = StagedRuns(tmp_path / "staged").run(TOKENS, 0)
    np.testing.assert_allclose(exits[0], logits, rtol=0, atol=1e-4)  # this exit is a copy of the last layer
    if precision == "fp32":
        build([trunk_job(source, tmp_path / "whole")], precision)
        np.testing.assert_allclose(
            whole_logits(tmp_path / "whole" / GRAPH_FILE, TOKENS, (1, 32)), logits, rtol=0, atol=1e-4
        )


@with_builder
@pytest.mark.slow
def test_architectures_that_the_builder_does_not_know_are_refused(source: Path, tmp_path: Path) -> None:
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "architectures": ["OddForCausalLM"]}))
    with pytest.raises(BadModelFile, match="not currently supported"):
        build([trunk_job(source, tmp_path / "graph")], "fp32")


@with_builder
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["qwen2", "gemma2"])
def test_other_architectures_give_in_stages_what_transformers_gives(tmp_path: Path, kind: str) -> None:
    """Biases in attention; norms on both sides of a layer, and layers that see a window only."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    tokens = {"vocab_size": 320, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    heads = {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256}
    torch.manual_seed(0)
    make: Any = AutoModelForCausalLM.from_config
    model = make(AutoConfig.for_model(kind, **sizes, **tokens, **heads)).float().eval()
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.05 * torch.randn_like(values))
        expected = model(torch.tensor([TOKENS])).logits[0].numpy()
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    made = export_staged(tmp_path / "model", tmp_path / "staged", cuts=[1, 3], precision="fp32")
    logits, _ = StagedRuns(tmp_path / "staged").run(TOKENS, 0)
    assert (made.architecture, len(made.stages)) == (kind, 3)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
