"""Forecasters learn what is there to be learned, and say what they are unsure of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.routing import Routing, make_trace
from updraft.engine.experts import MoeShape
from updraft.errors import BadModelFile, ConfigError, ModelNotFound, WrongTrunk
from updraft_cloud.experts.policies.forecast import Affinity, LookAhead, TokenTable
from updraft_cloud.experts.predictor import Predictor, PredictorForecast, read_predictor, write_predictor

SHAPE = MoeShape(2, 4, 1, 4, 4, 100)


def nothing() -> None:
    return None


def run(forecaster: Any, tokens: list[int], layers: list[list[int]]) -> list[Any]:
    """One pass; what was foretold at its beginning and after each layer."""
    found = [forecaster.begin(np.array(tokens))]
    for layer, chosen in enumerate(layers):
        found.append(forecaster.routed(layer, np.array(chosen)[:, None], nothing))
    forecaster.end()
    return found


def chances(forecast: Any) -> dict[int, float]:
    return dict(zip(forecast.keys.tolist(), forecast.chances.tolist(), strict=True))


def test_affinity_learns_what_follows() -> None:
    forecaster = Affinity(SHAPE)
    for _ in range(50):
        run(forecaster, [1, 2], [[0, 1], [2, 3]])
    _, first, last = run(forecaster, [1], [[0], [2]])
    assert last is None
    assert chances(first)[4 + 2] > 0.9 and chances(first).get(4 + 3, 0.0) < 0.2
    assert forecaster.pairs[0, 0, 2] == 51.0 and forecaster.pairs.shape == (1, 4, 4)


def test_tokens_say_all_layers_before_the_first() -> None:
    forecaster = TokenTable(SHAPE)
    assert forecaster.begin(np.array([1])) is None  # nothing is known yet
    for _ in range(20):
        run(forecaster, [1, 2], [[0, 1], [2, 3]])
    own = chances(forecaster.expect(np.array([1])))
    assert own[0] > 0.9 and own[4 + 2] > 0.9 and own.get(1, 0.0) < 0.1
    both = chances(forecaster.begin(np.array([1, 2])))
    assert min(both[0], both[1], both[6], both[7]) > 0.9
    stranger = chances(forecaster.expect(np.array([99])))
    assert stranger[0] == pytest.approx(0.5)  # as the layer's own frequencies
    assert forecaster.expect(np.array([], np.int64)) is None


def test_a_token_table_is_bounded() -> None:
    forecaster = TokenTable(SHAPE, max_bytes=4 * 8 * 3)
    for token in range(40):
        run(forecaster, [token], [[token % 4], [0]])
    assert len(forecaster._rows) == 3 and len(forecaster._counts) <= 16
    assert forecaster.begin(np.array([39])) is not None


def test_a_pass_that_failed_teaches_nothing() -> None:
    forecaster = TokenTable(SHAPE)
    run(forecaster, [1], [[0]])
    assert forecaster.begin(np.array([1])) is None


def test_looking_ahead_knows_how_often_it_was_right() -> None:
    forecaster = LookAhead(SHAPE)
    for _ in range(60):
        forecaster.begin(np.array([1]))
        told = forecaster.routed(0, np.array([[0]]), lambda: np.array([[3]]))
        forecaster.routed(1, np.array([[1]]), nothing)  # always wrong
        forecaster.end()
    assert told is not None and told.keys.tolist() == [7] and told.chances[0] < 0.1
    assert forecaster.routed(0, np.array([[0]]), nothing) is None


@pytest.fixture(scope="module")
def trained() -> tuple[Predictor, Any]:
    pytest.importorskip("torch")
    from updraft_cloud.experts.predictor_training import train_predictor

    trace = make_trace(1200, Routing(layers=2, experts=8, active=2, vocabulary=40, noise=0.2))
    told: list[str] = []
    first = trace.part(0, trace.pass_count // 2)
    predictor = train_predictor(replace(first, fingerprint="ab" * 8), epochs=12, progress=told.append)
    assert len(told) == 12
    return predictor, trace.part(trace.pass_count // 2, trace.pass_count)


def test_a_trained_predictor_is_right_on_what_it_has_not_seen(trained: tuple[Predictor, Any]) -> None:
    from updraft_cloud.experts.predictor_training import measure_predictor

    predictor, rest = trained
    right = measure_predictor(predictor, rest)
    assert right["precision"] > 0.7 and right["recall"] > 0.6
    forecast = PredictorForecast(predictor, rest.shape).begin(rest.tokens[:3])
    assert forecast is not None
    assert (np.diff(forecast.keys // rest.shape.experts) >= 0).all()  # earlier layers first
    assert PredictorForecast(predictor, rest.shape).expect(np.array([], np.int64)) is None


def test_a_predictor_is_read_as_it_was_written(trained: tuple[Predictor, Any], tmp_path: Path) -> None:
    predictor, rest = trained
    path = tmp_path / "routes.safetensors"
    write_predictor(path, predictor)
    again = read_predictor(path)
    assert np.array_equal(again(rest.tokens[:9]), predictor(rest.tokens[:9]))
    again.check(shape=rest.shape, fingerprint="ab" * 8)
    with pytest.raises(WrongTrunk):
        again.check(shape=rest.shape, fingerprint="cd" * 8)
    with pytest.raises(WrongTrunk):
        again.check(shape=SHAPE, fingerprint="ab" * 8)
    content = path.read_bytes()
    for cut in (0, 7, 100, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(BadModelFile):
            read_predictor(path)
    with pytest.raises(ModelNotFound):
        read_predictor(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("embed", lambda values: values[:-1]),
        ("out.bias", lambda values: values * np.nan),
        ("tokens", lambda values: values[::-1].copy()),
        ("hidden.weight", lambda values: values.astype(np.float64)),
    ],
)
def test_a_damaged_predictor_is_refused(trained: tuple[Predictor, Any], name: str, change: Any) -> None:
    predictor, _ = trained
    with pytest.raises(BadModelFile):
        replace(predictor, tensors={**predictor.tensors, name: change(predictor.tensors[name])})


def test_a_short_trace_trains_nothing() -> None:
    pytest.importorskip("torch")
    from updraft_cloud.experts.predictor_training import train_predictor

    with pytest.raises(ConfigError, match="too short"):
        train_predictor(make_trace(4, Routing(layers=1, experts=4, active=1)))
