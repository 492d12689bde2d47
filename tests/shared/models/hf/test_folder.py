from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.hf_model import hf_config, hf_weights, write_hf_model, write_safetensors
from tests.fakes.tiny_model import write_tiny_model
from updraft.errors import BadModelFile, ModelNotFound, UpdraftError
from updraft.models import model_info, read_model_info
from updraft.models.cache_size import cache_bytes
from updraft.models.hf import hf_info, is_hf_folder, open_folder
from updraft.models.hf.files import read_header

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_hf_model(tmp_path / "model", "mixtral")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_hf_model(tmp_path / "sharded", "mixtral", shards=3)


def rewritten(folder: Path, change: Callable[[dict[str, Any]], object], family: str = "mixtral") -> None:
    """Write the folder's tensors anew after a change to them."""
    weights = hf_weights(hf_config(family))
    change(weights)
    write_safetensors(folder / "model.safetensors", weights)


def with_header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON in front of a file's tensors."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_a_folder_says_what_it_is(folder: Path) -> None:
    info = model_info(folder)
    assert is_hf_folder(folder)
    assert (info.name, info.architecture, info.layers, info.quantisation) == ("model", "mixtral", 3, "F32")
    assert info.weight_bytes == sum(values.nbytes for values in hf_weights(hf_config("mixtral")).values())
    assert info.end_tokens == {2}
    assert info.chat_template is not None and "im_start" in info.chat_template
    assert len(info.fingerprint) == len(info.tokenizer_hash) == 64


def test_generation_config_and_named_templates_count(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 0, 999]}')
    templates = [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))
    info = model_info(folder)
    assert info.end_tokens == {0, 2}
    assert info.chat_template == "b"
    (folder / "chat_template.jinja").write_text("c")
    assert model_info(folder).chat_template == "c"


def test_shards_make_no_difference(folder: Path, sharded: Path) -> None:
    one, many = open_folder(folder), open_folder(sharded)
    assert (len(one.files), len(many.files)) == (1, 3)
    assert {n: p.shape for n, p in one.places.items()} == {n: p.shape for n, p in many.places.items()}
    for name, place in many.places.items():
        mapped = many.map()[place.file]
        assert mapped[place.start : place.start + place.size] == hf_weights(hf_config("mixtral"))[name].tobytes()


def test_the_fingerprint_follows_every_weight_and_the_configuration(tmp_path: Path) -> None:
    def fingerprint(name: str, **own: Any) -> str:
        return hf_info(write_hf_model(tmp_path / name, **own)).fingerprint

    first = fingerprint("a")
    weights = hf_weights(hf_config("llama"))
    weights["model.layers.1.mlp.down_proj.weight"][5, 5] += 1
    assert fingerprint("b") == first
    assert (
        len({first, fingerprint("c", weights=weights), fingerprint("d", rope_theta=5.0), fingerprint("e", seed=1)}) == 4
    )


def test_a_vocabulary_of_a_gguf_is_the_tokenizer_of_its_edges(tmp_path: Path) -> None:
    edge = read_model_info(write_tiny_model(tmp_path / "edge.gguf"))
    info = hf_info(write_hf_model(tmp_path / "cloud", "qwen3_moe", tokenizer="gguf"))
    assert (info.tokenizer_hash, info.end_tokens) == (edge.tokenizer_hash, edge.end_tokens)
    with pytest.raises(BadModelFile, match="320 tokens; its model has 300"):
        write_hf_model(tmp_path / "short", "llama", vocab_size=300)
        (tmp_path / "cloud" / "tokenizer.gguf").rename(tmp_path / "short" / "tokenizer.gguf")
        hf_info(tmp_path / "short")


def test_caches_take_what_the_type_takes(tmp_path: Path) -> None:
    folder = write_hf_model(tmp_path / "model", "qwen2", kind="BF16")
    assert cache_bytes(folder, 100, 3) == 3 * 100 * 2 * (3 * 2 * 2 * 16)
    assert cache_bytes(folder, 100, 3, dtype="float32") == 2 * cache_bytes(folder, 100, 3)
    assert cache_bytes(folder, 100, 3, dtype="float16") == cache_bytes(folder, 100, 3)


