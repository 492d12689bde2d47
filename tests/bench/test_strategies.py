"""The bench of strategies: what is run on a pool is what would have been drawn, and the arithmetic of its tables."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import strategy_smollm2
from bench.strategies import StrategiesBench
from bench.strategy_curves import (
    POOLED,
    RUN,
    budgets,
    curve_of_pools,
    curve_of_runs,
    equal_tokens,
    greedy,
    samples_saved,
)
from bench.strategy_pool import draw_pool, run_on
from bench.strategy_resampling import resampled
from bench.strategy_smollm2 import products, smollm2_curves
from bench.strategy_verifiers import rates_of
from tests.fakes.engine import HashEngine
from updraft.sampling import SamplingParams
from updraft.strategies import Budget, parse_strategy
from updraft.strategies.subject import Question, Subject
from updraft.verifiers import Resources, open_verifier
from updraft.verifiers.base import Claim, Judgement

QUESTIONS = [Question(f"question {number}", answer, number % 3) for number, answer in enumerate("#$%&")]


class LengthVerifier:
    """Likes long answers."""

    name = "length"
    judges_steps = True
    false_positive_rate = None

    async def judge(self, claims: Sequence[Claim]) -> Sequence[Judgement]:
        return [Judgement(score := min(1.0, len(claim.text) / 12), score > 0.5) for claim in claims]


@pytest.fixture
async def subject() -> AsyncIterator[Subject]:
    async with Subject(
        HashEngine(vocabulary=16, context=256, sequences=9, recorded=False),
        verifier=LengthVerifier(),
        extract=lambda text: text[-1:] or None,
        step="!",
        max_tokens=12,
        sampling=SamplingParams(temperature=1.0),
    ) as subject:
        yield subject


@pytest.mark.parametrize("name", POOLED)
async def test_a_strategy_on_a_pool_is_the_strategy(subject: Subject, name: str) -> None:
    strategy = parse_strategy(*POOLED[name])
    for seed, question in enumerate(QUESTIONS):
        real = await subject.attempt(question, strategy, Budget(samples=8), seed=seed)
        pool = await draw_pool(subject, question, 8, seed=seed)
        again = await run_on(pool, subject, strategy)
        assert (again.right, again.outcome.sample) == (real.right, real.outcome.sample)
        assert again.outcome.alternatives == real.outcome.alternatives
        assert again.outcome.spent.tokens == real.outcome.spent.tokens


async def test_curves_have_a_row_a_budget(subject: Subject) -> None:
    pools = [await draw_pool(subject, question, 8, seed=seed) for seed, question in enumerate(QUESTIONS)]
    rows = await curve_of_pools("self-consistency", pools, subject, 8)
    assert [row["samples"] for row in rows] == [1, 2, 4, 8]
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in rows)
    assert rows[0]["tokens"] < rows[1]["tokens"] < rows[2]["tokens"]
    assert set(rows[0]["by_level"]) == {"0", "1", "2"}
    row = await curve_of_runs("particle-filtering", QUESTIONS, subject, 3, seed=1)
    assert row["samples"] == 3 and row["calls"] > 0


async def test_the_greedy_row_is_the_likeliest_answer(subject: Subject) -> None:
    rows = [await greedy(subject, QUESTIONS) for _ in range(2)]
    assert rows[0] == rows[1] and rows[0]["samples"] == 1
    warm = await curve_of_runs("self-refine", QUESTIONS, subject, 1, seed=1)
    assert rows[0]["tokens"] != warm["tokens"]  # of samples at the subject's temperature


async def test_verifiers_are_judged_by_the_pools_answers(subject: Subject) -> None:
    pools = [await draw_pool(subject, question, 8, seed=seed) for seed, question in enumerate(QUESTIONS)]
    resources = Resources()
    rows = await rates_of("fake", [open_verifier("logprob", resources)], subject, pools, resources)
    right = sum(sum(pool.right) for pool in pools)
    assert (rows[0]["right"], rows[0]["wrong"]) == (right, 32 - right)
    assert rows[0]["low"] <= rows[0]["false_positive_rate"] <= rows[0]["high"]


async def test_strategies_run_on_smollm2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy_smollm2, "_ANSWER", 5)
    steps: list[str] = []
    rows, rates = await smollm2_curves(1, 2, (2,), seed=1, threads=2, step=steps.append)
    assert {row["strategy"] for row in rows} == {*POOLED, *RUN, "greedy"}
    assert {row["verifier"] for row in rates} == {"self", "generative", "generative, with a check", "logprob"}
    assert all(row["right"] + row["wrong"] == 2 for row in rates) and len(steps) == 2 + len(RUN)
    assert [question.answer for question in products(121, seed=0)] != [q.answer for q in products(121, seed=1)]
    assert len({question.text for question in products(500, seed=0)}) == 121


async def test_resampling_meets_an_exact_verifier_at_one_try_and_not_after(subject: Subject) -> None:
    pools = [await draw_pool(subject, question, 8, seed=seed) for seed, question in enumerate(QUESTIONS * 8)]
    results = await resampled(pools, subject, 8)
    first, *_, last = results["rows"]
    assert first["accuracy"] == first["exact"] and last["exact"] >= last["accuracy"]
    assert 0.0 <= results["false_positive_rate"] <= 1.0 and results["ceiling"] <= 1.0
    assert first["predicted"] == pytest.approx(sum(sum(pool.right) for pool in pools[1::2]) / (8 * 16))


def curve(name: str, points: dict[int, float], tokens: float = 10.0) -> list[dict[str, Any]]:
    return [
        {"strategy": name, "samples": samples, "accuracy": accuracy, "tokens": samples * tokens}
        for samples, accuracy in points.items()
    ]


def test_samples_saved_are_read_off_the_curves() -> None:
    votes = curve("self-consistency", {1: 0.5, 2: 0.5, 4: 0.6, 8: 0.7, 16: 0.9})
    others = curve("rpc", {1: 0.5, 2: 0.6, 4: 0.7, 8: 0.8})
    rows = samples_saved([*votes, *others])
    assert [(row["samples"], row["needed"], row["share"]) for row in rows] == [
        (4, pytest.approx(2.0), pytest.approx(0.5)),
        (8, pytest.approx(4.0), pytest.approx(0.5)),
        (16, None, None),
    ]


def test_search_is_compared_at_its_own_tokens() -> None:
    rows = equal_tokens(
        [
            *curve("best-of-n", {1: 0.4, 4: 0.6, 16: 0.8}),
            *curve("weighted best-of-n", {1: 0.4, 4: 0.5, 16: 0.7}),
            *curve("a-star", {1: 0.4, 4: 0.9}, tokens=20.0),
        ]
    )
    [row] = rows
    assert row["best_of_n"] == pytest.approx(0.7) and row["gain"] == pytest.approx(0.2)  # halfway on a log scale
    assert row["weighted"] == pytest.approx(0.6)


def test_budgets_are_powers_of_two() -> None:
    assert budgets(1) == [1] and budgets(64)[-1] == 64 and budgets(6) == [1, 2, 4]


async def test_the_bench_measures_the_shipped_family(tmp_path: Path) -> None:
    bench = StrategiesBench(questions=7, fitted=4, most=8, search=(2,), on=("lab-cloud", "lab-edge"), threads=1)
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) <= bench.steps
    assert set(results["curves"]) == {"lab-cloud", "lab-edge"}
    for rows in results["curves"].values():
        assert {row["strategy"] for row in rows} == {*POOLED, *RUN, "greedy"}
    assert {row["verifier"] for row in results["verifiers"]} == {"reward", "logprob"}
    choice, best, _ = results["choice"]["rows"]
    assert choice["tokens"] > 0 and best["share"] == 1.0
    assert parse_strategy("auto", results["choice"]["strategy"]).name == "auto"
    edge, verified, cloud, one, two, together = results["collaboration"]["rows"]
    assert edge["cloud_tokens"] == verified["cloud_tokens"] == 0 < one["cloud_tokens"] < two["cloud_tokens"]
    assert two["cloud_tokens"] <= cloud["cloud_tokens"] >= together["cloud_tokens"]
    assert json.loads(json.dumps(results, allow_nan=False)) and len(bench.tables(results)) == 9
    pytest.importorskip("matplotlib")
    assert bench.plot(results, tmp_path / "plot.png") and (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
