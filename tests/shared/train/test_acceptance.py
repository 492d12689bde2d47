"""The acceptance head: labels of two models, training, how good it is, and the whole run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.tiny_model import write_tiny_model
from tests.shared.train.conftest import conversations, write_lines
from updraft.acceptance_head import features_of, read_acceptance_head
from updraft.engine import open_engine
from updraft.errors import InvalidRequest
from updraft.train.acceptance import HeadRecipe, compare, quality, train_head
from updraft.train.acceptance_job import AcceptanceJob, train_acceptance
from updraft.train.acceptance_labels import Labels, collect_labels
from updraft.train.conversations import Conversation

QUICK = HeadRecipe(narrow=8, blocks=1, epochs=12, batch=128, learning_rate=5e-3, dropout=0.0)


def labels(count: int, seed: int = 0) -> Labels:
    """The state's first value says what stands; the confidence says a little of it."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, 16)).astype(np.float16)
    stood = hidden[:, 0] + 0.3 * rng.normal(size=count) > -0.3
    confidence = np.clip(0.4 + 0.2 * stood + 0.2 * rng.normal(size=count), 0.01, 0.99).astype(np.float32)
    features = np.array([features_of(float(p), 1.0, -1.0) for p in confidence], np.float32)
    return Labels(hidden, features, confidence, stood)


def test_labels_say_where_the_edge_draws_the_clouds_token(tmp_path: Path) -> None:
    paths = [write_tiny_model(tmp_path / f"{noise:g}.gguf", noise=noise) for noise in (0.0, 0.1)]
    cloud, edge = (open_engine(path, context=256, sequences=1, threads=1) for path in paths)
    try:
        text = conversations(6)
        same, differ = collect_labels(cloud, cloud, text), collect_labels(edge, cloud, text)
        total = sum(len(one.response) for one in text)
        assert len(same) == len(differ) == total and same.stood.all()
        assert 0.2 < differ.stood.mean() < 1.0
        assert differ.hidden.shape == (total, 64) and differ.features.shape == (total, 3)
        assert ((differ.confidence > 0) & (differ.confidence <= 1)).all()
        whole = collect_labels(edge, cloud, [text[0], text[-1]])
        last = len(text[-1].response)
        assert np.array_equal(whole.hidden[-last:], differ.hidden[-last:])
        with pytest.raises(InvalidRequest, match="fits 256"):
            collect_labels(edge, cloud, [Conversation((), (1, 2, 3)), Conversation((1,), (2,) * 300)])
    finally:
        cloud.shutdown()
        edge.shutdown()


def test_models_of_different_tokenizers_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="tokenizers"):
        collect_labels(HashEngine(), HashEngine(tokenizer_hash="others"), conversations(2))


def test_a_model_without_hidden_states_is_refused() -> None:
    text = [Conversation((1, 2), (3, 4))]
    with pytest.raises(InvalidRequest, match="no hidden states"):
        collect_labels(HashEngine(), HashEngine(), text)


def test_a_head_learns_what_the_confidence_does_not_say() -> None:
    head = train_head(labels(3000), edge="e", cloud="c", recipe=QUICK)
    found = compare(head, labels(3000), labels(800, seed=1))
    assert found["head"].auc > 0.9 > found["confidence"].auc > 0.55
    assert found["head"].log_loss < found["confidence"].log_loss < found["always"].log_loss
    assert found["always"].auc == 0.5
    assert (head.edge, head.cloud, head.width, head.facts["positions"]) == ("e", "c", 16, 3000)


def test_the_weight_of_rejections_is_taken_out_of_the_probabilities() -> None:
    held_out = labels(800, seed=1)
    for weight in (1.0, 6.0):
        recipe = replace(QUICK, rejected_weight=weight)
        head = train_head(labels(3000), edge="e", cloud="c", recipe=recipe)
        said = head.probabilities(held_out.hidden.astype(np.float32), held_out.features)
        assert said.mean() == pytest.approx(held_out.stood.mean(), abs=0.05)


