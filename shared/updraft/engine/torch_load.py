"""From the tensors of a Hugging Face folder to a decoder and a source of experts, on a device and in a type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import cached_property

import torch
from torch import Tensor

from updraft.engine.experts import MoeShape
from updraft.engine.torch_arithmetic import Arithmetic, gated
from updraft.engine.torch_model import Attention, Decoder, Exit, FeedForward, Layer, Linear, Router, SparseFeedForward
from updraft.engine.torch_quantised import GROUP, ExpertBits, packed_bytes, quantise, restore
from updraft.engine.torch_rotary import rotation_table
from updraft.errors import BadModelFile, ConfigError
from updraft.models.hf import HfFolder, MoeConfig
from updraft.models.hf.shapes import expert_names, layer_prefix

__all__ = ["FolderExperts", "Tensors", "decoder_bytes", "load_decoder"]

KINDS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_SCALE = ".scale"


class Tensors:
    """Reads a folder's tensors. Views of the mapped files hold them open for as long as they live."""

    def __init__(self, folder: HfFolder, device: torch.device, dtype: torch.dtype) -> None:
        self.folder, self.device, self.dtype = folder, device, dtype
        self._files = folder.map()

    def view(self, name: str) -> Tensor:
        """A tensor as it lies in its file."""
        place = self.folder.places[name]
        count = place.size // KINDS[place.kind].itemsize
        flat = torch.frombuffer(self._files[place.file], dtype=KINDS[place.kind], count=count, offset=place.start)
        return flat.view(place.shape)

    def __getitem__(self, name: str) -> Tensor:
        """A copy in the model's type, on its device."""
        return self.view(name).to(self.device, self.dtype, copy=True)

    def optional(self, name: str) -> Tensor | None:
        return self[name] if name in self.folder.places else None

    def linear(self, *names: str) -> Linear:
        """The matrices of these names as one, and their biases, where they have any."""
        biases = [bias for name in names if (bias := self.optional(f"{name}.bias")) is not None]
        weight = torch.cat([self[f"{name}.weight"] for name in names]) if len(names) > 1 else self[f"{names[0]}.weight"]
        return Linear(weight, torch.cat(biases) if biases else None)


def load_decoder(
    tensors: Tensors,
    arithmetic: Arithmetic,
    context: int,
    *,
    layers: int | None = None,
    exits: Sequence[Exit] = (),
    kept: Iterable[int] = (),
) -> Decoder:
    """Everything but the routed experts, with rotary positions for `context` tokens.

    Args:
        layers: how many of them from the bottom; all when left out.
        exits, kept: as of the decoder.

    Raises BadModelFile: a router's weights are not finite.
    """
    config = tensors.folder.config
    embedding = tensors["model.embed_tokens.weight"]
    rotation = rotation_table(config.rope, config.head_size, context, tensors.dtype).to(tensors.device)
    output, bias = _output(tensors, embedding)
    return Decoder(
        config,
        arithmetic,
        embedding,
        tuple(_layer(tensors, layer) for layer in range(config.layers if layers is None else layers)),
        tensors["model.norm.weight"],
        output,
        rotation,
        bias,
        tuple(exits),
        frozenset(kept),
    )


def decoder_bytes(decoder: Decoder) -> int:
    """Bytes of all its weights, each counted once."""
    found: dict[int, Tensor] = {}
    parts: list[object] = [
        decoder.embedding,
        decoder.trunk,
        decoder.exits,
        decoder.norm,
        decoder.output,
        decoder.output_bias,
    ]
    while parts:
        part = parts.pop()
        if isinstance(part, Tensor):
            found[id(part)] = part
        elif isinstance(part, tuple):
            parts.extend(part)
        elif is_dataclass(part):
            parts.extend(getattr(part, each.name) for each in fields(part))
    return sum(tensor.nbytes for tensor in found.values())


def _output(tensors: Tensors, embedding: Tensor) -> tuple[Tensor, Tensor | None]:
    if tensors.folder.head:
        return _head(tensors)
    return embedding if tensors.folder.config.tied else tensors["lm_head.weight"], None


def _head(tensors: Tensors) -> tuple[Tensor, Tensor | None]:
    """The score head. A lone label is the second of two, the first of which always scores 0: softmax is its sigmoid."""
    weight, bias = tensors["score.weight"], tensors.optional("score.bias")
    if len(weight) == 1:
        weight = torch.cat([torch.zeros_like(weight), weight])
        bias = None if bias is None else torch.cat([torch.zeros_like(bias), bias])
    return weight, bias