EXPERT = "model.layers.1.block_sparse_moe.experts.3.w2.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop(EXPERT), f"lacks {EXPERT}"),
        (lambda w: [w.pop(name) for name in list(w) if ".experts.3." in name], "w1.weight.* and 6 more"),
        (lambda w: w.pop("lm_head.weight"), "lacks lm_head.weight"),
        (lambda w: w.update({EXPERT.replace("3", "4"): w[EXPERT]}), "experts.4.w2.weight.*says 4 experts a layer"),
        (
            lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": np.zeros(64)}),
            "q_proj.bias; the family 'mixtral'",
        ),
        (
            lambda w: w.update({EXPERT: w[EXPERT].T}),
            rf"{EXPERT} of the shape \(96, 64\); its config.json says \(64, 96\)",
        ),
        (lambda w: w.update({EXPERT: w[EXPERT].ravel()}), r"of the shape \(6144,\)"),
    ],
    ids=["expert", "experts", "head", "spare expert", "bias", "turned", "flat"],
)
def test_tensors_that_do_not_fit_are_named(change: Callable[[Any], object], reason: str, folder: Path) -> None:
    rewritten(folder, change)
    with pytest.raises(BadModelFile, match=reason) as caught:
        open_folder(folder)
    assert caught.value.remedy


def test_needless_tensors_are_ignored(tmp_path: Path) -> None:
    folder = write_hf_model(tmp_path / "model", "llama", tie_word_embeddings=True)

    def change(weights: dict[str, Any]) -> None:
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(8)
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]

    rewritten(folder, change, "llama")
    open_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_files_are_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelNotFound, match=name):
        hf_info(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_links_are_not_followed(name: str, folder: Path, tmp_path: Path) -> None:
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(BadModelFile, match="links are not followed") as caught:
        hf_info(folder)
    assert "cp -rL" in str(caught.value.remedy)


def test_pipes_do_not_block(folder: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(BadModelFile, match="plain file"):
        open_folder(folder)


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", ".safetensors", "x.bin", "", 7, None, ["x"]]
)
def test_an_index_names_files_of_its_folder_only(name: Any, sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"]["lm_head.weight"] = name
    (sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(BadModelFile, match="no .safetensors file of its folder"):
        open_folder(sharded)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": []}', "nonsense", "\ud800"])
def test_a_useless_index_is_refused(content: str, sharded: Path) -> None:
    (sharded / INDEX).write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadModelFile, match="index"):
        open_folder(sharded)


def test_an_index_and_its_files_must_agree(sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    name = next(name for name, file in index["weight_map"].items() if file == files[0])
    index["weight_map"][name] = files[1]
    (sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(BadModelFile, match=f"{name} is in {files[1]}"):
        open_folder(sharded)
    (sharded / files[2]).unlink()
    with pytest.raises(ModelNotFound, match=files[2]):
        open_folder(sharded)


def test_a_tensor_in_two_files_is_refused(sharded: Path) -> None:
    files = sorted(sharded.glob("*.safetensors"))
    name = read_header(files[0])[0].name
    first, second = (read_header(file) for file in files[:2])
    taken = second[0]
    with_header(files[1], lambda header: header.update({name: header.pop(taken.name)}))
    assert first
    with pytest.raises(BadModelFile, match=f"{name} is in"):
        open_folder(sharded)


def _set(name: str, **values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda header: header[name].update(values)


HEAD = "lm_head.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set(HEAD, dtype="F8_E4M3"), f"'{HEAD}' is of the type 'F8_E4M3'; supported are F32, BF16, F16"),
        (_set(HEAD, dtype=["F32"]), "of the type"),
        (_set(HEAD, shape=[320, -64]), "has the shape"),
        (_set(HEAD, shape=[1] * 9), "has the shape"),
        (_set(HEAD, shape=[1 << 41]), "has the shape"),
        (_set(HEAD, shape=[320, 63]), "bytes, not 80640"),
        (_set(HEAD, data_offsets=[0]), "has the place"),
        (_set(HEAD, data_offsets=[81920, 0]), "bytes, not"),
        (_set(HEAD, data_offsets=[1 << 40, (1 << 40) + 81920]), "cut off"),
        (_set(HEAD, data_offsets=[0, 81920]), "overlap"),
        (lambda header: header.update({HEAD: "F32"}), "not described"),
    ],
)
def test_places_are_held_against_the_file(change: Callable[[Any], object], reason: str, folder: Path) -> None:
    with_header(folder / "model.safetensors", change)
    with pytest.raises(BadModelFile, match=reason):
        open_folder(folder)


def test_a_file_that_was_cut_off_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    for size in (len(data) - 1, 100, 8, 7, 0):
        path.write_bytes(data[:size])
        with pytest.raises(BadModelFile, match="safetensors"):
            open_folder(folder)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_an_error_of_ours_or_none(folder: Path, data: st.DataObject) -> None:
    path = folder / "model.safetensors"
    original = path.read_bytes()
    (length,) = struct.unpack_from("<Q", original)
    damaged = bytearray(original)
    for place in data.draw(st.lists(st.integers(0, 8 + length - 1), min_size=1, max_size=4)):
        damaged[place] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        read_header(path)
        open_folder(folder)
    except UpdraftError:
        pass
    finally:
        path.write_bytes(original)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadModelFile, match=r"model\.gguf is a file"):
        open_folder(tmp_path / "model.gguf")
