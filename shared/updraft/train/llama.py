"""The llama architecture in torch: the reference that exports are held against, and what training trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from updraft.models.rungs import Rung
from updraft.models.weights import LlamaShape, Weights

__all__ = ["Attention", "Block", "Llama", "Norm", "block_arrays", "of_rung", "of_trunk", "rotary_angles"]

FloatArray = NDArray[np.float32]


class Norm(nn.Module):
    """Root-mean-square norm, computed in float32 (Zhang and Sennrich, arXiv 1910.07467)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.epsilon)


class Attention(nn.Module):
    """Grouped-query causal attention with rotary positions in Hugging Face's order of halves."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
        self.q_proj = nn.Linear(shape.width, queries, bias=False)
        self.k_proj = nn.Linear(shape.width, keys, bias=False)
        self.v_proj = nn.Linear(shape.width, keys, bias=False)
        self.o_proj = nn.Linear(queries, shape.width, bias=False)
        self._shape = shape

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        batch, length, _ = x.shape
        shape = self._shape

        def heads(values: Tensor, count: int) -> Tensor:
            return values.view(batch, length, count, shape.head_size).transpose(1, 2)

        q = _rotated(heads(self.q_proj(x), shape.heads), rotation)
        k = _rotated(heads(self.k_proj(x), shape.kv_heads), rotation)
        v = heads(self.v_proj(x), shape.kv_heads)
        repeats = shape.heads // shape.kv_heads
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        mixed = _attended(q, k, v)
        return cast("Tensor", self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1)))


class FeedForward(nn.Module):
    """SwiGLU (Shazeer, arXiv 2002.05202)."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)))


class Block(nn.Module):
    """One transformer layer; parameter names are Hugging Face's suffixes."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.width, shape.norm_epsilon)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.width, shape.norm_epsilon)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotation)
        return cast("Tensor", x + self.mlp(self.post_attention_layernorm(x)))


class Llama(nn.Module):
    """Blocks and a final norm. Embedding and output matrix stand outside, since no rung trains them."""

    def __init__(self, shape: LlamaShape, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(shape) for _ in range(layers))
        self.norm = Norm(shape.width, shape.norm_epsilon)
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Normalised hidden states, shape as `x`: (batch, length, width)."""
        return cast("Tensor", self.norm(self.states(x)[-1]))

    def states(self, x: Tensor, keep: Iterable[int] = ()) -> list[Tensor]:
        """Residual states after as many layers as `keep` says, in that order, then after all of them."""
        rotation = rotary_angles(self.shape, x.shape[1], x.device)
        wanted, kept = list(keep), []
        for index, layer in enumerate(self.layers):
            if index in wanted:
                kept.append(x)
            x = layer(x, rotation)
        return [*kept, x]


def of_trunk(weights: Weights, layers: Sequence[int] | None = None) -> Llama:
    """Layers of a model (all by default) and its final norm, on the CPU in float32."""
    chosen = range(weights.shape.layers) if layers is None else layers
    return _filled(weights.shape, [weights.block(n) for n in chosen], weights["model.norm.weight"])


def of_rung(rung: Rung, weights: Weights) -> Llama:
    """A rung as a model, on the CPU in float32."""
    return _filled(weights.shape, [rung.block(n, weights) for n in range(len(rung.sources))], rung.norm)


def block_arrays(block: nn.Module) -> dict[str, FloatArray]:
    """A block's tensors by suffix."""
    return {name: values.detach().cpu().float().numpy() for name, values in block.state_dict().items()}


def _filled(shape: LlamaShape, blocks: Sequence[Mapping[str, FloatArray]], norm: FloatArray) -> Llama:
    model = Llama(shape, len(blocks))
    for layer, arrays in zip(model.layers, blocks, strict=True):
        layer.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in arrays.items()})
    model.norm.weight.data = torch.from_numpy(np.array(norm))
    return model


def rotary_angles(shape: LlamaShape, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    exponents = torch.arange(0, shape.head_size, 2, device=device).float() / shape.head_size
    angles = torch.arange(length, device=device).float()[:, None] * shape.rope_theta**-exponents
    angles = torch.cat((angles, angles), -1)
    return angles.cos(), angles.sin()


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.device.type == "cpu":  # where the backward pass takes several times as long in bfloat16
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True)
    return F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype), is_causal=True)


def _rotated(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cosine, sine = (part.to(x.dtype) for part in rotation)
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine
