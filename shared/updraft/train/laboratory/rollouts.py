"""Answers of a model in torch, many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from updraft.laboratory.task import Problem, prompt
from updraft.laboratory.vocabulary import END, RIGHT, WRONG, decode, encode
from updraft.train.laboratory.model import LabModel
from updraft.train.llama import Attention, Block, rotary_angles

__all__ = ["LONGEST_ANSWER", "ROWS", "answers"]

ROWS = 512
"""Answers that are best written together."""

LONGEST_ANSWER = 96
"""Tokens; those of right ones are fewer."""


@torch.inference_mode()
def answers(model: LabModel, problems: Sequence[Problem], temperature: float, seed: int = 0) -> list[str]:
    """An answer to each problem, drawn from the model's distribution, or its most probable tokens at temperature 0.

    All rows are at the same position: those whose problem is longer read on while others write.
    """
    prompts = [encode(prompt(problem)) for problem in problems]
    generator = torch.Generator().manual_seed(seed)
    decoder = _Decoder(model, len(prompts), max(map(len, prompts)) + LONGEST_ANSWER)
    rows = torch.tensor([some[0] for some in prompts])
    written: list[list[int]] = [[] for _ in prompts]
    open_rows = set(range(len(prompts)))
    for position in range(1, decoder.length):
        drawn = _drawn(decoder.step(rows), temperature, generator).tolist()
        for row, some in enumerate(prompts):
            if position < len(some):
                drawn[row] = some[position]
            elif row in open_rows:
                written[row].append(drawn[row])
                if drawn[row] == END or len(written[row]) == LONGEST_ANSWER:
                    open_rows.remove(row)
        if not open_rows:
            break
        rows = torch.tensor(drawn)
    return [decode(tokens) for tokens in written]


def _drawn(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    logits[:, [RIGHT, WRONG]] = -torch.inf
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial(F.softmax(logits / temperature, -1), 1, generator=generator)[:, 0]


class _Decoder:
    """One token a row at a time, with all keys and values before it."""

    def __init__(self, model: LabModel, rows: int, length: int) -> None:
        self._model, self.length, self._position = model, min(length, model.shape.context), 0
        shape = model.shape
        size = (shape.layers, 2, rows, shape.kv_heads, self.length, shape.head_size)
        self._cache = torch.zeros(size)
        self._rotation = rotary_angles(shape, self.length, torch.device("cpu"))

    def step(self, tokens: Tensor) -> Tensor:
        """Logits after one more token of each row, shape (rows, vocabulary)."""
        x = self._model.embedding(tokens)
        for block, cache in zip(cast("list[Block]", self._model.trunk.layers), self._cache, strict=True):
            x = x + self._attended(block.self_attn, block.input_layernorm(x), cache)
            x = x + block.mlp(block.post_attention_layernorm(x))
        self._position += 1
        logits: Tensor = self._model.trunk.norm(x) @ self._model.embedding.weight.T
        return logits

    def _attended(self, attention: Attention, x: Tensor, cache: Tensor) -> Tensor:
        shape, place = self._model.shape, self._position
        angles = tuple(part[place] for part in self._rotation)
        q, k, v = (
            part(x).view(len(x), -1, shape.head_size) for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        cache[0, :, :, place], cache[1, :, :, place] = _turned(k, angles), v
        keys, values = cache[:, :, :, : place + 1]
        mixed = F.scaled_dot_product_attention(_turned(q, angles)[:, :, None], keys, values)
        mixed_out: Tensor = attention.o_proj(mixed.reshape(len(x), -1))
        return mixed_out


def _turned(x: Tensor, angles: tuple[Tensor, ...]) -> Tensor:
    cosine, sine = angles
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine
