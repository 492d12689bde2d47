"""What exits say over a text, collected in chunks and batches, is what they say token by token."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes.staged_engine import FakeStagedEngine
from tests.shared.exits.examples import constant_head
from updraft.errors import ConfigError, InvalidRequest
from updraft.exits.collect import Passage, collect
from updraft.exits.heads import ExitHead
from updraft.exits.scores import ExitView, make_score
from updraft.sampling import Sampler, SamplingParams

TEXT = tuple((7 * n + n * n) % 62 for n in range(90))
PASSAGES = [Passage(TEXT, 11), Passage(TEXT[5:50]), Passage(TEXT[20:30], 9)]


def heads_for(engine: FakeStagedEngine) -> dict[int, ExitHead]:
    generator = np.random.default_rng(4)
    width = engine.info.width
    return {
        stage: ExitHead([generator.normal(size=(2, width)).astype(np.float32)], [np.zeros(2, np.float32)])
        for stage in (0, 1)
    }


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_it_notes_every_score_and_agreement_of_every_position(temperature: float) -> None:
    engine = FakeStagedEngine(exit_noise=1.0)
    heads = heads_for(engine)
    seen = collect(engine, PASSAGES, positions=1000, heads=heads, temperature=temperature, seed=3)
    assert (seen.stages, seen.layers) == ((0, 1), (2, 4))
    assert len(seen) == 79 + 45 + 1
    scores = [make_score(name, heads) for name in seen.scores]
    sampler = Sampler(SamplingParams(temperature=temperature, seed=3))
    number = 0
    for passage in PASSAGES:
        for end in range(passage.first + 1, len(passage.tokens) + 1):
            key = passage.tokens[:end]
            drawn = [sampler.draw(engine._logits(depth, key), end) for depth in range(3)]
            trace = [
                ExitView(depth, drawn[depth].token, drawn[depth].distribution, engine._vector("features", depth, key))
                for depth in (0, 1)
            ]
            for depth in (0, 1):
                assert seen.agreed[depth][number] == (drawn[depth].token == drawn[2].token)
                for score in scores:
                    assert seen.scores[score.name][depth][number] == pytest.approx(score(trace[: depth + 1]), abs=1e-6)
            number += 1
    assert engine.open_sequences == 0


def test_it_stops_at_enough_positions_and_says_how_far_it_is() -> None:
    reported: list[int] = []
    seen = collect(FakeStagedEngine(), PASSAGES, positions=100, progress=reported.append)
    assert len(seen) == 100
    assert reported == [79, 100]
    assert "q" not in seen.scores


def test_heads_that_some_exits_lack_are_left_out() -> None:
    seen = collect(FakeStagedEngine(), PASSAGES, positions=10, heads={0: constant_head(0.5)})
    assert list(seen.scores) == ["probability", "entropy", "patience"]


def test_what_cannot_be_gone_through_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="90 tokens; the engine's context holds 64"):
        collect(FakeStagedEngine(context=64), PASSAGES, positions=10)
    with pytest.raises(InvalidRequest, match="no text"):
        collect(FakeStagedEngine(), [], positions=10)
    with pytest.raises(ConfigError, match="the whole model behind them"):
        collect(FakeStagedEngine(deepest=1), PASSAGES, positions=10)
    with pytest.raises(ConfigError, match="where there are some"):
        collect(FakeStagedEngine(stages=1), PASSAGES, positions=10)
