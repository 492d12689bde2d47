from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from updraft.errors import InvalidRequest
from updraft.exits.heads import ExitHead
from updraft.train.heads import train_heads

Floats = NDArray[np.float32]


def _data(count: int = 6000) -> tuple[list[Floats], list[NDArray[np.bool_]]]:
    """Two exits: the first agrees where its first feature is high, the second where either exit's is."""
    random = np.random.default_rng(0)
    features = [(3 + 2 * random.standard_normal((count, 8))).astype(np.float32) for _ in range(2)]
    first = features[0][:, 0] > 4
    return features, [first, first | (features[1][:, 1] > 4)]


def test_heads_learn_what_their_features_say() -> None:
    features, agrees = _data()
    heads = [ExitHead.from_tensors(tensors, 8) for tensors in train_heads(features, agrees)]
    says = heads[0].probabilities(features[0])
    assert ((says[:, 0] > 0.5) == agrees[0]).mean() > 0.95
    assert abs(says[:, 0].mean() - agrees[0].mean()) < 0.03  # trained by cross-entropy, so calibrated
    hopeless = ~(agrees[0] | agrees[1])
    assert abs(says[:, 1].mean() - hopeless.mean()) < 0.05
    assert says[agrees[0], 1].mean() < 0.5 * says[hopeless, 1].mean()
    deepest = heads[1].probabilities(features[1])
    np.testing.assert_allclose(deepest.sum(1), 1, atol=0.2)  # at the deepest exit it agrees or it is hopeless


def test_the_same_seed_gives_the_same_heads() -> None:
    features, agrees = _data(600)
    one, same, other = (train_heads(features, agrees, seed=seed) for seed in (3, 3, 4))
    assert all((one[0][name] == same[0][name]).all() for name in one[0])
    assert any((one[0][name] != other[0][name]).any() for name in one[0])


def test_labels_and_features_that_never_change() -> None:
    features = [np.ones((50, 4), np.float32)]
    for label in (True, False):
        head = ExitHead.from_tensors(train_heads(features, [np.full(50, label)])[0], 4)
        assert (head(features[0][0]).agrees > 0.5) == label


@pytest.mark.parametrize(
    "lengths", [((5, 5), (5,)), ((5, 4), (5, 4)), ((5,), (4,)), ((), ()), ((0,), (0,)), ((1,), (1,))]
)
def test_shapes_that_do_not_fit_are_refused(lengths: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    features = [np.ones((length, 4), np.float32) for length in lengths[0]]
    with pytest.raises(InvalidRequest):
        train_heads(features, [np.ones(length, bool) for length in lengths[1]])
