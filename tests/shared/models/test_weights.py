from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from numpy.typing import NDArray
from safetensors.torch import save_file

from tests.fakes.tiny_model import write_tiny_model
from updraft.engine import Run
from updraft.engine.llama import LlamaEngine
from updraft.errors import BadModelFile, MissingExtra, ModelNotFound
from updraft.models import read_model_info
from updraft.models.llama_shape import LlamaShape, gguf_name, permute_heads, unpermute_heads
from updraft.models.staged.hf_folder import write_model
from updraft.models.weights import BLOCK_SUFFIXES, Weights, read_weights
from updraft.train.llama import of_trunk

TOKENS = np.random.default_rng(2).integers(0, 291, 48).tolist()


@pytest.fixture(scope="module")
def exact_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in float32."""
    return write_tiny_model(tmp_path_factory.mktemp("exact") / "tiny.gguf", quantised=False)


@pytest.fixture
def folder(tmp_path: Path, exact_path: Path) -> Path:
    """The same model as a Hugging Face folder."""
    write_model(read_weights(exact_path), tmp_path / "model", bos=1, end_tokens=[2])
    return tmp_path / "model"


def _torch_logits(weights: Weights) -> NDArray[np.float32]:
    embedded = torch.from_numpy(weights["model.embed_tokens.weight"][TOKENS])[None]
    with torch.inference_mode():
        final = of_trunk(weights)(embedded)[0]
        logits: NDArray[np.float32] = (final @ torch.from_numpy(weights.output).T).numpy()
    return logits


def _llama_logits(path: Path) -> NDArray[np.float32]:
    engine = LlamaEngine(path, context=64, sequences=1, threads=1)
    try:
        return engine.forward([Run(engine.open(), 0, TOKENS, rows=len(TOKENS))])[0].logits.copy()
    finally:
        engine.shutdown()


def _config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def _copied(source: Path, target: Path, *, changed: dict[str, tuple[str, Any]] | None = None) -> GGUFWriter:
    """A writer with a GGUF's description but for what is changed: name -> (kind of `add_*`, value)."""
    writer = GGUFWriter(str(target), "llama")
    for field in GGUFReader(source).fields.values():
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", *(changed or {})):
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=field.types[-1])
    for name, (kind, value) in (changed or {}).items():
        getattr(writer, f"add_{kind}")(name, value)
    return writer


