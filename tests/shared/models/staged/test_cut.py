from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.fakes.graph_builder import build_graphs
from tests.fakes.staged_model import export_without_builder, write_exit, write_staged_model
from tests.fakes.tiny_model import write_tiny_model
from tests.shared.models.staged.staged_runs import StagedRuns, whole_logits
from updraft.errors import BadModelFile
from updraft.models.staged.builder import GRAPH_FILE, block_job, trunk_job
from updraft.models.staged.cut import cut_exit, cut_trunk, kv_layers, set_accuracy, share_embedding
from updraft.models.staged.exact import pad_attention
from updraft.models.staged.graph import Graph, attribute, read_graph
from updraft.models.staged.hf_folder import write_block, write_model
from updraft.models.weights import Weights, read_weights

TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 320, 24)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return read_weights(write_tiny_model(tmp_path_factory.mktemp("trunk") / "tiny.gguf", layers=6, context=512))


@pytest.fixture(scope="module")
def built(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole model's graph as the builder writes it, showing the streams before layers 2 and 4."""
    folder = tmp_path_factory.mktemp("built")
    write_model(weights, folder / "model", bos=1, end_tokens=[2])
    build_graphs([trunk_job(folder / "model", folder / "graph", [2, 4])], "fp32")
    return folder / "graph" / GRAPH_FILE


def _graph(built: Path) -> Graph:
    return read_graph(built)


@pytest.mark.parametrize("exact", [True, False])
def test_stages_in_sequence_are_the_uncut_graph(built: Path, tmp_path: Path, exact: bool) -> None:
    write_staged_model(tmp_path / "staged", exact=exact)
    logits, exits = StagedRuns(tmp_path / "staged").run(TOKENS, 0)
    whole = whole_logits(built, TOKENS, (1, 32))
    np.testing.assert_allclose(logits, whole, rtol=0, atol=1e-4)
    assert sorted(exits) == [0, 1]


def test_an_exit_is_the_model_of_its_layers(weights: Weights, tmp_path: Path) -> None:
    """An exit that copies trunk layer k, after k layers, gives what a model of k + 1 layers gives."""
    write_staged_model(tmp_path / "staged", exits=[2], layers=6)
    _, exits = StagedRuns(tmp_path / "staged").run(TOKENS, 0)
    write_model(weights, tmp_path / "six", bos=1, end_tokens=[2])
    short = tmp_path / "six" / "config.json"
    short.write_text(short.read_text().replace('"num_hidden_layers": 6', '"num_hidden_layers": 3'))
    build_graphs([trunk_job(tmp_path / "six", tmp_path / "graph")], "fp32")
    expected = whole_logits(tmp_path / "graph" / GRAPH_FILE, TOKENS, (1, 32))
    np.testing.assert_allclose(exits[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_exact_stages_give_the_same_bits_however_a_text_is_cut(tmp_path: Path, precision: str) -> None:
    write_staged_model(tmp_path / "staged", precision=precision)
    whole, whole_exits = StagedRuns(tmp_path / "staged").run(TOKENS, 0)
    parts = StagedRuns(tmp_path / "staged")
    at = 0
    for length in (7, 1, 1, 5, 1, 9):
        logits, exits = parts.run(TOKENS[at : at + length], at)
        np.testing.assert_array_equal(logits, whole[at : at + length])
        for stage, rows in exits.items():
            np.testing.assert_array_equal(rows, whole_exits[stage][at : at + length])
        at += length
    assert at == len(TOKENS)


def test_each_stage_has_its_own_keys_and_values(built: Path) -> None:
    stages, output = cut_trunk(_graph(built), [2, 4], 6)
    assert [kv_layers(stage.inputs) for stage in stages] == [[0, 1], [2, 3], [4, 5]]
    assert [kv_layers(stage.outputs) for stage in stages] == [[0, 1], [2, 3], [4, 5]]
    assert all({"seqlens_k", "total_sequence_length"} <= set(stage.inputs) for stage in stages)
    assert not any("attention_mask" in stage.inputs for stage in stages)
    assert (output.inputs, output.outputs) == (["features"], ["logits"])
    used = [set(piece.tensors) for piece in (*stages, output)]
    assert set.union(*used) == set(_graph(built).tensors)
    assert "lm_head.MatMul.weight" in used[3] and not any("lm_head.MatMul.weight" in names for names in used[:3])


def test_an_uncut_model_is_one_stage(built: Path, tmp_path: Path) -> None:
    manifest = write_staged_model(tmp_path / "staged", exits=[])
    assert [(stage.first, stage.last) for stage in manifest.stages] == [(0, 6)]
    logits, _ = StagedRuns(tmp_path / "staged").run(TOKENS, 0)
    np.testing.assert_allclose(logits, whole_logits(built, TOKENS, (1, 32)), rtol=0, atol=1e-4)


def test_cuts_that_the_builder_did_not_show_are_refused(built: Path) -> None:
    with pytest.raises(BadModelFile, match="residual streams"):
        cut_trunk(_graph(built), [3], 6)


def test_streams_that_come_from_elsewhere_are_refused(built: Path) -> None:
    graph = _graph(built)
    joined = graph.producer("aux_hidden_states")
    assert joined is not None
    joined.input[0] = "/model/layers.1/mlp/Mul/output_0"
    with pytest.raises(BadModelFile, match="skip-norm"):
        cut_trunk(graph, [2, 4], 6)


def test_layers_that_share_more_than_the_stream_are_refused(built: Path) -> None:
    graph = _graph(built)
    later = next(node for node in graph.nodes if node.name == "/model/layers.3/mlp/Mul")
    later.input[1] = "/model/layers.0/mlp/up_proj/MatMul/output_0"
    with pytest.raises(BadModelFile, match="more than the residual stream"):
        cut_trunk(graph, [2, 4], 6)


def test_other_attention_is_refused(built: Path) -> None:
    graph = _graph(built)
    graph.nodes[:] = [node for node in graph.nodes if node.op_type != "GroupQueryAttention"]
    with pytest.raises(BadModelFile, match="GroupQueryAttention"):
        cut_trunk(graph, [2, 4], 6)


def test_a_bias_in_the_stream_stays_in_the_earlier_stage(built: Path) -> None:
    graph = _graph(built)
    tap = next(node for node in graph.nodes if node.name == "/model/layers.2/input_layernorm/SkipLayerNorm")
    tap.input.append("model.norm.bias")
    graph.tensors["model.norm.bias"] = onnx.numpy_helper.from_array(np.ones(64, np.float32), "model.norm.bias")
    stages, _ = cut_trunk(graph, [2, 4], 6)
    assert "model.norm.bias" in stages[0].tensors
    assert "model.norm.bias" not in stages[1].tensors
    assert stages[0].nodes[-1].op_type == "SkipSimplifiedLayerNormalization"


def test_an_exit_takes_and_gives_hidden_states(weights: Weights, tmp_path: Path) -> None:
    config = write_model(weights, tmp_path / "model", bos=1, end_tokens=[2])
    write_block(config, weights.block(3), weights["model.norm.weight"], tmp_path / "block")
    build_graphs([block_job(tmp_path / "block", tmp_path / "graph")], "int4")
    piece = cut_exit(read_graph(tmp_path / "graph" / GRAPH_FILE))
    assert {"hidden_in", "past_key_values.0.key", "past_key_values.0.value"} < set(piece.inputs)
    assert piece.outputs == ["features", "present.0.key", "present.0.value"]
    set_accuracy(piece, 1)
    levels = [attribute(node, "accuracy_level") for node in piece.nodes if node.op_type == "MatMulNBits"]
    assert levels == [1] * 5
    pad_attention(piece, 32)
    assert [node.op_type for node in piece.nodes].count("Slice") == 1


@pytest.mark.parametrize("bits", [4, 8, 32])
def test_a_tied_embedding_is_read_from_the_output_matrix(tmp_path: Path, bits: int) -> None:
    trunk = read_weights(write_tiny_model(tmp_path / "tiny.gguf", layers=2))
    config = write_model(trunk, tmp_path / "model", bos=1, end_tokens=[2])
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    job = trunk_job(tmp_path / "model", tmp_path / "graph", wide_head=bits == 8)
    build_graphs([job], "fp32" if bits == 32 else "int4")
    graph = read_graph(tmp_path / "graph" / GRAPH_FILE)
    share_embedding(graph, tied=True)
    kinds = [node.op_type for node in graph.nodes]
    assert ("GatherBlockQuantized" in kinds) == (bits < 32)
    if bits < 32:
        head = graph.producer("logits")
        assert head is not None
        assert graph.bytes_of(graph.tensors["embedding"]) == graph.bytes_of(graph.tensors[head.input[1]])
        assert list(graph.tensors["embedding"].dims) == [320, 64 * bits // 8]
    share_embedding(graph, tied=False)
    assert [node.op_type for node in graph.nodes] == kinds


def test_equal_tensors_are_stored_once(tmp_path: Path) -> None:
    trunk = write_tiny_model(tmp_path / "tiny.gguf", layers=6, context=512)
    weights = read_weights(trunk)
    rungs = [write_exit(tmp_path / f"{k}.safetensors", weights, k, noise=0.1) for k in (2, 4)]
    manifest = export_without_builder(trunk, tmp_path / "staged", rungs=rungs, precision="fp32")
    assert all("shared.bin" in part.external for part in (*manifest.stages, *manifest.exits))
    caches = 2 * 512 * 16 * 4  # cosines and sines, which all five graphs with attention use
    assert manifest.files["shared.bin"].bytes < 2 * caches
    matrices = sum(value.size for name, value in weights.items() if value.ndim == 2) * 4
    blocks = 2 * sum(value.size for value in weights.block(0).values()) * 4
    stored = sum(facts.bytes for name, facts in manifest.files.items() if name.endswith(".bin"))
    assert matrices + blocks < stored < 1.1 * (matrices + blocks) + 2 * caches
