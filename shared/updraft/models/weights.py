"""The weights of a llama-architecture model as arrays, from a GGUF file or a Hugging Face folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BadModelFile, MissingExtra, ModelNotFound
from updraft.models.gguf_header import GgufHeader, open_header
from updraft.models.gguf_info import read_model_info

__all__ = ["BLOCK_SUFFIXES", "LlamaShape", "Weights", "gguf_name", "permute_heads", "read_weights"]

FloatArray = NDArray[np.float32]

# A block's tensors: Hugging Face's names and llama.cpp's.
BLOCK_SUFFIXES = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
_OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_FAMILY = "llama"


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """Sizes of a llama-architecture model; counts, but for the last two."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    context: int
    rope_theta: float
    norm_epsilon: float


class _Source(Protocol):
    def names(self) -> frozenset[str]: ...

    def read(self, name: str) -> FloatArray: ...


class Weights(Mapping[str, FloatArray]):
    """Tensors by their Hugging Face names, each read (and dequantised) when asked for.

    Attributes:
        shape: the model's sizes.
        fingerprint: as `ModelInfo.fingerprint` for a GGUF; the digest of the weights' index for a folder.
    """

    def __init__(self, shape: LlamaShape, fingerprint: str, source: _Source) -> None:
        self.shape = shape
        self.fingerprint = fingerprint
        self._source = source
        self._names = source.names()

    def __getitem__(self, name: str) -> FloatArray:
        if name not in self._names:
            raise KeyError(name)
        return self._source.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)

    def block(self, layer: int) -> dict[str, FloatArray]:
        """The tensors of one layer by their suffixes (keys of `BLOCK_SUFFIXES`)."""
        return {suffix: self[f"model.layers.{layer}.{suffix}"] for suffix in BLOCK_SUFFIXES}

    @property
    def output(self) -> FloatArray:
        """The output matrix, shape (vocabulary, width); the embedding where the two are tied."""
        return self["lm_head.weight" if "lm_head.weight" in self else "model.embed_tokens.weight"]