def _written(writer: GGUFWriter, target: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_what_a_gguf_says_of_its_sizes(tiny_model_path: Path) -> None:
    weights = read_weights(tiny_model_path)
    assert weights.shape == LlamaShape(2, 64, 2, 1, 32, 128, 320, 4096, 10_000.0, float(np.float32(1e-5)))
    assert weights.fingerprint == read_model_info(tiny_model_path).fingerprint
    assert {name: weights[name].shape for name in weights} == weights.shape.tensors == weights.shapes()
    assert all(weights[name].dtype == np.float32 for name in weights)
    assert len(weights) == 3 + 2 * len(BLOCK_SUFFIXES)
    with pytest.raises(KeyError):
        weights["model.layers.2.input_layernorm.weight"]


def test_the_reference_computes_what_llama_cpp_does(exact_path: Path) -> None:
    distance = np.abs(_torch_logits(read_weights(exact_path)) - _llama_logits(exact_path))
    assert distance.max() < 0.05 and distance.mean() < 0.005  # llama.cpp keeps keys and values in half precision


def test_quantised_weights_are_read_as_llama_cpp_reads_them(tiny_model_path: Path) -> None:
    own, theirs = _torch_logits(read_weights(tiny_model_path)), _llama_logits(tiny_model_path)
    assert np.abs(own - theirs).mean() < 0.1  # llama.cpp rounds activations to 8 bits, too; logits spread by 4
    assert (own.argmax(-1) == theirs.argmax(-1)).mean() > 0.9


def test_head_rows_go_to_pairs_and_back() -> None:
    matrix = np.arange(2 * 8 * 3, dtype=np.float32).reshape(16, 3)
    pairs = permute_heads(matrix, 2)
    assert pairs[:4].tolist() == matrix[[0, 4, 1, 5]].tolist()  # halves of the first head interleave
    assert (unpermute_heads(pairs, 2) == matrix).all()
    assert (permute_heads(matrix, 1) != pairs).any()


def test_query_and_key_rows_stand_in_the_file_as_llama_cpp_wants_them(exact_path: Path) -> None:
    raw = {tensor.name: tensor.data for tensor in GGUFReader(exact_path).tensors}
    weights = read_weights(exact_path)
    name = "model.layers.1.self_attn.q_proj.weight"
    assert (permute_heads(weights[name], 2) == raw["blk.1.attn_q.weight"]).all()
    assert (weights["model.layers.1.self_attn.v_proj.weight"] == raw["blk.1.attn_v.weight"]).all()


def test_names_of_llama_cpp() -> None:
    assert gguf_name("model.layers.12.mlp.gate_proj.weight") == "blk.12.ffn_gate.weight"
    assert gguf_name("lm_head.weight") == "output.weight"


def test_a_folder_reads_back_what_was_written(folder: Path, exact_path: Path) -> None:
    whole, again = read_weights(exact_path), read_weights(folder)
    assert again.shape == dataclasses.replace(whole.shape, norm_epsilon=again.shape.norm_epsilon)
    assert set(again) == set(whole)
    assert all((again[name] == whole[name]).all() for name in whole)
    assert again.fingerprint != whole.fingerprint
    assert again.fingerprint == read_weights(folder).fingerprint


def test_output_is_the_embedding_where_they_are_tied(folder: Path) -> None:
    weights = read_weights(folder)
    assert (weights.output == weights["lm_head.weight"]).all()
    tensors = {name: torch.from_numpy(weights[name]) for name in weights if name != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors")
    tied = read_weights(folder)
    assert "lm_head.weight" not in tied
    assert (tied.output == tied["model.embed_tokens.weight"]).all()


def test_weights_in_half_precision_and_in_several_files(folder: Path) -> None:
    weights = read_weights(folder)
    tensors = {name: torch.from_numpy(weights[name]) for name in weights}
    half = {name: values.to(torch.bfloat16) for name, values in list(tensors.items())[:10]}
    (folder / "model.safetensors").unlink()
    save_file(half, folder / "model-00001-of-00002.safetensors")
    save_file({n: v.half() for n, v in tensors.items() if n not in half}, folder / "model-00002-of-00002.safetensors")
    again = read_weights(folder)
    for name, values in tensors.items():
        expected = half[name] if name in half else values.half()
        assert again[name].dtype == np.float32
        assert (again[name] == expected.float().numpy()).all()


def test_bfloat16_needs_torch_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = read_weights(folder)
    tensors = {name: torch.from_numpy(weights[name]).to(torch.bfloat16) for name in weights}
    save_file(tensors, folder / "model.safetensors")
    again = read_weights(folder)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match="bfloat16"):
        again["model.norm.weight"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "qwen3"}, "only 'llama'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "scaled"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "scaled"),
        ({"rope_scaling": "linear"}, "scaled"),
        ({"attention_bias": True}, "biases"),
        ({"mlp_bias": True}, "biases"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"hidden_size": ...}, "hidden_size"),
        ({"hidden_size": "wide"}, "wide"),
        ({"hidden_size": [64]}, "usable"),
        ({"num_attention_heads": 0, "head_dim": None}, "usable"),
        ({"num_hidden_layers": 0}, "out of range"),
        ({"num_hidden_layers": 10**9}, "out of range"),
        ({"hidden_size": -64}, "out of range"),
        ({"vocab_size": 1e300}, "out of range"),
        ({"rms_norm_eps": 0}, "above 0"),
        ({"num_attention_heads": 3, "num_key_value_heads": 2}, "do not go"),
        ({"head_dim": 31}, "do not go"),
        ({"intermediate_size": 64}, "gate_proj.weight has the shape"),
        ({"vocab_size": 300}, "embed_tokens.weight has the shape"),
        ({"num_hidden_layers": 3}, "lacks model.layers.2.*and 8 more"),
    ],
)
def test_a_wrong_configuration_is_refused(folder: Path, changes: dict[str, Any], reason: str) -> None:
    _config(folder, **changes)
    with pytest.raises(BadModelFile, match=reason):
        read_weights(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": None},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}, "rope_theta": ...},
        {"num_key_value_heads": 1, "head_dim": None},
        {"hidden_act": ..., "attention_bias": ...},
    ],
)
def test_other_ways_of_saying_the_same_are_read(folder: Path, changes: dict[str, Any]) -> None:
    before = read_weights(folder).shape
    _config(folder, **changes)
    assert read_weights(folder).shape == before


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, b"\xff"])
def test_a_configuration_that_is_no_json_object_is_refused(folder: Path, content: str | bytes) -> None:
    (folder / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadModelFile):
        read_weights(folder)


