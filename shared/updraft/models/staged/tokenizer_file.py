"""The tokenizer of a staged model: a vocabulary-only GGUF, or a Hugging Face folder's `tokenizer.json`."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from updraft.errors import BadModelFile, ModelNotFound
from updraft.models.gguf_header import open_header
from updraft.models.gguf_info import Vocabulary, read_vocabulary

__all__ = [
    "GGUF_TOKENIZER",
    "JSON_TOKENIZER",
    "copy_json_tokenizer",
    "json_vocabulary",
    "read_json",
    "write_gguf_tokenizer",
]

GGUF_TOKENIZER, JSON_TOKENIZER = "tokenizer.gguf", "tokenizer.json"

_MAX_JSON_BYTES = 64 << 20
_COUNTS = struct.Struct("<4sIQQ")  # magic, version, tensors, key-value pairs


def write_gguf_tokenizer(source: Path, target: Path) -> Vocabulary:
    """Copy a GGUF's key-value pairs as they are, and none of its tensors."""
    with open_header(source) as header:
        _, version, _, pairs = _COUNTS.unpack_from(header.data)
        values = header.data[_COUNTS.size : header.values_end]
        alignment = header.values.get("general.alignment", 32)
        padding = -(_COUNTS.size + len(values)) % int(alignment if isinstance(alignment, int) else 32)
        target.write_bytes(_COUNTS.pack(b"GGUF", version, 0, pairs) + values + bytes(padding))
    return read_vocabulary(target, vocabulary_only=True)


def copy_json_tokenizer(folder: Path, target: Path, config: Mapping[str, Any]) -> Vocabulary:
    """Copy a folder's tokenizer.json, and gather what its other files say of end tokens and chat template."""
    vocabulary = json_vocabulary(folder, config)
    target.write_bytes((folder / JSON_TOKENIZER).read_bytes())
    return vocabulary


def json_vocabulary(folder: Path, config: Mapping[str, Any]) -> Vocabulary:
    """What a folder with a tokenizer.json says of its tokenizer.

    Raises:
        ModelNotFound: there is none.
        BadModelFile: another file of the folder cannot be read.
    """
    path = folder / JSON_TOKENIZER
    if not path.is_file():
        raise ModelNotFound(
            f"there is no {JSON_TOKENIZER} in {folder}", remedy="Save it with the tokenizer's `save_pretrained`."
        )
    generation = read_json(folder / "generation_config.json", {})
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    start = config.get("bos_token_id")
    return Vocabulary(
        tokens=int(config["vocab_size"]),
        tokenizer_hash=hashlib.sha256(path.read_bytes()).hexdigest(),
        start_token=start if isinstance(start, int) else None,
        end_tokens=frozenset(end for end in (ends if isinstance(ends, list) else [ends]) if isinstance(end, int)),
        chat_template=_template(folder),
    )


def read_json(path: Path, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ModelNotFound: no such file and no default.
        BadModelFile: not a JSON object, or of absurd size.
    """
    if default is not None and not path.is_file():
        return default
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise BadModelFile(f"{path} has more than {_MAX_JSON_BYTES} bytes")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelNotFound(f"there is no {path.name} in {path.parent}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelFile(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise BadModelFile(f"{path} is not a JSON object")
    return value


def _template(folder: Path) -> str | None:
    alone = folder / "chat_template.jinja"
    if alone.is_file():
        return alone.read_text(encoding="utf-8")
    template = read_json(folder / "tokenizer_config.json", {}).get("chat_template")
    if isinstance(template, list):  # several by name
        named = {one.get("name"): one.get("template") for one in template if isinstance(one, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
