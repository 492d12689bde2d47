from __future__ import annotations

import numpy as np
import pytest
import torch

from updraft.train.moe.loss import SampledClasses, cross_entropy

COUNTS = np.array([50, 0, 7, 30, 0, 0, 2, 0, 9, 1])


def test_with_all_tokens_it_is_exact() -> None:
    classes = SampledClasses(COUNTS, frequent=10, sampled=3, seed=0).of(0, np.array([[1, 4], [9, 0]]))
    assert classes.ids.tolist() == list(range(10)) and not classes.offsets.any()
    logits = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    wanted = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 4, 9, 0]))
    assert float(cross_entropy(logits, classes)) == pytest.approx(float(wanted))


def test_frequent_tokens_and_targets_are_always_there() -> None:
    classes = SampledClasses(COUNTS, frequent=3, sampled=2, seed=0).of(5, np.array([4, 3, 9]))
    assert classes.ids[:5].tolist() == [0, 3, 4, 8, 9]
    assert len(classes.ids) == 7 and set(classes.ids[5:]) < {1, 2, 5, 6, 7}
    assert classes.ids[classes.targets].tolist() == [4, 3, 9]
    np.testing.assert_allclose(classes.offsets, [0] * 5 + [np.log(5 / 2)] * 2, rtol=1e-6)


def test_the_sample_is_a_function_of_seed_and_step() -> None:
    def drawn(seed: int, step: int) -> list[int]:
        return list(SampledClasses(np.zeros(1000, np.int64), 10, 20, seed).of(step, np.array([500])).ids)

    assert drawn(0, 1) == drawn(0, 1)
    assert len({tuple(drawn(*at)) for at in ((0, 1), (0, 2), (1, 1))}) == 3


def test_the_sum_is_estimated_without_bias() -> None:
    logits = np.random.default_rng(1).standard_normal(400)
    sampled = SampledClasses(np.zeros(400, np.int64), 20, 40, seed=0)
    sums = []
    for step in range(4000):
        classes = sampled.of(step, np.array([7, 399]))
        sums.append(np.exp(logits[classes.ids] + classes.offsets).sum())
    assert np.mean(sums) == pytest.approx(np.exp(logits).sum(), rel=0.01)