def _layer(tensors: Tensors, layer: int) -> Layer:
    prefix, moe = layer_prefix(layer), tensors.folder.config.moe
    own = f"{prefix}self_attn."
    attention = Attention(
        tensors.linear(*(f"{own}{part}_proj" for part in "qkv")),
        tensors.linear(f"{own}o_proj"),
        tensors.optional(f"{own}q_norm.weight"),
        tensors.optional(f"{own}k_norm.weight"),
    )
    feed_forward: FeedForward | SparseFeedForward
    if moe is not None and layer in moe.layers:
        feed_forward = _sparse(tensors, moe, layer)
    else:
        feed_forward = _feed_forward(tensors, f"{prefix}mlp.")
    return Layer(
        tensors[f"{prefix}input_layernorm.weight"],
        attention,
        tensors[f"{prefix}post_attention_layernorm.weight"],
        feed_forward,
    )


def _feed_forward(tensors: Tensors, prefix: str) -> FeedForward:
    return FeedForward(tensors.linear(f"{prefix}gate_proj", f"{prefix}up_proj"), tensors.linear(f"{prefix}down_proj"))


def _sparse(tensors: Tensors, moe: MoeConfig, layer: int) -> SparseFeedForward:
    prefix = layer_prefix(layer)
    name = f"{prefix}{moe.names.module}.gate.weight"
    if not bool(torch.isfinite(tensors.view(name)).all()):
        raise BadModelFile(
            f"{tensors.folder.path}: {name}, the router's weights, are not finite",
            remedy="Fetch the folder again; the file is damaged, or was saved by a training that had diverged.",
        )
    shared = f"{prefix}{moe.names.shared}"
    return SparseFeedForward(
        moe.layers.index(layer),
        Router(layer, tensors[name], moe),
        _feed_forward(tensors, f"{shared}.") if moe.shared_hidden else None,
        tensors.optional(f"{shared}_gate.weight"),
    )


class FolderExperts:
    """An `updraft.engine.experts.ExpertSource` on a folder.

    Without `bits`, weights are views of the mapped files where the model is computed in the type that they have, else
    converted at each call. With `bits` they are quantised here, once.

    Raises ConfigError: matrices that cannot be quantised to 4 bits.
    """

    def __init__(self, tensors: Tensors, decoder: Decoder, moe: MoeConfig, bits: ExpertBits | None) -> None:
        if bits == 4 and (decoder.config.width % GROUP or moe.hidden % GROUP):
            raise ConfigError(
                f"experts of {moe.hidden} x {decoder.config.width} cannot be held in 4 bits: not multiples of {GROUP}",
                remedy="Hold them in 8 bits.",
            )
        self._tensors, self._decoder, self._moe, self._bits = tensors, decoder, moe, bits
        self._routers = [sparse.router for sparse in decoder.sparse]
        self._packed: dict[tuple[int, int], dict[str, Tensor]] = {}
        if bits is not None:
            for layer in range(len(moe.layers)):
                for expert in range(moe.experts):
                    self._packed[layer, expert] = self._quantised(layer, expert, bits)

    @cached_property
    def shape(self) -> MoeShape:
        moe, width = self._moe, self._decoder.config.width
        each = [(moe.hidden, width), (moe.hidden, width), (width, moe.hidden)]
        if self._bits is None:
            size = sum(rows * columns for rows, columns in each) * self._tensors.dtype.itemsize
        else:
            size = sum(packed_bytes(rows, columns, self._bits) for rows, columns in each)
        return MoeShape(len(moe.layers), moe.experts, moe.active, width, moe.hidden, size)

    @cached_property
    def fingerprint(self) -> str:
        return self._tensors.folder.fingerprint()

    @property
    def device(self) -> torch.device:
        return self._tensors.device

    def weights(self, layer: int, expert: int) -> dict[str, Tensor]:
        if self._bits is not None:
            return self._packed[layer, expert]
        return {part: values.to(self._tensors.dtype) for part, values in self._stored(layer, expert).items()}

    def apply(self, weights: dict[str, Tensor], hidden: Tensor) -> Tensor:
        arithmetic = self._decoder.arithmetic
        x = arithmetic.pad(hidden)
        gate, up, down = (_matrix(weights, part, hidden.dtype) for part in ("gate", "up", "down"))
        inner = gated(arithmetic.linear(x, gate), arithmetic.linear(x, up))
        return arithmetic.linear(inner, down)[: len(hidden)]

    def route(self, layer: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self._routers[layer].choose(hidden, self._decoder.arithmetic)

    def embed(self, tokens: Tensor) -> Tensor:
        return self._decoder.embedding[tokens]

    def _stored(self, layer: int, expert: int) -> dict[str, Tensor]:
        names = expert_names(self._moe, self._moe.layers[layer], expert)
        return {part: self._tensors.view(name) for part, name in names.items()}

    def _quantised(self, layer: int, expert: int, bits: ExpertBits) -> dict[str, Tensor]:
        packed = {}
        for part, values in self._stored(layer, expert).items():
            packed[part], packed[part + _SCALE] = quantise(values, bits)
        return packed


def _matrix(weights: dict[str, Tensor], part: str, dtype: torch.dtype) -> Tensor:
    scale = weights.get(part + _SCALE)
    return weights[part] if scale is None else restore(weights[part], scale, dtype)
