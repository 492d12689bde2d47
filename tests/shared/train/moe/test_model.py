from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from updraft.models.moe.shape import MixtralShape
from updraft.train.moe.model import Mixtral, Routing, SparseFeedForward, of_arrays, to_arrays


def test_each_token_gets_the_weighted_sum_of_its_best_experts(shape: MixtralShape) -> None:
    torch.manual_seed(3)
    layer = SparseFeedForward(shape)
    x = torch.randn(1, 9, shape.base.width)
    mixed, routing = layer(x)
    for row in range(9):
        chances = (layer.gate @ x[0, row]).softmax(-1)
        best = chances.argsort(descending=True)[: shape.active]
        assert routing.chosen[row].tolist() == best.tolist()
        wanted = torch.zeros(shape.base.width)
        for expert in best.tolist():
            gate, up = (layer.gate_up[expert] @ x[0, row]).chunk(2)
            share = chances[expert] / chances[best].sum()
            wanted += share * (layer.down[expert] @ (torch.nn.functional.silu(gate) * up))
        torch.testing.assert_close(mixed[0, row], wanted, rtol=1e-4, atol=1e-5)


def test_experts_that_nobody_chose_get_no_gradient(shape: MixtralShape) -> None:
    layer = SparseFeedForward(shape)
    with torch.no_grad():
        layer.gate[:2] = 100.0
        layer.gate[2:] = -100.0
    mixed, routing = layer(torch.ones(1, 5, shape.base.width))
    mixed.sum().backward()
    assert set(routing.chosen.flatten().tolist()) == {0, 1}
    assert layer.gate_up.grad is not None
    assert bool(layer.gate_up.grad[:2].any()) and not bool(layer.gate_up.grad[2:].any())


def test_nothing_later_is_seen(model: Mixtral, table: Tensor) -> None:
    tokens = torch.tensor([[5, 9, 20, 33, 7]])
    changed = torch.tensor([[5, 9, 20, 40, 8]])
    with torch.inference_mode():
        (first, _), (second, _) = model(table[tokens]), model(table[changed])
    torch.testing.assert_close(first[0, :3], second[0, :3])
    assert not torch.allclose(first[0, 3], second[0, 3])


def test_arrays_and_back(model: Mixtral, table: Tensor) -> None:
    arrays = to_arrays(model)
    assert {name: values.shape for name, values in arrays.items() if name not in ("input", "output")} == (
        model.shape.blocks
    )
    again = of_arrays(model.shape, arrays, table)
    assert all(bool((a == b).all()) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    up = arrays["model.layers.1.block_sparse_moe.experts.2.w3.weight"]
    assert (up == dict(model.named_parameters())["layers.1.experts.gate_up"][2, 24:].detach().numpy()).all()


def test_the_first_logits_are_of_unit_size(model: Mixtral, table: Tensor) -> None:
    with torch.inference_mode():
        final, _ = model(table[None, 3:35])
        logits = model.logits(final, table)
    assert logits.shape == (1, 32, len(table)) and 0.5 < float(logits.std()) < 2


def test_the_projections_start_as_the_table_s_principal_axes(model: Mixtral, table: Tensor) -> None:
    axes = model.input.detach().numpy()
    _, _, wanted = np.linalg.svd(table.numpy(), full_matrices=False)
    overlap = np.abs(wanted[:32] @ (axes / np.linalg.norm(axes, axis=0)))
    np.testing.assert_allclose(np.linalg.norm(overlap, axis=0), 1, atol=1e-3)


@pytest.mark.parametrize(("chosen", "imbalance"), [([[0, 1], [2, 3]], 1.0), ([[0, 1], [0, 1]], 1.6)])
def test_imbalance(chosen: list[list[int]], imbalance: float) -> None:
    chances = torch.tensor([[0.4, 0.4, 0.1, 0.1], [0.4, 0.4, 0.1, 0.1]])
    assert float(Routing(chances, torch.tensor(chosen)).imbalance()) == pytest.approx(imbalance)
