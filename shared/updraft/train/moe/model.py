"""The mixtral architecture in torch, between two projections of a trunk's embedding matrix.

The trunk's matrix stays as it is: the model reads it through one trained projection and writes through another, so
that a file of the model holds two small matrices where others hold two large ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from updraft.models.moe.shape import MixtralShape
from updraft.train.llama import Attention, Norm, rotary_angles

__all__ = ["Mixtral", "Routing", "of_arrays", "to_arrays"]

FloatArray = NDArray[np.float32]

_GATE_DEVIATION = 0.02  # nearly uniform routing at first, so that all experts get something to learn from


class Routing(NamedTuple):
    """What one layer's router said: probabilities, shape (tokens, experts), and ids chosen, (tokens, active)."""

    chances: Tensor
    chosen: Tensor

    def imbalance(self) -> Tensor:
        """1 where all experts are used alike, up to `experts` (Fedus et al., arXiv 2101.03961, equation 4)."""
        experts = self.chances.shape[1]
        share = torch.bincount(self.chosen.flatten(), minlength=experts) / self.chosen.numel()
        return experts * (share * self.chances.mean(0)).sum()


class SparseFeedForward(nn.Module):
    """Each token's `active` best experts, weighted by the router's probabilities among them."""

    def __init__(self, shape: MixtralShape) -> None:
        super().__init__()
        width, hidden = shape.base.width, shape.base.feed_forward
        self.gate = nn.Parameter(torch.randn(shape.experts, width) * _GATE_DEVIATION)
        self.gate_up = nn.Parameter(torch.randn(shape.experts, 2 * hidden, width) * width**-0.5)
        deviation = (hidden * 2 * shape.base.layers) ** -0.5
        self.down = nn.Parameter(torch.randn(shape.experts, width, hidden) * deviation)
        self._active = shape.active

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        flat = x.flatten(0, -2)
        with torch.autocast(x.device.type, enabled=False):  # choices are made in full precision
            chances = (flat.float() @ self.gate.T).softmax(-1)
        best, chosen = chances.topk(self._active, -1)
        weights = (best / best.sum(-1, keepdim=True)).flatten()
        order = chosen.flatten().argsort(stable=True)
        tokens = order // self._active
        counts = torch.bincount(chosen.flatten(), minlength=len(self.gate)).tolist()
        parts = torch.split(flat[tokens], counts)
        matrices = zip(parts, self.gate_up.unbind(), self.down.unbind(), strict=True)
        done = torch.cat([_expert(part, gate_up, down) for part, gate_up, down in matrices])
        mixed = torch.zeros_like(flat).index_add(0, tokens, done.to(flat.dtype) * weights[order, None])
        return mixed.view_as(x), Routing(chances, chosen)


class SparseBlock(nn.Module):
    """One layer."""

    def __init__(self, shape: MixtralShape) -> None:
        super().__init__()
        base = shape.base
        self.input_layernorm = Norm(base.width, base.norm_epsilon)
        self.self_attn = Attention(base)
        self.post_attention_layernorm = Norm(base.width, base.norm_epsilon)
        self.experts = SparseFeedForward(shape)
        for matrix in (self.self_attn.q_proj, self.self_attn.k_proj, self.self_attn.v_proj):
            nn.init.normal_(matrix.weight, std=base.width**-0.5)
        nn.init.normal_(self.self_attn.o_proj.weight, std=(2 * base.layers * base.heads * base.head_size) ** -0.5)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Routing]:
        x = x + self.self_attn(self.input_layernorm(x), angles)
        mixed, routing = self.experts(self.post_attention_layernorm(x))
        return x + mixed, routing


