"""The decoder of all supported families: what layers make of hidden states, from token ids to logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from updraft.engine.experts import Experts
from updraft.engine.torch_arithmetic import Arithmetic, gated, norm, sigmoid
from updraft.engine.torch_cache import SequenceCache
from updraft.engine.torch_rotary import rotate
from updraft.errors import EngineFailure
from updraft.models.hf import HfConfig, MoeConfig

__all__ = ["Attention", "Decoder", "Exit", "FeedForward", "Layer", "Linear", "Router", "Span", "SparseFeedForward"]


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one sequence in a pass: `rows` of them from the sequence's position `start` on."""

    cache: SequenceCache
    start: int
    rows: int


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix, shape (outputs, inputs), and its bias."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Attention:
    """Grouped-query attention; `qkv` holds the rows of queries, keys and values one after the other."""

    qkv: Linear
    output: Linear
    q_norm: Tensor | None
    k_norm: Tensor | None


@dataclass(frozen=True, slots=True)
class FeedForward:
    """SwiGLU; `inner` holds the rows of gate and up one after the other."""

    inner: Linear
    outer: Linear

    def apply(self, x: Tensor, arithmetic: Arithmetic) -> Tensor:
        gate, up = arithmetic.linear(x, self.inner.weight, self.inner.bias).chunk(2, -1)
        return arithmetic.linear(gated(gate, up), self.outer.weight, self.outer.bias)


@dataclass(frozen=True, slots=True)
class Router:
    """Chooses experts: the most probable ones of a softmax over all.

    Attributes:
        layer: the model's layer that it belongs to.
        weight: shape (experts, width).
    """

    layer: int
    weight: Tensor
    moe: MoeConfig

    def choose(self, x: Tensor, arithmetic: Arithmetic) -> tuple[Tensor, Tensor]:
        """Ids, int64, and weights in the type of `x`, shape (tokens, active).

        Raises EngineFailure: scores that are not finite.
        """
        scores = arithmetic.linear(arithmetic.pad(x), self.weight)[: len(x)]
        if not bool(torch.isfinite(scores).all()):
            raise EngineFailure(
                f"the router of layer {self.layer} gave scores that are not finite; the pass was rolled back"
            )
        shares, chosen = torch.topk(torch.softmax(scores, -1, dtype=torch.float32), self.moe.active, dim=-1)
        if self.moe.normalised:
            shares = shares / shares.sum(-1, keepdim=True)
        return chosen, shares.to(x.dtype)


@dataclass(frozen=True, slots=True)
class SparseFeedForward:
    """Routed experts, and the expert that every token passes where there is one.

    Attributes:
        number: among the layers with experts, from the bottom.
        shared_gate: shape (1, width).
    """

    number: int
    router: Router
    shared: FeedForward | None
    shared_gate: Tensor | None

    def apply(self, x: Tensor, tokens: int, experts: Experts, arithmetic: Arithmetic) -> Tensor:
        """Of padded rows, of which the first `tokens` are real."""
        total = torch.zeros_like(x)
        chosen, weights = self.router.choose(x[:tokens], arithmetic)
        total[:tokens] = experts.compute(self.number, x[:tokens], chosen, weights)
        if self.shared is None:
            return total
        common = self.shared.apply(x, arithmetic)
        if self.shared_gate is not None:
            common = common * sigmoid(arithmetic.linear(x, self.shared_gate)).to(x.dtype)
        return total + common


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer layer."""

    input_norm: Tensor
    attention: Attention
    inner_norm: Tensor
    feed_forward: FeedForward | SparseFeedForward


@dataclass(frozen=True, slots=True)
class Exit:
    """Where a run may stop after the layer `stage`: a block of its own, and a norm before the model's output matrix."""

    stage: int
    block: Layer
    norm: Tensor


