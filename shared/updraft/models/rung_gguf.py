"""A rung of the ladder as a GGUF file that llama.cpp runs as an ordinary small model."""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BadModelFile, ConfigError, EngineFailure
from updraft.models.gguf_header import open_header
from updraft.models.gguf_info import read_model_info
from updraft.models.rungs import Rung, layers_text
from updraft.models.weights import BLOCK_SUFFIXES, LlamaShape, Weights, gguf_name, permute_heads, read_weights

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter

__all__ = ["OutputType", "Quantisation", "export_gguf", "requantise"]

Quantisation = Literal["Q4_0", "Q4_1", "Q8_0", "F16", "F32"]
OutputType = Literal["Q4_0", "Q8_0", "F16", "F32"]

_FTYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7}  # enum llama_ftype
_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8}  # enum ggml_type
_SLACK_BYTES = 16 << 20
_TABLES = ("model.embed_tokens.weight", "lm_head.weight")


def export_gguf(
    trunk: Path,
    rung: Rung,
    target: Path,
    *,
    quantisation: Quantisation = "Q4_0",
    output_type: OutputType = "Q8_0",
) -> None:
    """Assemble a rung from its trunk.

    Args:
        trunk: the GGUF that the rung was trained on; its tokenizer and chat template go into the new file.
        target: the file to make; it appears whole or not at all.
        quantisation: of the layers.
        output_type: of the output matrix, as of `requantise`.

    Raises:
        WrongTrunk: the rung was trained on another model.
        BadModelFile: the trunk is not a llama-architecture GGUF, or the rung's tensors do not fit it.
        ConfigError: the target is the trunk itself, or its folder cannot be written or is full.
        EngineFailure: llama.cpp could not quantise it.
    """
    weights = read_weights(trunk)
    rung.check_trunk(weights)
    if trunk.is_dir():
        raise BadModelFile(
            f"{trunk} is a folder; a GGUF is made from a GGUF", remedy="Convert it with llama.cpp first."
        )
    if target.exists() and target.samefile(trunk):
        raise ConfigError(f"{target} is the trunk itself", remedy="Choose another file to write.")
    whole = _temporary(target, _room(weights, rung))
    try:
        _write(trunk, weights, rung, whole)
        if quantisation == "F16":
            whole.replace(target)
        else:
            requantise(whole, target, quantisation, output_type=output_type)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        whole.unlink(missing_ok=True)


def requantise(source: Path, target: Path, quantisation: Quantisation, *, output_type: OutputType = "Q8_0") -> None:
    """Quantise a GGUF with llama.cpp, or widen it to F16 or F32; an embedding of its own stays at 8 bits.

    Args:
        output_type: of the output matrix, and of the embedding where the two are one. In a shallow model this matrix
            is most of the work of a token, and Q4_0 takes about half the time of Q8_0.

    Raises ConfigError if the target cannot be written, EngineFailure if llama.cpp fails.
    """
    from updraft.engine.llama_native import library

    lib = library()
    read_model_info(source)  # range checks before native code reads it
    made = _temporary(target, source.stat().st_size)
    params = lib.llama_model_quantize_default_params()
    params.ftype = _FTYPES[quantisation]
    params.output_tensor_type = _TYPES[output_type]
    params.token_embedding_type = _TYPES[output_type if _is_tied(source) else "Q8_0"]
    params.allow_requantize = True
    params.nthread = os.cpu_count() or 1
    try:
        status = lib.llama_model_quantize(os.fsencode(source), os.fsencode(made), ctypes.byref(params))
        if status != 0:
            raise EngineFailure(f"llama.cpp could not requantise {source} (status {status})")
        try:
            read_model_info(made)
        except BadModelFile as error:
            raise EngineFailure(f"llama.cpp wrote a damaged file: {error}") from error
        try:
            made.replace(target)  # all at once: another process sees the whole file or none
        except OSError as error:
            raise _unwritable(target, error) from error
    finally:
        made.unlink(missing_ok=True)


def _is_tied(source: Path) -> bool:
    """Whether the embedding is the output matrix, too."""
    with open_header(source) as header:
        return all(tensor.name != "output.weight" for tensor in header.tensors)


def _room(weights: Weights, rung: Rung) -> int:
    """Bytes of the file in half precision."""
    shapes = weights.shapes()
    tables = [math.prod(shapes[name]) for name in _TABLES if name in shapes]
    block = sum(math.prod(shape) for shape in weights.shape.block.values())
    return 2 * (sum(tables) + len(rung.sources) * block) + _SLACK_BYTES


def _write(trunk: Path, weights: Weights, rung: Rung, target: Path) -> None:
    from gguf import GGUFReader, GGUFWriter
    from gguf.constants import GGMLQuantizationType

    writer = GGUFWriter(str(target), "llama")
    _copy_fields(GGUFReader(str(trunk)), writer, rung)
    shape = weights.shape
    for name in _TABLES:
        if name in weights:
            writer.add_tensor(gguf_name(name), weights[name].astype(np.float16))
    writer.add_tensor("output_norm.weight", rung.norm)
    for index in range(len(rung.sources)):
        for suffix, values in rung.block(index, weights).items():
            kind = GGMLQuantizationType.F32 if values.ndim == 1 else GGMLQuantizationType.F16
            tensor = _as_llama(suffix, values, shape).astype(np.float32 if values.ndim == 1 else np.float16)
            writer.add_tensor(f"blk.{index}.{BLOCK_SUFFIXES[suffix]}", tensor, raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _as_llama(suffix: str, values: NDArray[np.float32], shape: LlamaShape) -> NDArray[np.float32]:
    if suffix == "self_attn.q_proj.weight":
        return permute_heads(values, shape.heads)
    return permute_heads(values, shape.kv_heads) if suffix == "self_attn.k_proj.weight" else values


def _copy_fields(reader: GGUFReader, writer: GGUFWriter, rung: Rung) -> None:
    """The trunk's description but for what the rung changes."""
    from gguf import GGUFValueType

    changed = {
        "general.name": f"{rung.kind} of {len(rung.sources)} layers ({layers_text(rung.sources)})",
        "llama.block_count": len(rung.sources),
    }
    left_out = ("general.architecture", "general.file_type", "general.quantization_version", "general.alignment")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in left_out:
            continue
        value = changed.get(field.name, field.contents())
        kind = field.types[0]
        items = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, value, kind, sub_type=items)


def _temporary(target: Path, room: int) -> Path:
    """A new file beside the target, which must have room for it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < room:
            raise ConfigError(
                f"{target.parent} has {free >> 20} MiB free; {target.name} needs {room >> 20} MiB to be made",
                remedy="Free some room, or choose another folder (UPDRAFT_CACHE_DIR for files made on first use).",
            )
        handle, name = tempfile.mkstemp(prefix=".making-", suffix=".gguf", dir=target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    os.close(handle)
    return Path(name)


def _unwritable(target: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{target} cannot be written: {error.strerror or error}",
        remedy="Choose a folder with room that this user can write (UPDRAFT_CACHE_DIR for files made on first use).",
    )
