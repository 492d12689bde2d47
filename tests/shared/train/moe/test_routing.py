from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from tests.shared.train.moe.conftest import rhymes
from updraft.train.moe.model import Mixtral
from updraft.train.moe.routing import Choices, collect, layer_routing

POSITIONS, EXPERTS = 4000, 8


def _choices(tokens: np.ndarray, *layers: np.ndarray) -> Choices:
    """Layers whose second expert is the first one's neighbour."""
    chosen = np.stack([np.stack([layer, (layer + 1) % EXPERTS], -1) for layer in layers])
    return Choices(tokens.astype(np.int64), chosen.astype(np.int64), np.array([0, POSITIONS // 2]), EXPERTS)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_uniform_and_independent_routing(random: np.random.Generator) -> None:
    tokens, first, second = (random.integers(0, EXPERTS, POSITIONS) for _ in range(3))
    lower, upper = layer_routing(_choices(tokens, first, second))
    assert upper.usage_entropy == pytest.approx(3, abs=0.01) and sum(upper.usage) == pytest.approx(1)
    for figures in (lower.token_information, upper.token_information, upper.before_information):
        assert figures is not None and figures == pytest.approx((0, 0), abs=0.02)
    assert upper.repeats[0] == pytest.approx(upper.repeats[1], abs=0.15)
    for recall in (upper.token_recall, upper.before_recall, upper.usage_recall):
        assert recall == pytest.approx(0.5, abs=0.05)
    assert lower.before_information is None and lower.before_recall is None


def test_routing_by_token(random: np.random.Generator) -> None:
    tokens = random.integers(100, 132, POSITIONS)
    (layer,) = layer_routing(_choices(tokens, tokens % EXPERTS))
    assert layer.token_information[0] == pytest.approx(3, abs=0.02) and layer.token_information[1] < 0.1
    assert layer.token_recall == 1


def test_routing_by_the_layer_before(random: np.random.Generator) -> None:
    first = random.integers(0, EXPERTS, POSITIONS)
    _, layer = layer_routing(_choices(np.zeros(POSITIONS), first, (3 * first + 1) % EXPERTS))
    assert layer.before_information == pytest.approx((3, 0), abs=0.05)
    assert layer.before_recall is not None and layer.before_recall > 0.95 > layer.usage_recall
    assert layer.token_information == pytest.approx((0, 0), abs=1e-9)


def test_one_expert_for_all() -> None:
    (layer,) = layer_routing(_choices(np.arange(POSITIONS), np.full(POSITIONS, 5)))
    assert layer.usage_entropy == pytest.approx(1) and layer.repeats == pytest.approx((1, 1))
    assert layer.token_information == pytest.approx((0, 0), abs=1e-9) and layer.usage_recall == 1


def test_repeats_do_not_cross_conversations() -> None:
    layer = np.where(np.arange(POSITIONS) < POSITIONS // 2, 0, 4)
    (routing,) = layer_routing(_choices(np.zeros(POSITIONS), layer))
    assert routing.repeats[0] == 1  # the one change lies between the conversations


def test_collected_are_the_model_s_own_choices(model: Mixtral, table: Tensor) -> None:
    text = rhymes(3)
    choices = collect(model, table, text)
    lengths = [len(c.tokens) for c in text]
    assert choices.tokens.tolist() == [token for c in text for token in c.tokens]
    assert choices.starts.tolist() == [0, lengths[0], lengths[0] + lengths[1]]
    assert choices.chosen.shape == (2, sum(lengths), 2) and choices.experts == 4
    _, routings = model(table[text[1].tokens][None])
    mine = choices.chosen[:, lengths[0] : lengths[0] + lengths[1]]
    assert all((layer == routing.chosen.numpy()).all() for layer, routing in zip(mine, routings, strict=True))