def test_one_token_is_judged_as_many_are() -> None:
    some = labels(50)
    head = train_head(labels(400), edge="e", cloud="c", recipe=replace(QUICK, epochs=2))
    together = head.probabilities(some.hidden.astype(np.float32), some.features)
    for row, said in enumerate(together):
        one = head(some.hidden[row].astype(np.float32), float(some.confidence[row]), 1.0, -1.0)
        assert one == pytest.approx(float(said), abs=1e-5)


def test_training_repeats_to_the_bit() -> None:
    first, second = (train_head(labels(400), edge="e", cloud="c", recipe=replace(QUICK, epochs=2)) for _ in range(2))
    assert all(np.array_equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


@pytest.mark.parametrize("stood", [True, False])
def test_too_little_to_learn_from_is_refused(stood: bool) -> None:
    few = labels(100)
    with pytest.raises(InvalidRequest, match="too few"):
        train_head(few, edge="e", cloud="c")
    with pytest.raises(InvalidRequest, match="too few"):
        train_head(replace(labels(500), stood=np.full(500, stood)), edge="e", cloud="c")


def test_quality_of_perfect_and_of_useless_probabilities() -> None:
    stood = np.array([True, False] * 50)
    perfect = quality(stood.astype(float), stood)
    assert perfect.accuracy == perfect.auc == 1.0 and perfect.log_loss < 1e-5
    useless = quality(np.full(100, 0.5), stood)
    assert useless.auc == 0.5 and useless.log_loss == pytest.approx(np.log(2))
    assert quality(1.0 - stood, stood).auc == 0.0


def test_a_whole_run_writes_a_head_for_the_pair(tiny_pair: tuple[Path, Path], tmp_path: Path) -> None:
    edge, cloud = map(str, tiny_pair)
    text = write_lines(tmp_path / "text.jsonl", conversations(60))
    stages: list[str] = []
    job = AcceptanceJob(
        edge,
        cloud,
        tmp_path / "heads" / "head.safetensors",
        (text,),
        recipe=replace(QUICK, epochs=2),
        threads=1,
        progress=lambda stage, done, total: stages.append(stage),
    )
    trained = train_acceptance(job)
    head = read_acceptance_head(trained.path)
    engine = open_engine(edge, context=64, sequences=1, threads=1)
    try:
        head.check(width=engine.info.width, fingerprint=engine.info.fingerprint)
    finally:
        engine.shutdown()
    assert set(head.facts["held_out"]) == {"always", "confidence", "head"} == set(trained.qualities)
    assert trained.positions > 200 and trained.held_out > 0 and 0.0 < trained.stood <= 1.0
    assert len(set(stages)) == 3


def test_the_cloud_answers_prompts_first(tiny_pair: tuple[Path, Path], tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"Question {number}?" for number in range(30)))
    edge, cloud = map(str, tiny_pair)
    job = AcceptanceJob(
        edge,
        cloud,
        tmp_path / "head.safetensors",
        prompts=(prompts,),
        conversations=12,
        longest=192,
        held_out=0.4,
        recipe=replace(QUICK, epochs=1),
        threads=1,
    )
    assert train_acceptance(job).positions > 200
    assert len((tmp_path / "head.jsonl").read_text().splitlines()) == 12


def test_nothing_to_train_on_is_refused(tiny_pair: tuple[Path, Path], tmp_path: Path) -> None:
    edge, cloud = map(str, tiny_pair)
    with pytest.raises(InvalidRequest, match="nothing to train on"):
        train_acceptance(AcceptanceJob(edge, cloud, tmp_path / "head.safetensors", threads=1))


def test_a_head_is_no_worse_than_the_confidence_where_the_state_says_nothing() -> None:
    rng = np.random.default_rng(3)

    def noise(count: int, seed: int) -> Labels:
        made = labels(count, seed)
        return replace(made, hidden=rng.normal(size=(count, 64)).astype(np.float16))

    training, held_out = noise(600, 0), noise(800, 1)
    found = compare(train_head(training, edge="e", cloud="c"), training, held_out)
    assert found["head"].auc > found["confidence"].auc - 0.03
