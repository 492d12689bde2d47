"""Trains a routing-path predictor from traces, by binary cross-entropy over all layers and experts (ExpertFlow)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from updraft.errors import ConfigError
from updraft_cloud.experts.predictor import Predictor
from updraft_cloud.experts.trace import RouteTrace

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["measure_predictor", "train_predictor"]

_RARE: Final = 2  # tokens seen less often share the row of unknown ones
_WIDTH: Final = 32
_HIDDEN: Final = 128


def train_predictor(
    trace: RouteTrace,
    *,
    epochs: int = 30,
    batch: int = 256,
    rate: float = 3e-3,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> Predictor:
    """Learn P(expert | token, the token before it in the pass) for all layers.

    Args:
        progress: told after every epoch.

    Raises:
        ConfigError: the trace is too short to learn from.
    """
    import torch

    if len(trace) < batch // 4:
        raise ConfigError(f"a trace of {len(trace)} rows is too short to train a predictor on; give {batch // 4}")
    ids, counts = np.unique(trace.tokens, return_counts=True)
    known = ids[counts >= _RARE].astype(np.int64)
    known = known if len(known) else ids.astype(np.int64)
    generator = torch.Generator().manual_seed(seed)
    weights = _start(len(known), trace, generator)
    tensors = {name: values.numpy() for name, values in weights.items()}
    rows = Predictor(trace.shape, {"tokens": known, **tensors}).rows(trace.tokens)
    before = np.concatenate([[len(known)], rows[:-1]])
    before[trace.passes[:-1]] = len(known)  # a pass's first token has none before it
    read = torch.from_numpy(np.stack([rows, before], axis=1))
    routes = torch.from_numpy(trace.routes.astype(np.int64))
    optimiser = torch.optim.AdamW([values.requires_grad_() for values in weights.values()], lr=rate, weight_decay=1e-3)
    steps = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, epochs)
    for epoch in range(epochs):
        loss = 0.0
        order = torch.randperm(len(trace), generator=generator)
        for start in range(0, len(trace), batch):
            own = order[start : start + batch]
            lost = _loss(weights, read[own], routes[own], trace.shape.experts, len(known), generator)
            optimiser.zero_grad()
            lost.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            loss += float(lost.detach()) * len(own)
        steps.step()
        progress(f"epoch {epoch + 1} of {epochs}: loss {loss / len(trace):.4f}")
    tensors = {name: values.detach().numpy() for name, values in weights.items()}
    facts = {"rows": len(trace), "epochs": epochs, "seed": seed, "model": trace.model}
    return Predictor(trace.shape, {"tokens": known, **tensors}, trace.fingerprint, facts)


def measure_predictor(predictor: Predictor, trace: RouteTrace, gate: float = 0.5) -> dict[str, float]:
    """How right it is on a trace, by passes: share of what it foretells that is needed, and of what is needed that it
    foretells."""
    shape, told, needed, both = trace.shape, 0, 0, 0
    for first, last in zip(trace.passes[:-1].tolist(), trace.passes[1:].tolist(), strict=True):
        chances = 1.0 - np.prod(1.0 - predictor(trace.tokens[first:last]), axis=0)
        used = np.zeros((shape.layers, shape.experts), np.bool_)
        used[np.arange(shape.layers)[:, None], trace.routes[first:last]] = True
        foretold = chances.reshape(used.shape) >= gate
        told, needed = told + int(foretold.sum()), needed + int(used.sum())
        both += int((foretold & used).sum())
    return {"precision": both / max(1, told), "recall": both / max(1, needed)}


def _start(known: int, trace: RouteTrace, generator: Any) -> dict[str, Tensor]:
    import torch

    shape = trace.shape
    gives = shape.layers * shape.experts

    def normal(*size: int, scale: float) -> Tensor:
        return torch.randn(size, generator=generator) * scale

    share = min(0.9, shape.active / shape.experts)
    return {
        "embed": normal(known + 1, _WIDTH, scale=0.5),
        "before": normal(known + 1, _WIDTH, scale=0.1),
        "hidden.weight": normal(_HIDDEN, 2 * _WIDTH, scale=(2.0 / _WIDTH) ** 0.5),
        "hidden.bias": torch.zeros(_HIDDEN),
        "out.weight": normal(gives, _HIDDEN, scale=_HIDDEN**-0.5),
        "out.bias": torch.full((gives,), float(np.log(share / (1.0 - share)))),
    }


def _loss(weights: dict[str, Tensor], read: Tensor, routes: Tensor, experts: int, other: int, generator: Any) -> Tensor:
    """Mean cross-entropy of a batch; some tokens are hidden, so that the rows of unknown ones learn, too."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, linear

    hidden_ones = torch.rand(read.shape, generator=generator) < 0.05
    read = torch.where(hidden_ones, other, read)
    values = torch.cat([weights["embed"][read[:, 0]], weights["before"][read[:, 1]]], dim=1)
    hidden = linear(values, weights["hidden.weight"], weights["hidden.bias"]).relu()
    logits = linear(hidden, weights["out.weight"], weights["out.bias"])
    wanted = torch.zeros(len(read), routes.shape[1], experts).scatter_(2, routes, 1.0)
    return binary_cross_entropy_with_logits(logits, wanted.flatten(1))
