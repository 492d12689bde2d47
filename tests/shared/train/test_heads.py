"""Exit heads: what training finds, and that numpy computes what torch trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from updraft.errors import InvalidRequest
from updraft.exits.heads import ExitHead
from updraft.train.heads import train_heads

WIDTH = 12


def data(positions: int, seed: int = 0) -> tuple[list[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]:
    """Two exits whose agreement is a noisy function of their features; the deeper one agrees more often."""
    generator = np.random.default_rng(seed)
    features = [3 + generator.normal(size=(positions, WIDTH)).astype(np.float32) * 5 for _ in range(2)]
    chances = [1 / (1 + np.exp(-(rows[:, 0] - 3 - bias))) for rows, bias in zip(features, (3, 0), strict=True)]
    return features, [generator.random(positions) < chance for chance in chances]


def log_loss(said: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    said = np.clip(said, 1e-6, 1 - 1e-6)
    return float(-np.where(truth, np.log(said), np.log(1 - said)).mean())


def test_heads_tell_more_on_new_positions_than_their_mean_does() -> None:
    features, agrees = data(6000)
    heads = [ExitHead.from_tensors(tensors, WIDTH) for tensors in train_heads(features, agrees, seed=1)]
    unseen, truth = data(3000, seed=1)
    for number, head in enumerate(heads):
        says = head.probabilities(unseen[number])
        hopeless = ~np.logical_or.reduce(truth[number:])
        # A head sees only its own exit, so what deeper ones will do is known to it less well.
        for column, labels, gain in ((0, truth[number], 0.9), (1, hopeless, 0.97)):
            alone = log_loss(np.full(len(labels), labels.mean()), labels)
            assert log_loss(says[:, column], labels) < gain * alone
        assert abs(says[:, 0].mean() - truth[number].mean()) < 0.05


def test_the_same_seed_gives_the_same_heads() -> None:
    features, agrees = data(600)
    first, second, third = (train_heads(features, agrees, seed=seed) for seed in (4, 4, 5))
    for one, two, three in zip(first, second, third, strict=True):
        assert one.keys() == two.keys()
        assert all((one[name] == two[name]).all() for name in one)
        assert any((one[name] != three[name]).any() for name in one)


def test_an_exit_that_always_agrees_gives_a_head_all_the_same() -> None:
    features, _ = data(300)
    (tensors,) = train_heads(features[:1], [np.ones(300, bool)])
    says = ExitHead.from_tensors(tensors, WIDTH).probabilities(features[0])
    assert (says[:, 0] > 0.9).all() and (says[:, 1] < 0.1).all()


def test_features_that_do_not_fit_their_labels_are_refused() -> None:
    features, agrees = data(50)
    for bad in (agrees[:1], [agrees[0], agrees[1][:-1]]):
        with pytest.raises(InvalidRequest):
            train_heads(features, bad)
