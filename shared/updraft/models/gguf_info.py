"""What a GGUF model file says about itself, checked for sense before native code loads it."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from updraft.engine.base import ModelInfo
from updraft.errors import BadModelFile
from updraft.models.gguf_header import Array, GgufHeader, open_header

__all__ = ["Vocabulary", "read_model_info", "read_vocabulary"]

_WHOLE_FILE_BYTES = 256 << 20
_SAMPLE_BYTES = 64 << 10
_MAX_VOCABULARY = 1 << 22
_SPECIAL_TOKENS = ("bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask")  # as the format spells
_END_TOKENS = ("eos", "eot", "eom")
_HASHED_ARRAYS = ("tokens", "merges", "scores", "token_type")
_HASHED_SCALARS = ("model", "pre", "bos_token_id", "eos_token_id", "eot_token_id", "add_bos_token", "add_space_prefix")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a GGUF file says of its tokenizer; fields as those of `ModelInfo`."""

    tokens: int
    tokenizer_hash: str
    start_token: int | None
    end_tokens: frozenset[int]
    chat_template: str | None


def read_vocabulary(path: str | Path, *, vocabulary_only: bool = False) -> Vocabulary:
    """Read and check a GGUF file's tokenizer; `vocabulary_only` for a file that has no tensors.

    Raises:
        ModelNotFound: no such file.
        BadModelFile: not a GGUF file, or not a usable tokenizer in it.
    """
    with open_header(Path(path), vocabulary_only=vocabulary_only) as header:
        facts = _Facts(header)
        tokens = facts.vocabulary()
        start = header.values.get("tokenizer.ggml.bos_token_id")
        return Vocabulary(
            tokens=tokens,
            tokenizer_hash=_tokenizer_hash(header),
            start_token=start if isinstance(start, int) else None,
            end_tokens=facts.end_tokens(tokens),
            chat_template=facts.text("tokenizer.chat_template"),
        )


def read_model_info(path: str | Path) -> ModelInfo:
    """Read and check a model file's header, and fingerprint its weights.

    The fingerprint covers the header and, up to 256 MiB, every byte of the tensors; of larger files the first
    and last 64 KiB of each tensor.

    Raises:
        ModelNotFound: no such file.
        BadModelFile: not a GGUF model, or numbers in it that do not fit the file or each other.
    """
    path = Path(path)
    with open_header(path) as header:
        facts = _Facts(header)
        vocabulary = facts.vocabulary()
        width = facts.whole("embedding_length", 1, 1 << 20)
        facts.check_heads(width)
        facts.check_embedding(width, vocabulary)
        return ModelInfo(
            name=path.stem,
            architecture=facts.architecture,
            layers=facts.whole("block_count", 1, 4096),
            width=width,
            vocabulary=vocabulary,
            context_length=facts.whole("context_length", 1, 1 << 30),
            weight_bytes=sum(tensor.size for tensor in header.tensors),
            quantisation=_quantisation(header),
            fingerprint=_fingerprint(header),
            tokenizer_hash=_tokenizer_hash(header),
            end_tokens=facts.end_tokens(vocabulary),
            chat_template=facts.text("tokenizer.chat_template"),
        )


