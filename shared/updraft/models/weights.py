"""The weights of a llama-architecture model as arrays, from a GGUF file or a Hugging Face folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BadModelFile, MissingExtra, ModelNotFound
from updraft.models.gguf_header import GgufHeader, open_header
from updraft.models.gguf_info import read_model_info
from updraft.models.llama_shape import (
    BLOCK_SUFFIXES,
    FAMILY,
    LlamaShape,
    config_fault,
    gguf_name,
    permute_heads,
    shape_of_config,
    shape_of_gguf,
    unpermute_heads,
)

__all__ = ["BLOCK_SUFFIXES", "LlamaShape", "Weights", "gguf_name", "permute_heads", "read_weights"]

FloatArray = NDArray[np.float32]


class _Source(Protocol):
    def shapes(self) -> dict[str, tuple[int, ...]]: ...

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
        self._names = source.shapes().keys()

    def __getitem__(self, name: str) -> FloatArray:
        if name not in self._names:
            raise KeyError(name)
        return self._source.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all tensors by name; reads none of them."""
        return self._source.shapes()

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
        BadModelFile: not a plain llama-architecture model, or tensors that do not fit its sizes.

    Reading a tensor raises MissingExtra for one of bfloat16 in a folder without torch.
    """
    path = Path(path)
    weights = _from_folder(path) if path.is_dir() else _from_gguf(path)
    _check(path, weights)
    return weights


def _from_gguf(path: Path) -> Weights:
    info = read_model_info(path)
    if info.architecture != FAMILY:
        raise BadModelFile(f"{path} has the architecture {info.architecture!r}; only {FAMILY!r} can be read here")
    with open_header(path) as header:
        shape = shape_of_gguf(header, info.vocabulary)
        return Weights(shape, info.fingerprint, _GgufTensors(path, shape, header))


class _GgufTensors:
    """Tensors of a GGUF file; the places come from the range-checked header."""

    def __init__(self, path: Path, shape: LlamaShape, header: GgufHeader) -> None:
        self._path, self._shape = path, shape
        self._places = {place.name: place for place in header.tensors}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        named = {name: self._places.get(gguf_name(name)) for name in self._shape.tensors}
        return {name: tuple(reversed(place.shape)) for name, place in named.items() if place is not None}

    def read(self, name: str) -> FloatArray:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        place = self._places[gguf_name(name)]
        raw = np.fromfile(self._path, np.uint8, place.size, offset=place.start)
        rows = raw.reshape(*reversed(place.shape[1:]), -1)
        try:
            values = cast("FloatArray", dequantize(rows, GGMLQuantizationType(place.kind)))
        except NotImplementedError as error:
            raise BadModelFile(f"{self._path}: {place.name} has a type that cannot be read here: {error}") from error
        values = values.astype(np.float32).reshape(tuple(reversed(place.shape)))
        if name.endswith("q_proj.weight"):
            return unpermute_heads(values, self._shape.heads)
        return unpermute_heads(values, self._shape.kv_heads) if name.endswith("k_proj.weight") else values


def _from_folder(path: Path) -> Weights:
    config = _read_json(path / "config.json")
    if fault := config_fault(config):
        raise BadModelFile(f"{path}: {fault}")
    source = _FolderTensors(path)
    return Weights(shape_of_config(config), source.fingerprint(), source)


class _FolderTensors:
    """Tensors of a Hugging Face folder's safetensors files."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self._files: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for file in sorted(path.glob("*.safetensors")):
            try:
                with safe_open(file, framework="np") as opened:
                    for name in opened.keys():  # noqa: SIM118  # not a mapping
                        self._files[name] = file
                        self._shapes[name] = tuple(opened.get_slice(name).get_shape())
            except (SafetensorError, OSError) as error:
                raise BadModelFile(f"{file} is not a usable safetensors file: {error}") from error
        if not self._files:
            raise ModelNotFound(f"there are no safetensors files in {path}")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

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
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelFile(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise BadModelFile(f"{path} is not a JSON object")
    return value


def _check(path: Path, weights: Weights) -> None:
    """All tensors that the architecture needs are there and of the size that its description says."""
    found, wanted = weights.shapes(), weights.shape.tensors
    missing = [name for name in wanted if name not in found and name != "lm_head.weight"]
    if missing:
        raise BadModelFile(f"{path} lacks {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
    for name, shape in wanted.items():
        if found.get(name, shape) != shape:
            raise BadModelFile(f"{path}: {name} has the shape {found[name]}, not {shape}")
