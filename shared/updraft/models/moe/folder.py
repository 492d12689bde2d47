"""A Hugging Face folder made of a packed mixture of experts and its trunk: what any program of the family reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.models.gguf_info import read_vocabulary
from updraft.models.moe.packed import INPUT, OUTPUT, PackedMoe
from updraft.models.moe.shape import mixtral_config
from updraft.models.staged.disk import publish, scratch_beside
from updraft.models.staged.tokenizer_file import GGUF_TOKENIZER, JSON_TOKENIZER, write_gguf_tokenizer
from updraft.models.tokenizer_json import tokenizer_json
from updraft.models.weights import read_weights

__all__ = ["write_folder"]

_SLACK_BYTES = 16 << 20


def write_folder(source: Path, moe: PackedMoe, target: Path) -> None:
    """Make the folder; it appears whole or not at all.

    In it are `config.json`, `generation_config.json`, `model.safetensors` (float16, the values that were packed), the
    trunk's tokenizer in both forms and its chat template.

    Args:
        source: the trunk as a GGUF.

    Raises:
        WrongTrunk: the mixture of experts was trained on another trunk.
        BadModelFile: the trunk or its tokenizer cannot be used.
        ConfigError: the folder cannot be written, or the disk is full.
    """
    from safetensors.numpy import save_file

    vocabulary = read_vocabulary(source)
    embedding, output = moe.matrices(read_weights(source))
    tensors: dict[str, NDArray[Any]] = {"model.embed_tokens.weight": embedding, "lm_head.weight": output}
    tensors |= {name: values for name, values in moe.tensors.items() if name not in (INPUT, OUTPUT)}
    config = mixtral_config(moe.shape, bos=vocabulary.start_token, end_tokens=vocabulary.end_tokens)
    room = 2 * sum(values.size for values in tensors.values()) + _SLACK_BYTES
    with scratch_beside(target, room) as scratch:
        made = scratch / "made"
        made.mkdir()
        _write_json(made / "config.json", config)
        ends = {name: config[name] for name in ("bos_token_id", "eos_token_id")}
        _write_json(made / "generation_config.json", ends)
        _write_json(made / JSON_TOKENIZER, tokenizer_json(source))
        template = vocabulary.chat_template
        _write_json(made / "tokenizer_config.json", _tokenizer_config(moe.shape.base.context, template))
        if template is not None:
            (made / "chat_template.jinja").write_text(template, encoding="utf-8")
        write_gguf_tokenizer(source, made / GGUF_TOKENIZER)
        save_file({name: _half(values) for name, values in tensors.items()}, made / "model.safetensors")
        publish(made, target)


def _half(values: NDArray[Any]) -> NDArray[np.float16]:
    return np.ascontiguousarray(values.astype(np.float16))


def _tokenizer_config(context: int, template: str | None) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        **({"chat_template": template} if template is not None else {}),
    }


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")