class _Facts:
    """Typed reads of the header's values."""

    def __init__(self, header: GgufHeader) -> None:
        self._header = header
        self.architecture = self.text("general.architecture") or self._refuse("it names no general.architecture")

    def text(self, key: str) -> str | None:
        value = self._header.values.get(key)
        if value is not None and not isinstance(value, str):
            self._refuse(f"{key} is not a text")
        return value

    def whole(self, name: str, low: int, high: int) -> int:
        key = f"{self.architecture}.{name}"
        value = self._header.values.get(key)
        if type(value) is not int or not low <= value <= high:
            self._refuse(f"{key} is {value!r}, not a whole number from {low} to {high}")
        return value

    def vocabulary(self) -> int:
        tokens = self._array("tokenizer.ggml.tokens")
        count = tokens.count if tokens else 0
        if not 1 <= count <= _MAX_VOCABULARY:
            self._refuse(f"its tokenizer has {count} tokens; 1 to {_MAX_VOCABULARY} are allowed")
        for name in ("token_type", "scores"):
            array = self._array(f"tokenizer.ggml.{name}")
            if array is not None and array.count != count:
                self._refuse(f"tokenizer.ggml.{name} has {array.count} items for {count} tokens")
        for name in _SPECIAL_TOKENS:
            token = self._header.values.get(f"tokenizer.ggml.{name}_token_id")
            if token is not None and (type(token) is not int or not 0 <= token < count):
                self._refuse(f"tokenizer.ggml.{name}_token_id is {token!r}, not a token of {count}")
        return count

    def end_tokens(self, vocabulary: int) -> frozenset[int]:
        found = (self._header.values.get(f"tokenizer.ggml.{name}_token_id") for name in _END_TOKENS)
        return frozenset(token for token in found if isinstance(token, int) and token < vocabulary)

    def check_heads(self, width: int) -> None:
        """Native code divides by these."""
        for name in ("attention.head_count", "attention.head_count_kv"):
            key = f"{self.architecture}.{name}"
            value = self._header.values.get(key, 1)  # not every architecture has attention
            counts = self._header.numbers(value) if isinstance(value, Array) and value.kind != 8 else [value]
            if not all(type(count) is int and 0 <= count <= width for count in counts) or not any(counts):
                self._refuse(f"{key} is not a number of heads from 1 to {width}")

    def check_embedding(self, width: int, vocabulary: int) -> None:
        shape = next((t.shape for t in self._header.tensors if t.name == "token_embd.weight"), None)
        if shape != (width, vocabulary):
            self._refuse(f"token_embd.weight has the shape {shape}; width and vocabulary say {(width, vocabulary)}")

    def _array(self, key: str) -> Array | None:
        value = self._header.values.get(key)
        if value is not None and not isinstance(value, Array):
            self._refuse(f"{key} is not an array")
        return value

    def _refuse(self, reason: str) -> NoReturn:
        raise BadModelFile(f"{self._header.path} is not a usable model: {reason}")


def _quantisation(header: GgufHeader) -> str:
    """The type that holds most of the layers' bytes: a shallow model's embedding can be larger than its layers."""
    from gguf.constants import GGMLQuantizationType

    sizes: Counter[int] = Counter()
    layers = [tensor for tensor in header.tensors if tensor.name.startswith("blk.")]
    for tensor in layers or header.tensors:
        sizes[tensor.kind] += tensor.size
    return str(GGMLQuantizationType(sizes.most_common(1)[0][0]).name)


def _fingerprint(header: GgufHeader) -> str:
    digest = hashlib.sha256()
    view = memoryview(header.data)
    try:
        if len(view) <= _WHOLE_FILE_BYTES:
            digest.update(view)
        else:
            digest.update(len(view).to_bytes(8, "little"))
            digest.update(view[: header.data_start])
            for tensor in header.tensors:
                end = tensor.start + tensor.size
                digest.update(view[tensor.start : min(end, tensor.start + _SAMPLE_BYTES)])
                digest.update(view[max(tensor.start, end - _SAMPLE_BYTES) : end])
    finally:
        view.release()
    return digest.hexdigest()


def _tokenizer_hash(header: GgufHeader) -> str:
    """Equal for all files of one tokenizer, however their weights are quantised."""
    digest = hashlib.sha256()
    for name in _HASHED_SCALARS:
        digest.update(f"{name}={header.values.get(f'tokenizer.ggml.{name}')!r}\n".encode())
    for name in _HASHED_ARRAYS:
        value = header.values.get(f"tokenizer.ggml.{name}")
        if isinstance(value, Array):
            digest.update(f"{name}:{value.kind}:{value.count}\n".encode())
            digest.update(header.data[value.start : value.end])
    return digest.hexdigest()