def test_folders_without_configuration_or_weights(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        read_weights(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="no safetensors"):
        read_weights(folder)
    with pytest.raises(ModelNotFound):
        read_weights(tmp_path / "nothing.gguf")


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_safetensors_file_that_was_cut_off_is_refused(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadModelFile, match="not a usable safetensors file"):
        read_weights(folder)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"llama.rope.scaling.type": ("string", "yarn")}, "scaled"),
        ({"llama.rope.dimension_count": ("uint32", 16)}, "part of each head"),
        ({"llama.feed_forward_length": ("uint32", 96)}, "gate_proj.weight has the shape"),
        ({"llama.feed_forward_length": ("string", "many")}, "not a number above 0"),
        ({"llama.attention.layer_norm_rms_epsilon": ("float32", 0.0)}, "not a number above 0"),
        ({"llama.block_count": ("uint32", 3)}, "lacks model.layers.2"),
    ],
)
def test_a_gguf_that_says_something_else_is_refused(
    tmp_path: Path, exact_path: Path, fields: dict[str, tuple[str, Any]], reason: str
) -> None:
    writer = _copied(exact_path, tmp_path / "a.gguf", changed=fields)
    for tensor in GGUFReader(exact_path).tensors:
        writer.add_tensor(tensor.name, tensor.data)
    with pytest.raises(BadModelFile, match=reason):
        read_weights(_written(writer, tmp_path / "a.gguf"))


@pytest.mark.parametrize(
    ("left_out", "added", "reason"),
    [
        ("blk.1.ffn_up.weight", None, r"lacks model\.layers\.1\.mlp\.up_proj\.weight$"),
        (None, "rope_freqs.weight", "scaled"),
        (None, "blk.0.attn_q.bias", "biases"),
    ],
)
def test_a_gguf_with_other_tensors_is_refused(
    tmp_path: Path, exact_path: Path, left_out: str | None, added: str | None, reason: str
) -> None:
    writer = _copied(exact_path, tmp_path / "a.gguf")
    for tensor in GGUFReader(exact_path).tensors:
        if tensor.name != left_out:
            writer.add_tensor(tensor.name, tensor.data)
    if added:
        writer.add_tensor(added, np.ones(32, np.float32))
    with pytest.raises(BadModelFile, match=reason):
        read_weights(_written(writer, tmp_path / "a.gguf"))


def test_another_architecture_is_refused(tmp_path: Path, tiny_model_path: Path) -> None:
    data = tiny_model_path.read_bytes()
    path = tmp_path / "a.gguf"
    path.write_bytes(data.replace(b"llama", b"gemma"))
    with pytest.raises(BadModelFile, match="'gemma'"):
        read_weights(path)


def test_a_type_that_cannot_be_dequantised_is_said(tmp_path: Path, exact_path: Path) -> None:
    writer = _copied(exact_path, tmp_path / "a.gguf")
    for tensor in GGUFReader(exact_path).tensors:
        if tensor.name == "blk.0.attn_norm.weight":
            writer.add_tensor(tensor.name, tensor.data.astype(np.int32), raw_dtype=GGMLQuantizationType.I32)
        else:
            writer.add_tensor(tensor.name, tensor.data)
    weights = read_weights(_written(writer, tmp_path / "a.gguf"))
    with pytest.raises(BadModelFile, match=r"blk\.0\.attn_norm\.weight has a type"):
        weights.block(0)
