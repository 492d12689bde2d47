"""Predictors: calibration of confidences and of a head's scores from verdicts."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.engine import HashEngine
from updraft.acceptance_head import FEATURES, AcceptanceHead, write_acceptance_head
from updraft.errors import BadModelFile, InvalidRequest, ModelNotFound, WrongTrunk
from updraft.mode_settings import StopSettings
from updraft.sampling import Distribution, Sampled
from updraft_edge.stopping.predictors import Calibration, Predictors, ScorePredictor, confidence, head_score

SCORES = st.floats(0.0, 1.0)
HEAD = StopSettings(predictor="head")


def token(top_probability: float, hidden: list[float] | None = None) -> Sampled:
    state = None if hidden is None else np.array(hidden, np.float32)
    return Sampled(1, -1.0, Distribution(0.0, 1.0, top_probability), hidden=state)


def head(fingerprint: str, width: int = 4, narrow: int = 3) -> AcceptanceHead:
    rng = np.random.default_rng(0)
    shapes = {
        "scale": (width,),
        "project.weight": (narrow, width + FEATURES),
        "project.bias": (narrow,),
        "blocks.0.weight": (narrow, narrow),
        "blocks.0.bias": (narrow,),
        "out.weight": (narrow + FEATURES,),
        "out.bias": (1,),
    }
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return AcceptanceHead(tensors, fingerprint, "the cloud's")


@given(st.lists(st.tuples(SCORES, st.booleans()), max_size=300), st.lists(SCORES, min_size=2, max_size=20))
def test_calibration_gives_probabilities_that_never_fall(seen: list[tuple[float, bool]], asked: list[float]) -> None:
    calibration = Calibration()
    for score, stood in seen:
        calibration.learn(score, stood)
    said = [calibration(score) for score in sorted(asked)]
    assert all(0.0 <= value <= 1.0 for value in said)
    assert all(before <= after + 1e-12 for before, after in pairwise(said))
    assert 0.0 < calibration.mean < 1.0


def test_calibration_converges_to_the_share_that_stood() -> None:
    calibration, rng = Calibration(), random.Random(0)
    for _ in range(3000):
        calibration.learn(0.35, rng.random() < 0.3)
        calibration.learn(0.95, rng.random() < 0.8)
    assert calibration(0.35) == pytest.approx(0.3, abs=0.04)
    assert calibration(0.95) == pytest.approx(0.8, abs=0.04)
    assert calibration.mean == pytest.approx(0.55, abs=0.04)


def test_shares_that_fall_with_confidence_are_pooled() -> None:
    calibration = Calibration()
    for index in range(1000):
        calibration.learn(0.3, True)
        calibration.learn(0.9, index % 2 == 0)
    assert calibration(0.3) == pytest.approx(calibration(0.9), abs=0.02)


def test_calibration_forgets_another_text() -> None:
    calibration = Calibration()
    for _ in range(6000):
        calibration.learn(0.6, False)
    for _ in range(6000):
        calibration.learn(0.6, True)
    assert calibration(0.6) > 0.7


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1])
def test_scores_that_are_no_probabilities_are_refused(score: float) -> None:
    calibration = Calibration()
    with pytest.raises(InvalidRequest, match="from 0 to 1"):
        calibration(score)
    with pytest.raises(InvalidRequest, match="from 0 to 1"):
        calibration.learn(score, True)


def test_only_judged_tokens_are_learned_from() -> None:
    predictor, before = (ScorePredictor(confidence, Calibration()) for _ in range(2))
    predictor.learn([token(0.15), token(0.75), token(0.75)], accepted=0)
    assert predictor(token(0.15)) < before(token(0.15))
    fresh = Calibration()
    fresh.learn(0.15, False)
    assert predictor(token(0.75)) == fresh(0.75)


def test_rounding_above_one_is_certainty() -> None:
    assert confidence(token(1.0 + 1e-7)) == 1.0


def test_a_head_scores_each_token_once_and_its_own_state() -> None:
    one = head("edge")
    score = head_score(one)
    first, second = token(0.5, [1, 2, 3, 4]), token(0.5, [4, -3, 2, 1])
    assert score(first) != score(second)
    assert score(first) == pytest.approx(one(np.array([1, 2, 3, 4], np.float32), 0.5, 1.0, -1.0))
    assert 0.0 <= score(first) <= 1.0


def test_a_token_without_a_state_or_with_a_broken_one_is_refused() -> None:
    predictor = ScorePredictor(head_score(head("edge")), Calibration())
    with pytest.raises(InvalidRequest, match="no hidden state"):
        predictor(token(0.5))
    with pytest.raises(InvalidRequest, match="nan"):
        predictor(token(0.5, [float("nan"), 0, 0, 0]))


def test_an_agent_without_a_head_refuses_the_predictor() -> None:
    predictors = Predictors(HashEngine().info, None)
    with pytest.raises(InvalidRequest, match="has none"):
        predictors.of(HEAD)
    assert predictors.of(StopSettings()) is predictors.of(StopSettings(rule="fixed"))
    assert not predictors.reads_hidden(StopSettings(rule="fixed", predictor="head"))


def test_each_way_of_judging_is_learned_for_itself_and_few_are_kept() -> None:
    predictors, settings = Predictors(HashEngine().info, None), StopSettings()
    first = predictors.of(settings, "greedy")
    assert predictors.of(settings, "greedy") is first is not predictors.of(settings, "sampled")
    for number in range(Predictors.MOST - 1):
        predictors.of(settings, number)
        assert predictors.of(settings, "greedy") is first  # in use, so kept
    for number in range(Predictors.MOST):
        predictors.of(settings, number)
    assert predictors.of(settings, "greedy") is not first


def test_an_agent_with_a_head_uses_it(tmp_path: Path) -> None:
    info = HashEngine().info
    write_acceptance_head(tmp_path / "head.safetensors", head(info.fingerprint))
    predictors = Predictors(info, tmp_path / "head.safetensors")
    assert predictors.reads_hidden(HEAD)
    assert predictors.of(HEAD) is not predictors.of(StopSettings())
    assert 0.0 <= predictors.of(HEAD)(token(0.5, [1, 0, 0, 0])) <= 1.0


def test_a_head_for_another_model_is_refused_when_the_agent_starts(tmp_path: Path) -> None:
    info, path = HashEngine().info, tmp_path / "head.safetensors"
    with pytest.raises(ModelNotFound):
        Predictors(info, path)
    write_acceptance_head(path, head("another"))
    with pytest.raises(WrongTrunk, match="another"):
        Predictors(info, path)
    write_acceptance_head(path, head(info.fingerprint, width=8))
    with pytest.raises(BadModelFile, match="reads 8"):
        Predictors(info, path)
