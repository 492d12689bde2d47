"""The search proposes valid pipelines only, finds the same for a seed, and writes what can be read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.engine import HashEngine
from updraft.composition import load_pipeline
from updraft.errors import InvalidRequest
from updraft.sampling import SamplingParams
from updraft.strategies.subject import Question, Subject, read_questions

optuna = pytest.importorskip("optuna")

from updraft.composition.search import Found, Space, propose, search, written  # noqa: E402  # optuna's absence skips before

QUESTIONS = [Question(f"question {number}", answer) for number, answer in enumerate("AbC3")]


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


async def found(space: Space, *, trials: int = 12, seed: int = 0, price: float = 0.0) -> Found:
    async with Subject(
        HashEngine(context=2048, sequences=8, recorded=False),
        extract=lambda text: text[-1:] or None,
        max_tokens=4,
        sampling=SamplingParams(temperature=1.0),
    ) as subject:
        return await search(subject, QUESTIONS, space, trials=trials, seed=seed, price=price)


@pytest.mark.parametrize("space", [Space(), Space(texts=False), Space(samples=1), Space(verifier=True)])
def test_every_proposal_is_a_valid_pipeline_of_the_space(space: Space, tmp_path: Path) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(40):
        trial = study.ask()
        pipeline = propose(trial, space)
        kinds = {part.kind for part in pipeline.order}
        assert space.texts or not kinds & {"critique", "fuse"}
        assert max(getattr(part, "samples", 0) for part in pipeline.order if part.kind == "generate") <= space.samples
        (tmp_path / "found.toml").write_text(written(pipeline))
        assert load_pipeline(tmp_path / "found.toml") == pipeline
        study.tell(trial, 0.0)


async def test_a_seed_finds_the_same_and_the_single_sample_is_tried() -> None:
    first, second = await found(Space()), await found(Space())
    assert first == second and 2 < len(first.trials) <= 12
    assert all(trial.value <= first.best.value for trial in first.trials)
    single = [trial for trial in first.trials if [part.kind for part in trial.pipeline.order] == ["generate"]]
    assert single and single[0].pipeline.component[0].model_dump()["samples"] == 1


async def test_a_price_prefers_what_draws_little() -> None:
    free, dear = await found(Space(texts=False)), await found(Space(texts=False), price=1000.0)
    assert dear.best.tokens == min(trial.tokens for trial in dear.trials) <= free.best.tokens
    assert dear.best.value == pytest.approx(dear.best.accuracy - dear.best.tokens)


def test_questions_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"question": "1+1=", "answer": 2}\n\n{"question": "x", "answer": "y", "level": 3}\n')
    assert read_questions(path) == [Question("1+1=", "2"), Question("x", "y", 3)]
    for text in ("", "[]", "{", '{"question": 1, "answer": "a"}', '{"question": " ", "answer": "a"}', '{"answer": ""}'):
        path.write_text(text)
        with pytest.raises(InvalidRequest):
            read_questions(path)
    with pytest.raises(InvalidRequest):
        read_questions(tmp_path / "missing.jsonl")
