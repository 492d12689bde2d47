"""The harness's place is taken by a client that asks what it asks: prompts echoed with their log-probabilities."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from bench.harness import HarnessBench, compared
from bench.lm_eval import HarnessItem, find_harness, run_harness, task_file
from updraft.errors import ConfigError

ITEMS = [
    {"id": "a", "question": "What is warm?", "choices": ["the sun", "snow", "the moon"], "answer": 0},
    {"id": "b", "question": "What flies?", "choices": ["a bird", "a stone"], "answer": 0},
]

CLIENT = """#!{python}
import json, sys, urllib.request, pathlib
arguments = dict(zip(sys.argv[2::2], sys.argv[3::2]))
model = dict(part.split("=", 1) for part in arguments["--model_args"].split(","))
base = model["base_url"]
def ask(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {{"content-type": "application/json"}})
    return json.load(urllib.request.urlopen(request))
def tokens(text):
    return ask(base.replace("/v1/completions", "/tokenize"), {{"prompt": text, "add_special_tokens": False}})["tokens"]
task = json.loads(next(pathlib.Path(arguments["--include_path"]).glob("*.yaml")).read_text())
lines = pathlib.Path(task["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
out = pathlib.Path(arguments["--output_path"])
with open(out / "samples_x.jsonl", "w") as file:
    for number, line in enumerate(lines):
        item = json.loads(line)
        context = "Question: " + item["question"] + "\\nAnswer:"
        start = len(tokens(context))
        wholes = [context + " " + choice for choice in item["choices"]]
        prompts = [tokens(whole) for whole in wholes] if model["tokenized_requests"] == "True" else wholes
        body = {{"model": model["model"], "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1,
                 "seed": 1234, "echo": True}}
        choices = ask(base, body)["choices"]
        sums = [sum(choice["logprobs"]["token_logprobs"][start:-1]) for choice in choices]
        normed = [value / len(choice) for value, choice in zip(sums, item["choices"])]
        file.write(json.dumps({{"doc_id": number, "filtered_resps": [[str(value), "False"] for value in sums],
            "acc": float(sums.index(max(sums)) == item["answer"]),
            "acc_norm": float(normed.index(max(normed)) == item["answer"])}}) + "\\n")
"""


def script(path: Path, text: str) -> Path:
    path.write_text(text.format(python=sys.executable))
    path.chmod(0o755)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "multiple_choice").mkdir()
    lines = "\n".join(map(json.dumps, ITEMS))
    (tmp_path / "multiple_choice" / "arc_easy.jsonl").write_text(lines + "\n")
    return tmp_path


async def test_both_find_the_same_for_each_judge_and_kind_of_prompt(data: Path, tiny_model_path: Path) -> None:
    bench = HarnessBench(
        data=data, lm_eval=script(data / "lm_eval", CLIENT), limit=2, model=str(tiny_model_path),
        cloud_model=str(tiny_model_path), context=256,
    )  # fmt: skip
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps
    judged = [(row["judge"], row["prompts"]) for row in results["rows"]]
    assert judged == [(judge, kind) for judge in ("edge", "cloud") for kind in ("token ids", "texts")]
    assert results["passed"]
    for row in results["rows"]:
        assert row["items"] == row["same_items"] == 2
        assert row["largest_difference"] < 1e-4
    assert bench.tables(results)[0].row_count == 4


async def test_a_harness_that_fails_is_told_with_its_words(tmp_path: Path) -> None:
    task_file(['{"question": "?", "choices": ["a", "b"], "answer": 0}'], tmp_path)
    failing = script(tmp_path / "lm_eval", '#!{python}\nraise SystemExit("no such task")\n')
    with pytest.raises(ConfigError, match="no such task"):
        await run_harness(failing, "127.0.0.1:9", "updraft", tmp_path, as_tokens=True)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="lm_eval cannot be run"):
        find_harness(None)
    with pytest.raises(ConfigError, match="needs items"):
        HarnessBench()
    with pytest.raises(ConfigError, match="at least 1"):
        HarnessBench(data=tmp_path, limit=0)
    assert os.access(script(tmp_path / "lm_eval", "#!{python}\n"), os.X_OK)
    assert find_harness(None) == tmp_path / "lm_eval"


def test_items_of_a_run_differ_where_a_score_does() -> None:
    one, two = HarnessItem(1.0, 0.0, (-1.0, -2.0)), HarnessItem(0.0, 0.0, (-1.5, -2.0))
    found = compared([one, one], [one, two])
    assert (found["same_items"], found["acc"], found["acc_harness"]) == (1, 1.0, 0.5)
    assert found["largest_difference"] == 0.5
