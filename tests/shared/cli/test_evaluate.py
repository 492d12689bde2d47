"""`updraft eval` with both tiers on tiny models: files, resuming, reports and exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Updraft = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a few items of some tasks."""
    questions = [
        {"id": f"q{n}", "question": f"Which is {n}?", "choices": [str(n), "a cat", "none"], "answer": n % 3}
        for n in range(4)
    ]
    passages = [{"text": f"the cat and the dog ran to the {word}"} for word in ("door", "cat", "shore", "town")]
    prompts = [{"question_id": n, "category": "c", "turns": [f"Tell me of {n}."]} for n in range(3)]
    files: dict[str, list[Any]] = {
        "multiple_choice/arc_easy.jsonl": questions,
        "lambada/lambada_test.jsonl": passages,
        "spec_bench/question.jsonl": prompts,
    }
    for path, lines in files.items():
        file = tmp_path / "data" / path
        file.parent.mkdir(parents=True)
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "data"


@pytest.fixture
def common(tmp_path: Path, data: Path, tiny_pair: tuple[Path, Path]) -> list[str]:
    edge, cloud = map(str, tiny_pair)
    models = ["--model", edge, "--cloud-model", cloud, "--context", "512"]
    return ["--data", str(data), "--results", str(tmp_path / "results.jsonl"), *models]


def test_tasks_are_run_resumed_and_reported(updraft: Updraft, tmp_path: Path, common: list[str]) -> None:
    report = tmp_path / "out" / "report.html"
    span = "span window=1 min_stay=1 hand_back=1 escalate=1,5"
    arguments = ["eval", "arc_easy", "lambada", "spec_bench", *common, "--max-tokens", "6", "--policy", span]
    done = updraft(*arguments, "--mode", "draft", "--json", "--report", str(report))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["resumed"] == 0 and set(found["verdicts"]) == {"arc_easy", "lambada", "spec_bench"}
    tasks = {task["task"]: task for task in found["tasks"]}
    rows = {row["variant"]: row for row in tasks["spec_bench"]["rows"]}
    assert rows["cloud"]["measures"]["rouge_l"] == rows["draft"]["measures"]["exact"] == 1.0
    assert (rows["edge"]["share"], rows["cloud"]["share"]) == (0.0, 1.0)
    assert [row["variant"] for row in tasks["lambada"]["rows"]] == [
        "edge",
        *(f"{span[:-4]}={n}" for n in (1, 5)),
        "cloud",
    ]
    page = report.read_text(encoding="utf-8")
    assert "<svg" in page and "arc_easy" in page and "oracle" in page

    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 4 * 4 + 4 * 4 + 3 * 5
    assert not any('"text"' in line or '"token_ids"' in line for line in lines)
    again = updraft(*arguments, "--mode", "draft")
    assert again.exit_code == 0 and "random escalation" in again.stdout, again.output
    assert (tmp_path / "results.jsonl").read_text().splitlines() == lines


def test_another_pair_is_refused(updraft: Updraft, common: list[str], tiny_pair: tuple[Path, Path]) -> None:
    assert updraft("eval", "arc_easy", *common, "--limit", "1").exit_code == 0
    turned = [*common, "--model", str(tiny_pair[1])]
    refused = updraft("eval", "arc_easy", *turned, "--limit", "1")
    assert refused.exit_code == 2
    assert "another pair of models" in refused.output and "--results" in refused.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["arc"], "There is no task 'arc'"),
        ([], "No task is named"),
        (["gsm8k"], "test.jsonl: it cannot be read"),
        (["humaneval"], "that is off"),
        (["arc_easy", "--mode", "swim"], "no mode 'swim'"),
        (["arc_easy", "--sweep", "span.escalate=1,2"], "belongs to no mode"),
        (["arc_easy", "--mode", "span", "--sweep", "span.escalate=much"], "span.escalate"),
        (["arc_easy", "--policy", "span nothing"], "not KEY=VALUE"),
    ],
)
def test_wrong_input_is_said_before_models_are_loaded(
    updraft: Updraft, data: Path, arguments: list[str], message: str
) -> None:
    done = updraft("eval", *arguments, "--data", str(data), "--model", "no-such-model")
    assert done.exit_code == 2
    assert message in done.output


def test_the_data_folder_must_be_named(updraft: Updraft, tmp_path: Path) -> None:
    assert "not part of Updraft" in updraft("eval", "arc_easy").output
    assert "is no folder" in updraft("eval", "arc_easy", "--data", str(tmp_path / "none")).output


def test_tasks_are_listed(updraft: Updraft) -> None:
    listed = updraft("eval", "--list")
    assert listed.exit_code == 0 and "arc_easy" in listed.stdout and "wikitext2" in listed.stdout
    tasks: list[dict[str, Any]] = json.loads(updraft("eval", "--list", "--json").stdout)
    assert {"task", "measure", "what"} == set(tasks[0])


def test_help_has_examples_and_says_what_running_code_means(updraft: Updraft) -> None:
    text = " ".join(updraft("eval", "--help").stdout.split())
    plain = text.replace("│ │", "").replace("  ", " ")
    assert "updraft eval arc_easy lambada" in text and "share the kernel and can read" in plain
