from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.shared.train.conftest import CPU, PREFIX
from updraft.models.weights import Weights
from updraft.train.batches import Batches, SeenTokens, entry_states
from updraft.train.teacher import TeacherCache


def _batches(cache: TeacherCache, seed: int = 0, tokens: int = 256, **options: Any) -> Batches:
    seen = SeenTokens(cache, 320)
    return Batches(
        cache, seen, 2, None, **{"skip": len(PREFIX), "tokens": tokens, "seed": seed, "device": CPU, **options}
    )


@pytest.mark.parametrize("tokens", [1, 100, 256, 100_000])
def test_every_epoch_has_every_conversation_once(training: TeacherCache, tokens: int) -> None:
    for epoch in (0, 1):
        order = _batches(training, tokens=tokens).order(epoch)
        assert sorted(np.concatenate(order)) == list(range(len(training)))
        for batch in order:
            assert len(batch) == 1 or len(batch) * max(training.length(n) for n in batch) <= tokens


def test_the_order_is_a_function_of_seed_and_epoch(training: TeacherCache) -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in _batches(training, seed).order(epoch)]

    assert order(0, 1) == order(0, 1)
    assert len({str(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    used = _batches(training)
    used.order(0)
    assert [batch.tolist() for batch in used.order(1)] == order(0, 1)


def test_little_of_a_batch_is_padding(training: TeacherCache) -> None:
    places = [(len(b) * max(training.length(n) for n in b)) for b in _batches(training).order(0)]
    assert len(training.tokens) > 0.75 * sum(places)


def test_a_batch_holds_what_the_teacher_says_of_its_positions(training: TeacherCache) -> None:
    batches = _batches(training)
    numbers = np.array([3, 60])
    batch = batches.load(numbers)
    lengths = [training.length(n) for n in numbers]
    assert batch.states.shape == (2, max(lengths), training.final.shape[1])
    positions = np.concatenate([np.arange(training.offsets[n] + len(PREFIX), training.offsets[n + 1]) for n in numbers])
    rows = batch.states.flatten(0, 1)[batch.rows].numpy()
    assert (rows == training.boundaries[2][positions]).all()
    assert (batch.final.numpy() == training.final[positions]).all()
    assert (batch.states[0, lengths[0] :] == 0).all()
    np.testing.assert_allclose(batch.chances.sum(-1).numpy(), 1, atol=1e-5)
    seen = SeenTokens(training, 320)
    best = training.best[positions]
    inside = np.isin(best, seen.ids)
    assert (seen.ids[batch.best.numpy()][inside] == best[inside]).all()
    assert (batch.chances.numpy()[~inside] == 0).all()


def test_seen_tokens_are_those_of_text_and_teacher(training: TeacherCache) -> None:
    seen = SeenTokens(training, 320)
    assert set(training.tokens) | set(training.best[:, 0]) == set(seen.ids)
    ids = np.arange(320, dtype=np.int32)
    places = seen.places(ids)
    assert (seen.ids[places[places >= 0]] == ids[places >= 0]).all()
    assert (places >= 0).sum() == len(seen.ids)


def test_states_after_no_layer_are_the_embedding(weights: Weights, training: TeacherCache) -> None:
    table = weights["model.embed_tokens.weight"]
    assert (entry_states(training, slice(0, 5), 0, table) == table[training.tokens[:5]]).all()
    after = entry_states(training, slice(0, 5), 2, None)
    assert after.dtype == np.float32 and (after == training.boundaries[2][:5]).all()
