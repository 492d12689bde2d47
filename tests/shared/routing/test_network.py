"""The small network: its gradients, its fit, and its tensors."""

from __future__ import annotations

import numpy as np
import pytest

from updraft.errors import BadModelFile
from updraft.routing import network as module
from updraft.routing.network import Network, fit


def loss(parameters: list[np.ndarray], rows: np.ndarray, labels: np.ndarray) -> float:
    given = Network(parameters[0::2], parameters[1::2])(rows).astype(np.float64)
    known = ~np.isnan(labels)
    each = -(labels * np.log(given) + (1 - labels) * np.log(1 - given))
    return float(each[known].sum() / len(rows))


def test_gradients_are_those_of_the_loss() -> None:
    random = np.random.default_rng(3)
    rows = random.normal(size=(9, 4)).astype(np.float32)
    labels = random.random((9, 2)).astype(np.float32)
    labels[2, 1] = np.nan
    parameters = module._start(4, (5,), labels, random)
    gradients = module._gradients(parameters, rows, labels)
    for number, values in enumerate(parameters):
        place = np.unravel_index(values.size // 2, values.shape)
        changed = [value.copy() for value in parameters]
        changed[number][place] += 1e-2
        up = loss(changed, rows, labels)
        changed[number][place] -= 2e-2
        assert gradients[number][place] == pytest.approx((up - loss(changed, rows, labels)) / 2e-2, abs=2e-3)


def test_it_learns_what_no_line_separates() -> None:
    random = np.random.default_rng(0)
    rows = (random.normal(size=(2000, 2)) * 50 + 300).astype(np.float32)  # features come as they are
    labels = ((rows[:, :1] > 300) ^ (rows[:, 1:] > 300)).astype(np.float32)
    right = (fit(rows, labels, hidden=(16,), epochs=60, rate=1e-2)(rows) > 0.5) == (labels > 0.5)
    assert right.mean() > 0.95


def test_without_a_pattern_it_says_the_share() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(4000, 3)).astype(np.float32)
    labels = (random.random((4000, 1)) < 0.2).astype(np.float32)
    assert fit(rows, labels, hidden=())(rows).mean() == pytest.approx(labels.mean(), abs=0.01)


def test_fitting_refuses_what_it_cannot_use() -> None:
    with pytest.raises(ValueError, match="two rows"):
        fit(np.ones((1, 2), np.float32), np.ones((1, 1), np.float32))
    with pytest.raises(ValueError, match="finite"):
        fit(np.full((3, 2), np.nan, np.float32), np.ones((3, 1), np.float32))


def test_tensors_come_back() -> None:
    random = np.random.default_rng(0)
    labels = random.random((50, 2)).astype(np.float32)
    rows = random.normal(size=(50, 3)).astype(np.float32)
    made = fit(rows, labels, hidden=(4,), epochs=2)
    again = Network.from_tensors(made.tensors("token"), "token", reads=3, gives=2)
    np.testing.assert_array_equal(again(rows), made(rows))
    assert (again.reads, again.gives) == (3, 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop("token.0.bias"), "has the tensors"),
        (lambda tensors: tensors.update({"token.0.bias": np.ones(9, np.float32)}), "shapes"),
        (lambda tensors: tensors["token.1.weight"].fill(np.inf), "not finite"),
        (lambda tensors: tensors.clear(), "none"),
    ],
)
def test_damaged_tensors_are_refused(change: object, reason: str) -> None:
    weights = [np.ones((4, 3), np.float32), np.ones((2, 4), np.float32)]
    tensors = Network(weights, [np.ones(4, np.float32), np.ones(2, np.float32)]).tensors("token")
    change(tensors)  # type: ignore[operator]
    with pytest.raises(BadModelFile, match=reason):
        Network.from_tensors(tensors, "token", reads=3, gives=2)
    with pytest.raises(BadModelFile, match="outputs|reads|none|has the tensors"):
        Network.from_tensors(tensors, "token", reads=3, gives=1)
