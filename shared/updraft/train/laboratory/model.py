"""A small llama with an embedding of its own, which is its output matrix, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from updraft.errors import BadModelFile
from updraft.laboratory.vocabulary import TOKENS
from updraft.models.llama_shape import LlamaShape
from updraft.models.weights import read_weights
from updraft.train.llama import Block, Llama, of_trunk

__all__ = ["CONTEXT", "LabModel", "deepened", "lab_shape", "read_lab_model"]

CONTEXT = 2048  # what the settings ask for by default; problems with their answers have 73 tokens at most
_HEAD_SIZE = 32


def lab_shape(layers: int, width: int, feed_forward: int) -> LlamaShape:
    """Sizes of a model of the family; matrices' rows are multiples of 32, which 8-bit blocks ask for."""
    heads = width // _HEAD_SIZE
    return LlamaShape(layers, width, heads, heads, _HEAD_SIZE, feed_forward, len(TOKENS), CONTEXT, 10_000.0, 1e-5)


class LabModel(nn.Module):
    """Tokens to logits over the vocabulary."""

    def __init__(self, shape: LlamaShape, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(shape.vocabulary, shape.width)
            self.trunk = Llama(shape, shape.layers)
            nn.init.normal_(self.embedding.weight, std=shape.width**-0.5)
        self.shape = shape

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of shape (batch, length, vocabulary) of tokens of shape (batch, length)."""
        return cast("Tensor", self.trunk(self.embedding(tokens)) @ self.embedding.weight.T)


@torch.no_grad()
def deepened(model: LabModel, layers: int, seed: int = 0) -> LabModel:
    """The same function with so many layers more on top, which add nothing until they are trained.

    What a model works out in its last layer, such as the next digit, no later position can see. Layers on top can:
    those of a reward model compare what was to be written with what was.
    """
    deep = LabModel(replace(model.shape, layers=model.shape.layers + layers), seed)
    deep.embedding.load_state_dict(model.embedding.state_dict())
    deep.trunk.norm.load_state_dict(model.trunk.norm.state_dict())
    for place, layer in enumerate(cast("list[Block]", deep.trunk.layers)):
        if place < model.shape.layers:
            layer.load_state_dict(model.trunk.layers[place].state_dict())
        else:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return deep


def read_lab_model(path: Path) -> LabModel:
    """A model of the family from its GGUF, in float32.

    Raises ModelNotFound or BadModelFile: it is not there, or not a model in the family's vocabulary.
    """
    weights = read_weights(path)
    if weights.shape.vocabulary != len(TOKENS):
        raise BadModelFile(f"{path} has {weights.shape.vocabulary} tokens; the laboratory's models have {len(TOKENS)}")
    model = LabModel(weights.shape, 0)
    model.trunk = of_trunk(weights)
    model.embedding.weight.data = torch.from_numpy(weights["model.embed_tokens.weight"])
    return model.eval()