@dataclass(frozen=True, slots=True)
class Decoder:
    """A model but for its routed experts: all of it, or its lower layers.

    Layers are numbered from the bottom; the blocks of the exits follow the trunk's layers.

    Attributes:
        embedding: shape (vocabulary, width).
        trunk: the model's own layers.
        norm: shape (width,).
        output: shape (vocabulary, width), or (labels, width) of a model that scores.
        rotation: cosines and sines, shape (2, context, head_size).
        exits: by their stages.
        kept: layers after which caches keep the hidden states.
    """

    config: HfConfig
    arithmetic: Arithmetic
    embedding: Tensor
    trunk: tuple[Layer, ...]
    norm: Tensor
    output: Tensor
    rotation: Tensor
    output_bias: Tensor | None = None
    exits: tuple[Exit, ...] = ()
    kept: frozenset[int] = frozenset()

    @property
    def sparse(self) -> list[SparseFeedForward]:
        """The layers with experts, from the bottom."""
        return [layer.feed_forward for layer in self.trunk if isinstance(layer.feed_forward, SparseFeedForward)]

    def sparse_below(self, layer: int) -> int:
        """How many layers with experts there are below one."""
        return sum(isinstance(own.feed_forward, SparseFeedForward) for own in self.trunk[:layer])

    def source(self, layer: int) -> int:
        """The layer whose hidden states one reads, -1 for the embedding."""
        return self.exits[layer - len(self.trunk)].stage if layer >= len(self.trunk) else layer - 1

    def result(self, depth: int) -> int:
        """The layer whose states `features` takes for a run that stops after stage `depth`."""
        places = [place for place, own in enumerate(self.exits) if own.stage == depth]
        return len(self.trunk) + places[0] if places else depth

    def advance(
        self, x: Tensor, spans: Sequence[Span], first: int, last: int, experts: Experts | None = None
    ) -> Tensor:
        """Hidden states after layer `last`, shape (tokens, width); keys and values go into the spans' caches.

        Args:
            x: states before layer `first`, the spans' rows one after the other, shape (tokens, width).
            spans: at most one of a cache.
            experts: those of a mixture-of-experts model.
        """
        arithmetic, epsilon, tokens = self.arithmetic, self.config.norm_epsilon, len(x)
        x = arithmetic.pad(x)
        rotation = torch.cat([self.rotation[:, span.start : span.start + span.rows] for span in spans], 1)
        for number in range(first, last + 1):
            layer = self._layer(number)
            x = x + self._attended(number, layer.attention, norm(x, layer.input_norm, epsilon), rotation, spans)
            inner = norm(x, layer.inner_norm, epsilon)
            if isinstance(layer.feed_forward, FeedForward):
                x = x + layer.feed_forward.apply(inner, arithmetic)
            else:
                assert experts is not None  # noqa: S101  # the engine made some
                x = x + layer.feed_forward.apply(inner, tokens, experts, arithmetic)
            if number in self.kept:
                _keep(number, x, spans)
        return x[:tokens]

    def features(self, states: Tensor, layer: int) -> Tensor:
        """States after the model's last layer or an exit's, normalised for `logits`; shape as `states`."""
        exit_number = layer - len(self.trunk)
        weight = self.exits[exit_number].norm if exit_number >= 0 else self.norm
        return norm(states, weight, self.config.norm_epsilon)

    def logits(self, states: Tensor) -> Tensor:
        """Scores of all tokens, float32, shape (rows, vocabulary)."""
        arithmetic = self.arithmetic
        return arithmetic.linear(arithmetic.pad(states), self.output, self.output_bias)[: len(states)].float()

    def _layer(self, number: int) -> Layer:
        return self.trunk[number] if number < len(self.trunk) else self.exits[number - len(self.trunk)].block

    def _attended(
        self, number: int, attention: Attention, x: Tensor, rotation: Tensor, spans: Sequence[Span]
    ) -> Tensor:
        config = self.config
        queries, keys, values = self._projected(attention, x, rotation)
        mixed = torch.zeros(len(x), config.heads * config.head_size, dtype=x.dtype, device=x.device)
        begin = 0
        for span in spans:
            rows = slice(begin, begin + span.rows)
            held = span.cache.write(number, span.start, keys[rows], values[rows])
            grouped = queries[rows].view(span.rows, config.kv_heads, -1, config.head_size)
            mixed[rows] = self.arithmetic.attend(grouped, *held, span.start).reshape(span.rows, -1)
            begin += span.rows
        return self.arithmetic.linear(mixed, attention.output.weight, attention.output.bias)

    def _projected(self, attention: Attention, x: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the real rows, shape (tokens, heads, head_size); the former two rotated."""
        config, tokens = self.config, rotation.shape[1]
        sizes = [
            config.heads * config.head_size,
            config.kv_heads * config.head_size,
            config.kv_heads * config.head_size,
        ]
        projected = self.arithmetic.linear(x, attention.qkv.weight, attention.qkv.bias)[:tokens]
        q, k, v = torch.split(projected, sizes, -1)
        whole = config.qk_norm == "whole"
        if whole:
            q, k = self._normed(q, attention.q_norm), self._normed(k, attention.k_norm)
        if config.clip_qkv is not None:
            q, k, v = (part.clamp(-config.clip_qkv, config.clip_qkv) for part in (q, k, v))
        q, k, v = (part.reshape(tokens, -1, config.head_size) for part in (q, k, v))
        if not whole:
            q, k = self._normed(q, attention.q_norm), self._normed(k, attention.k_norm)
        return rotate(q, rotation), rotate(k, rotation), v

    def _normed(self, x: Tensor, weight: Tensor | None) -> Tensor:
        return x if weight is None else norm(x, weight, self.config.norm_epsilon)


def _keep(layer: int, x: Tensor, spans: Sequence[Span]) -> None:
    """Into the caches, and what they round to into `x`."""
    begin = 0
    for span in spans:
        rows = slice(begin, begin + span.rows)
        x[rows] = span.cache.keep(layer, span.start, x[rows])
        begin += span.rows
