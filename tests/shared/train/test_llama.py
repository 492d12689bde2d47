from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from tests.shared.train.conftest import PREFIX
from updraft.models.rungs import Rung
from updraft.models.weights import Weights
from updraft.train.llama import block_arrays, of_rung, of_trunk


def _embedded(weights: Weights, *rows: tuple[int, ...]) -> torch.Tensor:
    table = torch.from_numpy(weights["model.embed_tokens.weight"])
    return table[torch.tensor(rows)]


@torch.inference_mode()
def test_states_after_layers_are_those_of_a_shorter_model(weights: Weights) -> None:
    x = _embedded(weights, (*PREFIX, 50, 60))
    after0, after2, after3, last = of_trunk(weights).states(x, [0, 2, 3])
    assert torch.equal(after0, x)
    assert torch.equal(after2, of_trunk(weights, [0, 1]).states(x)[-1])
    assert torch.equal(last, of_trunk(weights, [3]).states(after3)[-1])
    whole = of_trunk(weights)
    assert torch.equal(whole(x), whole.norm(last))


@torch.inference_mode()
def test_later_tokens_change_nothing_before_them(weights: Weights) -> None:
    model = of_trunk(weights)
    long = model(_embedded(weights, (*PREFIX, 50, 60, 70)))
    torch.testing.assert_close(long[:, :4], model(_embedded(weights, (*PREFIX, 50))))
    padded = model(_embedded(weights, (*PREFIX, 50, 0, 0), (*PREFIX, 50, 60, 70)))
    torch.testing.assert_close(padded[0, :4], long[0, :4])
    torch.testing.assert_close(padded[1], long[0])


def test_blocks_give_back_what_they_were_made_of(weights: Weights) -> None:
    arrays = block_arrays(of_trunk(weights, [2]).layers[0])
    assert arrays.keys() == weights.block(2).keys()
    assert all((arrays[suffix] == values).all() for suffix, values in weights.block(2).items())


@torch.inference_mode()
def test_a_rung_runs_its_own_blocks_and_norm(weights: Weights) -> None:
    copies = {f"layers.1.{suffix}": values for suffix, values in weights.block(3).items()}
    norm = np.full(weights.shape.width, 2, np.float32)
    rung = Rung("student", weights.fingerprint, (0, 3), frozenset({1}), {**copies, "norm.weight": norm})
    x = _embedded(weights, (*PREFIX, 50, 60))
    expected = of_trunk(weights, [0, 3])(x) * 2 / torch.from_numpy(weights["model.norm.weight"])
    torch.testing.assert_close(of_rung(rung, weights)(x), expected)
    still = replace(rung, tensors={**rung.tensors, **{name: 0 * values for name, values in copies.items()}})
    torch.testing.assert_close(of_rung(still, weights).states(x)[-1], of_trunk(weights, [0]).states(x)[-1])
