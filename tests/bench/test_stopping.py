"""`updraft bench stopping`: what it records, its figures, and a whole run on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.judged import Text
from bench.stopping import StoppingBench
from bench.stopping_figures import summarise, token_ms
from bench.stopping_plot import plot_stopping
from bench.stopping_record import Asked, choose, read_questions, record, verify_times, write_cloud_texts
from bench.stopping_rules import rules_of
from tests.bench.answers import answer
from tests.fakes.engine import HashEngine
from updraft.errors import ConfigError, InvalidRequest, ModelNotFound


def question(category: str, prompt: str) -> str:
    return json.dumps({"question_id": 1, "category": category, "turns": [prompt, "more"]})


def test_categories_of_mt_bench_are_one_task(tmp_path: Path) -> None:
    path = tmp_path / "question.jsonl"
    path.write_text("\n".join([question("writing", "a"), question("stem", "b"), "", question("qa", "c")]))
    assert read_questions(path) == [Asked("mt_bench", "a"), Asked("mt_bench", "b"), Asked("qa", "c")]
    assert {asked.task for asked in read_questions(None)} == {"built-in"}


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"category": "qa"}', '{"category": "qa", "turns": []}', '{"category": 1, "turns": ["a"]}']
)
def test_lines_that_are_no_questions_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "question.jsonl"
    path.write_text(question("qa", "a") + "\n" + line)
    with pytest.raises(InvalidRequest, match="line 2"):
        read_questions(path)
    path.write_text("\n")
    with pytest.raises(InvalidRequest, match="no questions"):
        read_questions(path)
    with pytest.raises(ModelNotFound):
        read_questions(tmp_path / "none.jsonl")


def test_prompts_take_turns_by_task_and_long_ones_are_left_out() -> None:
    engine = HashEngine()
    asked = [Asked("a", "x" * size) for size in (4, 300, 5, 6, 7)] + [Asked("b", "yy")]
    chosen = choose(asked, engine, 2, 100)
    assert [(one.task, len(one.prompt)) for one in chosen] == [("a", 4), ("b", 2), ("a", 6)]
    with pytest.raises(InvalidRequest, match="no prompt"):
        choose(asked, engine, 2, 1)


def test_a_recording_is_what_the_edge_would_draft() -> None:
    cloud, edge = HashEngine(), HashEngine(noise=0.5)
    (text,) = write_cloud_texts(cloud, [Asked("a", "hello")], 24, lambda said: None)
    recording, times = record(edge, text, tail=5)
    assert recording.text == tuple(text.answer)
    assert 0.2 < recording.share < 1.0 and len(times) >= len(text.answer)
    assert edge.open_sequences == 0
    place = min(recording.tails)
    prefix = [*text.prompt, *text.answer[:place]]
    (again, _) = record(edge, Text(0, prefix, 0.0, 0, text.answer[place:]), tail=5)
    assert [one.token for one in again.run(0, 5)] == [one.token for one in recording.run(place, 5)]
    (same, _) = record(cloud, text, tail=5)
    assert same.share == 1.0 and not same.tails


def test_passes_are_timed_for_every_length() -> None:
    cloud = HashEngine()
    (text,) = write_cloud_texts(cloud, [Asked("a", "hello")], 8, lambda said: None)
    times = verify_times(cloud, text, 9)
    assert len(times) == 9 and all(seconds > 0 for seconds in times) and cloud.open_sequences == 0


def test_rules_have_names_and_lengths(tmp_path: Path) -> None:
    rules = rules_of((4, 2), 1.5, None)
    assert [(rule.name, rule.length, rule.adapts) for rule in rules] == [
        ("fixed 2", 2, False),
        ("fixed 4", 4, False),
        ("entropy 1.5", None, False),
        ("cost-aware", None, True),
    ]
    assert rules_of((4, 2), 1.5, tmp_path)[-1].settings.stop.predictor == "head"


def test_times_begin_at_the_first_verdict() -> None:
    assert token_ms(answer([1, 2, 3, 4], [1.0, 1.001, 1.1, 1.2])) == pytest.approx(100)
    assert token_ms(answer([1, 2], [1.0, 1.001])) is None


def row(rule: str, trip: float, ms: float, length: int | None = None) -> dict[str, Any]:
    return {
        "drafter": "edge",
        "rule": rule,
        "round_trip_ms": trip,
        "length": length,
        "adapts": length is None,
        "wall_ms_per_token": ms,
        "cloud_passes_per_token": 0.5,
    }


def rows(near: float, far: float) -> list[dict[str, Any]]:
    fixed = [row(f"fixed {n}", trip, ms, n) for n, trip, ms in ((2, 0, 10), (8, 0, 20), (2, 80, 60), (8, 80, 40))]
    return [*fixed, row("cost-aware", 0, near), row("cost-aware", 80, far)]


@pytest.mark.parametrize(
    ("near", "far", "passed"), [(10.2, 40.0, True), (9.0, 42.0, False), (10.0, 41.0, True), (10.4, 39.0, False)]
)
def test_the_rule_must_be_near_the_best_length_of_every_link(near: float, far: float, passed: bool) -> None:
    found = summarise(rows(near, far))
    assert found["passed"] is passed
    assert [(one["best"], one["ratio"]) for one in found["against_best"]] == [
        ("fixed 2", near / 10),
        ("fixed 8", far / 40),
    ]
    across = {one["rule"]: one["mean_ratio"] for one in found["across_links"]}
    assert across["fixed 2"] == pytest.approx((1.0 * 1.5) ** 0.5)


def test_the_rule_must_beat_each_length_over_all_links() -> None:
    one_length = [row("fixed 2", trip, 10, 2) for trip in (0, 80)]
    assert not summarise([*one_length, row("cost-aware", 0, 10.1), row("cost-aware", 80, 10.1)])["passed"]


async def test_a_whole_run_on_tiny_models(tiny_pair: tuple[Path, Path], tmp_path: Path) -> None:
    edge, cloud = map(str, tiny_pair)
    bench = StoppingBench(
        drafters=(edge,),
        cloud_model=cloud,
        round_trips_ms=(0.0, 4.0),
        lengths=(2, 4),
        modes=("cloud",),
        each=3,
        tokens=12,
        longest_prompt=400,
        longest_real=400,
        pin=False,
    )
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps == 3 * 2 + 2 * 5 + 1
    assert len(results["rows"]) == 2 * 4 and len(results["real"]) == 2 * 5
    for real in results["real"]:
        if real["rule"].startswith("fixed"):  # what the answers did is what the replay says
            assert real["cloud_passes_per_token"] == pytest.approx(real["replayed_passes_per_token"])
    json.dumps(results, allow_nan=False)
    assert len(bench.tables(results)) == 5
    plot_stopping(results["rows"], tmp_path / "stopping.png", subtitle="tiny")
    assert (tmp_path / "stopping.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "options",
    [
        {"drafters": ()},
        {"round_trips_ms": (-1.0,)},
        {"lengths": (4,)},
        {"lengths": (0, 4)},
        {"heads": ("other=head.safetensors",)},
        {"tokens": 600},
    ],
)
def test_options_that_cannot_be_measured_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        StoppingBench(**options)
