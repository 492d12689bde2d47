"""A GGUF's byte-level BPE tokenizer as Hugging Face's `tokenizer.json`, for programs that read nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from updraft.errors import BadModelFile

__all__ = ["tokenizer_json"]

_CONTROL, _USER_DEFINED = 3, 4  # llama.cpp's token types
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}
_SPLITS = {"gpt-2": _BYTE_LEVEL, "smollm": {"type": "Sequence", "pretokenizers": [_DIGITS, _BYTE_LEVEL]}}


def tokenizer_json(source: Path) -> dict[str, Any]:
    """The contents of `tokenizer.json`.

    Raises BadModelFile for a tokenizer that is not byte-level BPE, or that splits text in a way not known here.
    """
    from gguf import GGUFReader

    fields = GGUFReader(str(source)).fields

    def value(name: str) -> Any:
        field = fields.get(f"tokenizer.ggml.{name}")
        return field.contents() if field is not None else None

    if value("model") != "gpt2" or value("pre") not in _SPLITS:
        raise BadModelFile(
            f"{source} has the tokenizer {value('model')!r}, {value('pre')!r}; there is no tokenizer.json for it here"
        )
    tokens, kinds = cast("list[str]", value("tokens")), cast("list[int]", value("token_type") or [])
    added = [(n, kind == _CONTROL) for n, kind in enumerate(kinds) if kind in (_CONTROL, _USER_DEFINED)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(number, tokens[number], special) for number, special in added],
        "normalizer": None,
        "pre_tokenizer": _SPLITS[value("pre")],
        "post_processor": None,
        "decoder": {**_BYTE_LEVEL, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in cast("list[str]", value("merges"))],
        },
    }


def _added(number: int, token: str, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": token, **flags, "special": special}
