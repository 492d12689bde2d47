"""A tiny llama-architecture GGUF with random weights and a real byte-level BPE tokenizer, made in a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize
from numpy.typing import NDArray

from updraft.chat_template import CHATML

__all__ = ["CONTROL_TOKENS", "MERGES", "tiny_tokens", "write_tiny_model"]

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = (
    "t h", "th e", "Ġ the", "i n", "e r", "o n", "a n", "r e", "Ġ a", "Ġ t", "e n",
    "o r", "s t", "in g", "a t", "e s", "Ġ s", "l l", "o u", "an d", "Ġ and", "Ġ o",
    "Ġ w", "i t", "i s", "Ġ b", "Ġ c", "Ġ f", "l e", "Ġ in", "Ġt o", "ou r",
)  # fmt: skip
_HEAD_WIDTH = 32


def write_tiny_model(
    path: Path,
    *,
    seed: int = 0,
    layers: int = 2,
    width: int = 64,
    vocabulary: int = 320,
    noise: float = 0.0,
    context: int = 4096,
    template: str | None = CHATML,
    quantised: bool = True,
    tied: bool = False,
) -> Path:
    """Write a model that llama.cpp loads and steps in well under a millisecond.

    Args:
        path: the file to write.
        seed: of the weights; the tokenizer is always the same for one `vocabulary`.
        layers: transformer blocks.
        width: hidden width, a multiple of 64.
        vocabulary: at least 291 tokens: 3 control tokens, 256 bytes, merges, then unused ones.
        noise: relative standard deviation of noise on the weights: another model of the same family.
        context: the context length that the file names.
        template: the chat template, None for a file without one.
        quantised: matrices as Q8_0, which is bit-exact however work is cut; else as float32.
        tied: the embedding is the output matrix, too.
    """
    writer = GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_block_count(layers)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(width // _HEAD_WIDTH)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(_HEAD_WIDTH)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(7 if quantised else 0)  # mostly Q8_0, all F32
    _add_tokenizer(writer, vocabulary, template)
    weights = _weights(seed, layers, width, vocabulary, noise)
    if tied:
        del weights["output.weight"]
    for name, values in weights.items():
        if values.ndim == 1 or not quantised:
            writer.add_tensor(name, values)
        else:
            kind = GGMLQuantizationType.Q8_0  # float weights are not bit-exact between single steps and runs
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tiny_tokens() -> list[str]:
    """The tokenizer's tokens by id, without the unused ones at its end."""
    return [*CONTROL_TOKENS, *_byte_letters(), *(merge.replace(" ", "") for merge in MERGES)]


def _add_tokenizer(writer: GGUFWriter, vocabulary: int, template: str | None) -> None:
    tokens = tiny_tokens()
    if vocabulary < len(tokens):
        raise ValueError(f"vocabulary must be at least {len(tokens)}")
    types = [TokenType.CONTROL] * len(CONTROL_TOKENS) + [TokenType.NORMAL] * (len(tokens) - len(CONTROL_TOKENS))
    unused = vocabulary - len(tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*tokens, *(f"<unused{index}>" for index in range(unused))])
    writer.add_token_types([*types, *[TokenType.UNUSED] * unused])
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    if template is not None:
        writer.add_chat_template(template)


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in GPT-2's vocabulary: printable ones for themselves, others from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters, extra = [], 0
    for byte in range(256):
        if byte in printable:
            letters.append(chr(byte))
        else:
            letters.append(chr(256 + extra))
            extra += 1
    return letters


def _weights(seed: int, layers: int, width: int, vocabulary: int, noise: float) -> dict[str, NDArray[np.float32]]:
    random, other = np.random.default_rng(seed), np.random.default_rng([seed, 1])

    def matrix(rows: int, columns: int, gain: float = 1.0) -> NDArray[np.float32]:
        exact = random.standard_normal((rows, columns)) * gain / np.sqrt(columns)
        noisy: NDArray[np.float32] = (exact * (1 + noise * other.standard_normal(exact.shape))).astype(np.float32)
        return noisy

    ones = np.ones(width, np.float32)
    weights = {"token_embd.weight": matrix(vocabulary, width, gain=np.sqrt(width)), "output_norm.weight": ones}
    output = matrix(vocabulary, width, gain=4.0)  # logits with a standard deviation of 4: peaked, as in real models
    output[: len(CONTROL_TOKENS)] = 0  # answers do not end by themselves: their logit is always 0
    output[291:] = 0
    weights["output.weight"] = output
    for layer in range(layers):
        block = f"blk.{layer}"
        weights[f"{block}.attn_norm.weight"] = ones
        weights[f"{block}.attn_q.weight"] = matrix(width, width)
        weights[f"{block}.attn_k.weight"] = matrix(_HEAD_WIDTH, width)
        weights[f"{block}.attn_v.weight"] = matrix(_HEAD_WIDTH, width)
        weights[f"{block}.attn_output.weight"] = matrix(width, width)
        weights[f"{block}.ffn_norm.weight"] = ones
        weights[f"{block}.ffn_gate.weight"] = matrix(2 * width, width)
        weights[f"{block}.ffn_up.weight"] = matrix(2 * width, width)
        weights[f"{block}.ffn_down.weight"] = matrix(width, 2 * width)
    return weights
