"""A trained model of the laboratory as a GGUF file, and as a Hugging Face folder with a score head."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from updraft.laboratory.vocabulary import CHAT_TEMPLATE, END, MERGES, RIGHT, TOKENS, WRONG
from updraft.models.llama_shape import LlamaShape, gguf_name, permute_heads
from updraft.models.staged.tokenizer_file import GGUF_TOKENIZER, JSON_TOKENIZER, write_gguf_tokenizer
from updraft.models.tokenizer_json import tokenizer_json
from updraft.models.weights import read_weights
from updraft.train.laboratory.model import LabModel
from updraft.train.llama import block_arrays

if TYPE_CHECKING:
    from gguf import GGUFWriter

__all__ = ["write_gguf", "write_score_folder"]

FloatArray = NDArray[np.float32]

_CONTROLS = (END, RIGHT, WRONG)
_FTYPE = 7  # mostly Q8_0


def write_gguf(model: LabModel, name: str, path: Path) -> None:
    """Matrices in Q8_0, which the engine computes alike however work is cut. `path` appears whole or not at all."""
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    new = path.with_suffix(".new")
    writer = GGUFWriter(str(new), "llama")
    try:
        _describe(writer, model.shape, name)
        for tensor, values in _arrays(model).items():
            if values.ndim == 1:
                writer.add_tensor(tensor, values)
            else:
                kind = GGMLQuantizationType.Q8_0
                writer.add_tensor(tensor, quantize(values, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    new.replace(path)


def _describe(writer: GGUFWriter, shape: LlamaShape, name: str) -> None:
    from gguf import TokenType

    writer.add_name(name)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_file_type(_FTYPE)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(TOKENS))
    writer.add_token_types([TokenType.CONTROL if n in _CONTROLS else TokenType.NORMAL for n in range(len(TOKENS))])
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(END)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _arrays(model: LabModel) -> dict[str, FloatArray]:
    """All tensors by llama.cpp's names, in its order of rows."""
    shape = model.shape
    named = {
        "model.embed_tokens.weight": model.embedding.weight.detach().numpy(),
        "model.norm.weight": model.trunk.norm.weight.detach().numpy(),
    }
    for layer, block in enumerate(model.trunk.layers):
        for suffix, values in block_arrays(block).items():
            heads = {"self_attn.q_proj.weight": shape.heads, "self_attn.k_proj.weight": shape.kv_heads}.get(suffix)
            named[f"model.layers.{layer}.{suffix}"] = permute_heads(values, heads) if heads else values
    return {gguf_name(name): np.ascontiguousarray(values) for name, values in named.items()}


def write_score_folder(reward: Path, folder: Path) -> None:
    """The reward model as Hugging Face's `LlamaForTokenClassification` would read it: a score a token, one label.

    The score after a step is the logit of its being right: its weights are the difference of the verdicts' output rows.
    The tokenizer is there in both forms, `tokenizer.json` and Updraft's own.

    Args:
        reward: the reward model's GGUF.
        folder: is made if it is not there; its files are replaced.

    Raises ModelNotFound or BadModelFile: `reward` is not there, or not a model of the plain llama architecture.
    """
    from safetensors.numpy import save_file

    weights = read_weights(reward)
    tensors = {name: weights[name] for name in weights}
    table = tensors["model.embed_tokens.weight"]
    tensors["score.weight"] = (table[RIGHT] - table[WRONG])[None]
    tensors["score.bias"] = np.zeros(1, np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(_config(weights.shape), indent=2) + "\n", encoding="utf-8")
    (folder / JSON_TOKENIZER).write_text(json.dumps(tokenizer_json(reward), ensure_ascii=False), encoding="utf-8")
    write_gguf_tokenizer(reward, folder / GGUF_TOKENIZER)


def _config(shape: LlamaShape) -> Mapping[str, object]:
    return {
        "architectures": ["LlamaForTokenClassification"],
        "model_type": "llama",
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_size,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.norm_epsilon,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": END,
        "eos_token_id": END,
        "num_labels": 1,
        "id2label": {"0": "right"},
        "label2id": {"right": 0},
        "torch_dtype": "float32",
    }