def read_weights(path: Path) -> Weights:
    """Open a model's weights.

    Raises:
        ModelNotFound: nothing is there.
        BadModelFile: not a llama-architecture model, or tensors that do not fit its sizes.
        MissingExtra: a folder of bfloat16 weights without torch.
    """
    path = Path(path)
    weights = _from_folder(path) if path.is_dir() else _from_gguf(path)
    _check(path, weights)
    return weights


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor."""
    if name in _OUTER:
        return _OUTER[name]
    _, _, layer, suffix = name.split(".", 3)
    return f"blk.{layer}.{BLOCK_SUFFIXES[suffix]}"


def permute_heads(matrix: FloatArray, heads: int) -> FloatArray:
    """Reorder the rows of a query or key matrix from Hugging Face's rotary halves to llama.cpp's rotary pairs."""
    rows, columns = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _unpermute_heads(matrix: FloatArray, heads: int) -> FloatArray:
    rows, columns = matrix.shape
    return matrix.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _from_gguf(path: Path) -> Weights:
    info = read_model_info(path)
    if info.architecture != _FAMILY:
        raise BadModelFile(f"{path} has the architecture {info.architecture!r}; only {_FAMILY!r} can be read here")
    with open_header(path) as header:
        shape = _gguf_shape(header, info.vocabulary)
        return Weights(shape, info.fingerprint, _GgufTensors(path, shape, header))


def _gguf_shape(header: GgufHeader, vocabulary: int) -> LlamaShape:
    def number(key: str, default: float | None = None) -> float:
        value = header.values.get(f"{_FAMILY}.{key}", default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise BadModelFile(f"{header.path}: {_FAMILY}.{key} is {value!r}, not a number above 0")
        return value

    width, heads = int(number("embedding_length")), int(number("attention.head_count"))
    return LlamaShape(
        layers=int(number("block_count")),
        width=width,
        heads=heads,
        kv_heads=int(number("attention.head_count_kv", heads)),
        head_size=int(number("attention.key_length", width // heads)),
        feed_forward=int(number("feed_forward_length")),
        vocabulary=vocabulary,
        context=int(number("context_length")),
        rope_theta=float(number("rope.freq_base", 10_000.0)),
        norm_epsilon=float(number("attention.layer_norm_rms_epsilon")),
    )


class _GgufTensors:
    """Tensors of a GGUF file; the places come from the range-checked header."""

    def __init__(self, path: Path, shape: LlamaShape, header: GgufHeader) -> None:
        from gguf.constants import GGMLQuantizationType

        self._path, self._shape = path, shape
        self._places = {
            place.name: (place.start, place.size, place.shape, GGMLQuantizationType(place.kind))
            for place in header.tensors
        }

    def names(self) -> frozenset[str]:
        wanted = [*_OUTER, *(f"model.layers.{n}.{s}" for n in range(self._shape.layers) for s in BLOCK_SUFFIXES)]
        return frozenset(name for name in wanted if gguf_name(name) in self._places)

    def read(self, name: str) -> FloatArray:
        from gguf.quants import dequantize

        start, size, shape, kind = self._places[gguf_name(name)]
        raw = np.fromfile(self._path, np.uint8, size, offset=start)
        rows = raw.reshape(*reversed(shape[1:]), -1) if len(shape) > 1 else raw
        values = cast("FloatArray", dequantize(rows, kind)).astype(np.float32).reshape(tuple(reversed(shape)))
        if name.endswith("q_proj.weight"):
            return _unpermute_heads(values, self._shape.heads)
        return _unpermute_heads(values, self._shape.kv_heads) if name.endswith("k_proj.weight") else values


def _from_folder(path: Path) -> Weights:
    config = _read_json(path / "config.json")
    if config.get("model_type") != _FAMILY:
        raise BadModelFile(f"{path} has the model type {config.get('model_type')!r}; only {_FAMILY!r} can be read here")
    try:
        shape = _folder_shape(config)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise BadModelFile(f"{path / 'config.json'} lacks a usable {error}") from error
    source = _FolderTensors(path)
    return Weights(shape, source.fingerprint(), source)


def _folder_shape(config: dict[str, Any]) -> LlamaShape:
    width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    rope = config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta") or 10_000.0
    return LlamaShape(
        layers=int(config["num_hidden_layers"]),
        width=width,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or width // heads),
        feed_forward=int(config["intermediate_size"]),
        vocabulary=int(config["vocab_size"]),
        context=int(config["max_position_embeddings"]),
        rope_theta=float(rope),
        norm_epsilon=float(config["rms_norm_eps"]),
    )


class _FolderTensors:
    """Tensors of a Hugging Face folder's safetensors files."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._files: dict[str, Path] = {}
        for file in sorted(path.glob("*.safetensors")):
            with safe_open(file, framework="np") as opened:
                self._files.update(dict.fromkeys(opened.keys(), file))
        if not self._files:
            raise ModelNotFound(f"there are no safetensors files in {path}")

    def names(self) -> frozenset[str]:
        return frozenset(self._files)

    def fingerprint(self) -> str:
        import hashlib

        digest = hashlib.sha256()
        for file in sorted(set(self._files.values())):
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        return digest.hexdigest()

    def read(self, name: str) -> FloatArray:
        from safetensors import safe_open

        with safe_open(self._files[name], framework="np") as opened:
            if opened.get_slice(name).get_dtype() != "BF16":  # numpy has no such type
                return np.asarray(opened.get_tensor(name), np.float32)
        try:
            import torch
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"{self._files[name]} holds bfloat16 weights, which need torch",
                remedy='pip install "updraft-llm[train]"',
            ) from error
        with safe_open(self._files[name], framework="pt") as opened:
            return cast("FloatArray", opened.get_tensor(name).to(torch.float32).numpy())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelNotFound(f"there is no {path.name} in {path.parent}") from None
    except (OSError, ValueError) as error:
        raise BadModelFile(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise BadModelFile(f"{path} is not a JSON object")
    return value


def _check(path: Path, weights: Weights) -> None:
    """All tensors that the architecture needs are there; each one's size is checked where it is used."""
    needed = ["model.embed_tokens.weight", "model.norm.weight"]
    needed += [f"model.layers.{n}.{s}" for n in range(weights.shape.layers) for s in BLOCK_SUFFIXES]
    missing = [name for name in needed if name not in weights]
    if missing:
        raise BadModelFile(f"{path} lacks {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