class Mixtral(nn.Module):
    """Layers and a final norm, with the projections of the trunk's embedding before and after them.

    Args:
        table: the trunk's embedding matrix, shape (vocabulary, trunk width); kept by the caller.
        seed: of the weights.
    """

    def __init__(self, shape: MixtralShape, table: Tensor, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.shape = shape
        self.layers = nn.ModuleList(SparseBlock(shape) for _ in range(shape.base.layers))
        self.norm = Norm(shape.base.width, shape.base.norm_epsilon)
        axes = _principal_axes(table, shape.base.width)
        unit = (table @ axes).square().mean().sqrt()
        self.input, self.output = nn.Parameter(axes / unit), nn.Parameter(axes / unit)

    def forward(self, rows: Tensor) -> tuple[Tensor, list[Routing]]:
        """Normalised hidden states, shape (batch, length, width), for rows of the table, and each layer's routing."""
        x = rows @ self.input.to(rows.dtype)
        angles = rotary_angles(self.shape.base, x.shape[1], x.device)
        routings = []
        for layer in self.layers:
            x, routing = layer(x, angles)
            routings.append(routing)
        return cast("Tensor", self.norm(x)), routings

    def logits(self, final: Tensor, rows: Tensor) -> Tensor:
        """Logits of the tokens whose rows of the table are given, float32, shape (..., tokens)."""
        return F.linear(final, self.output_rows(rows)).float()

    def output_rows(self, rows: Tensor) -> Tensor:
        """Rows of the output matrix, scaled so that logits are of about unit size at first."""
        return cast("Tensor", rows @ self.output * self.shape.base.width**-0.5)


def to_arrays(model: Mixtral) -> dict[str, FloatArray]:
    """Its tensors by Hugging Face's names, and the two projections as `input` and `output`."""
    arrays: dict[str, Tensor] = {"input": model.input, "output": model.output, "model.norm.weight": model.norm.weight}
    for number, layer in enumerate(model.layers):
        block: dict[str, Tensor] = dict(layer.named_parameters())
        gate_up, down = block.pop("experts.gate_up"), block.pop("experts.down")
        block["block_sparse_moe.gate.weight"] = block.pop("experts.gate")
        for expert in range(model.shape.experts):
            gate, up = gate_up[expert].chunk(2)
            parts = {"w1": gate, "w2": down[expert], "w3": up}
            block |= {f"block_sparse_moe.experts.{expert}.{part}.weight": values for part, values in parts.items()}
        arrays |= {f"model.layers.{number}.{suffix}": values for suffix, values in block.items()}
    return {name: values.detach().cpu().float().numpy() for name, values in arrays.items()}


def of_arrays(shape: MixtralShape, arrays: Mapping[str, FloatArray], table: Tensor) -> Mixtral:
    """The model of `to_arrays`."""
    model = Mixtral(shape, table)
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}
    state = {name: tensors[name] for name in ("input", "output")} | {"norm.weight": tensors["model.norm.weight"]}
    for number in range(shape.base.layers):
        block = {s: tensors[f"model.layers.{number}.{s}"] for s in shape.block}

        def stacked(part: str, block: dict[str, Tensor] = block) -> Tensor:
            names = [f"block_sparse_moe.experts.{expert}.{part}.weight" for expert in range(shape.experts)]
            return torch.stack([block.pop(name) for name in names])

        block["experts.gate_up"] = torch.cat((stacked("w1"), stacked("w3")), 1)
        block["experts.down"] = stacked("w2")
        block["experts.gate"] = block.pop("block_sparse_moe.gate.weight")
        state |= {f"layers.{number}.{suffix}": values for suffix, values in block.items()}
    model.load_state_dict(state)
    return model


def _expert(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    gate, up = F.linear(x, gate_up).chunk(2, -1)
    return F.linear(F.silu(gate) * up, down)


def _principal_axes(table: Tensor, width: int) -> Tensor:
    """The directions in which the rows are longest, shape (trunk width, width), orthonormal."""
    axes: Tensor = torch.linalg.eigh((table.T @ table).double())[1]
    return axes[:, -width:].flip(-1).float().contiguous()
