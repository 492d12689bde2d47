from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.fakes.tiny_model import write_tiny_model
from tests.shared.cli.conftest import Updraft

FORTY_TWO = '{"kind": "number", "value": 42}'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "labelled.jsonl"
    lines = [
        {"question": "6 * 7?", "answer": f"It is {42 if number < 6 else number}.", "right": number < 5}
        for number in range(10)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return tmp_path / "share" / "updraft" / "verifiers"


def test_one_answer_is_judged(updraft: Updraft) -> None:
    right = updraft("verify", "answer", "--verifier", FORTY_TWO, "6 * 7?", "It is 42.")
    assert right.exit_code == 0 and right.stdout.startswith("passed, score 1.000")
    assert "not measured" in right.stdout
    wrong = updraft("verify", "answer", "--verifier", FORTY_TWO, "6 * 7?", "-", text="It is 41.")
    assert wrong.exit_code == 0 and "not passed, score 0.000: the answer is another number" in wrong.stdout


def test_what_is_measured_counts_from_then_on(updraft: Updraft, data: Path, records: Path) -> None:
    result = updraft("verify", "measure", "--verifier", FORTY_TWO, "--data", str(data))
    assert result.exit_code == 0, result.output
    assert "wrong answers that pass: 1 of 5, 20.0% [0.5%, 71.6%]" in result.stdout
    assert "right answers that pass: 5 of 5, 100.0% [47.8%, 100.0%]" in result.stdout
    assert "most that resampling can reach from 50 % right samples: 83.3%" in result.stdout
    assert len(list(records.iterdir())) == 1
    answer = updraft("verify", "answer", "--verifier", FORTY_TWO, "--json", "6 * 7?", "42")
    assert json.loads(answer.stdout)["false_positive_rate"] == 0.2
    other = updraft("verify", "answer", "--verifier", '{"kind": "number", "value": 41}', "--json", "q", "42")
    assert json.loads(other.stdout)["false_positive_rate"] is None


def test_the_record_can_be_elsewhere_and_is_json(updraft: Updraft, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    result = updraft(
        "verify", "measure", "--verifier", FORTY_TWO, "--data", str(data), "--records", str(folder), "--json"
    )
    record = json.loads(result.stdout)
    assert record["false_positive_rate"] == 0.2 and record["level"] == 0.95
    assert Path(record["records"]).parent == folder


def test_a_wanted_rate_that_cannot_be_had_is_told(updraft: Updraft, data: Path) -> None:
    result = updraft("verify", "measure", "--verifier", FORTY_TWO, "--data", str(data), "--wanted", "0.01")
    assert result.exit_code == 2 and "at least 299" in result.stderr


def test_a_program_of_ones_own(updraft: Updraft) -> None:
    code = 'import json, sys; print(json.dumps([{"score": 0.7} for _ in json.load(sys.stdin)]))'
    program = f"mine={sys.executable} -c '{code}'"
    spec = '{"kind": "command", "name": "mine"}'
    result = updraft("verify", "answer", "--verifier", spec, "--program", program, "q", "a")
    assert result.stdout.startswith("passed, score 0.700")
    assert updraft("verify", "answer", "--verifier", spec, "--program", "mine", "q", "a").exit_code == 2


def test_models_are_asked(updraft: Updraft, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny.gguf")
    result = updraft("verify", "answer", "--verifier", "self", "--model", str(model), "--json", "q", "a")
    assert result.exit_code == 0, result.output
    assert 0 < json.loads(result.stdout)["score"] < 1
    source = tmp_path / "reward.json"
    source.write_text(json.dumps({"model": str(model), "good": "a", "bad": "b"}))
    for reward in (str(source), source.read_text()):
        result = updraft("verify", "answer", "--verifier", "reward", "--reward", reward, "--json", "q", "a")
        assert result.exit_code == 0, result.output
        assert 0 < json.loads(result.stdout)["score"] < 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--verifier", "self"], "--model"),
        (["--verifier", "reward"], "--reward"),
        (["--verifier", "no-such"], "number, regex, json-schema"),
        (["--verifier", "{"], "not JSON"),
        (["--verifier", "reward", "--reward", '{"good": "+"}'], "reward.model"),
        (["--verifier", "reward", "--reward", "/no/such.json"], "cannot be read"),
        (["--verifier", "reward", "--reward", "/no/such.gguf"], "such.gguf"),
        (["--verifier", '{"kind": "unit-tests", "tests": "pass"}'], "--execute-code"),
    ],
)
def test_what_is_missing_is_told_with_a_remedy(arguments: list[str], told: str, updraft: Updraft) -> None:
    result = updraft("verify", "answer", *arguments, "q", "a")
    assert result.exit_code in (1, 2) and told in result.stderr
    assert "Traceback" not in result.stderr


def test_what_thin_tests_let_pass_is_measured(updraft: Updraft, tmp_path: Path) -> None:
    bodies = (("2 * x", True), ("x * x", False), ("x + 1", False))
    lines = [
        {
            "question": "Write double(x).",
            "answer": f"```python\ndef double(x): return {body}\n```",
            "right": right,
            "settings": {"tests": "assert double(2) == 4"},
        }
        for body, right in bodies
    ]
    file = tmp_path / "code.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    allowed = ("--execute-code", "--unconfined-code")
    result = updraft("verify", "measure", "--verifier", "unit-tests", *allowed, "--data", str(file), "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["passed_right"], record["passed_wrong"], record["wrong"]) == (1, 1, 2)
    spec = '{"kind": "unit-tests", "tests": "assert double(3) == 6"}'
    answer = updraft("verify", "answer", "--verifier", spec, *allowed, "--json", "q", lines[0]["answer"])
    assert json.loads(answer.stdout)["false_positive_rate"] == 0.5
