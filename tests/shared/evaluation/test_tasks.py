"""Each task with answers and scores worked out by hand."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.shared.evaluation.subjects import ScriptedSubject, scored
from updraft.errors import InvalidRequest, UnknownName
from updraft.evaluation.subject import Ask
from updraft.evaluation.tasks import Item, Outcome, TaskOptions, make_task, task_names
from updraft.evaluation.tasks.choices import chosen_letter
from updraft.evaluation.tasks.gsm8k import final_number
from updraft.evaluation.tasks.wikitext import windows
from updraft.sampling import Sampled

OPTIONS = TaskOptions()


def put(path: Path, *lines: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("name", task_names())
def test_every_task_names_itself(name: str) -> None:
    task = make_task(name, OPTIONS)
    assert task.name == name and task.summary and task.metric


def test_an_unknown_task_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="no task 'arc'; tasks are arc_easy, piqa") as caught:
        make_task("arc", OPTIONS)
    assert caught.value.param == "task"


async def test_options_are_judged_by_sum_and_by_length(tmp_path: Path) -> None:
    choices = ["no", "a long answer"]
    put(tmp_path / "multiple_choice/arc_easy.jsonl", {"id": "x", "question": "Why?", "choices": choices, "answer": 1})
    task = make_task("arc_easy", OPTIONS)
    items = task.items(tmp_path)
    contexts = []

    def scores(context: str, option: str) -> list[Sampled]:
        contexts.append((context, option))
        return [scored(1, -2.0)] if option == " no" else [scored(2, -1.0), scored(3, -1.5)]

    outcome = await task.run(items[0], ScriptedSubject(scores=scores), None)
    assert contexts == [("Question: Why?\nAnswer:", " no"), ("Question: Why?\nAnswer:", " a long answer")]
    # Sums: -2 against -2.5, so `no`; a character: -1 against -2.5/13, so the long answer.
    assert (outcome.score, outcome.measures) == (0.0, {"acc_norm": 1.0})
    assert outcome.signals["close_call"] == pytest.approx(-0.5)
    assert (outcome.answer, outcome.share, outcome.tokens) == ("A", 0.0, 3)
    assert task.totals([outcome, outcome]) == {"acc": 0.0, "acc_norm": 1.0}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("B", 1),
        ("(c) because", None),
        ("(C) because", 2),
        ("The right option is B.", 1),
        ("A cat sat", 0),
        ("I think the apple", 0),
        ("apple or pear", None),
        ("", None),
        ("Answer: D", None),
        ("I'm sure", None),
    ],
)
def test_letters_and_options_are_found_in_answers(text: str, place: int | None) -> None:
    assert chosen_letter(text, ["apple", "pear", "plum"]) == place


async def test_a_written_choice_is_asked_for_with_letters(tmp_path: Path) -> None:
    put(tmp_path / "multiple_choice/piqa.jsonl", {"question": "Cut?", "choices": ["knife", "spoon"], "answer": 0})
    task = make_task("piqa_written", OPTIONS)
    subject = ScriptedSubject(answer=lambda ask: "A. knife")
    outcome = await task.run(task.items(tmp_path)[0], subject, None)
    assert (outcome.score, outcome.answer, outcome.measures["answered"]) == (1.0, "A", 1.0)
    assert subject.asked[0].messages is not None
    assert "A. knife\nB. spoon\n" in subject.asked[0].messages[0].content


async def test_the_last_word_is_right_where_every_token_is_the_best(tmp_path: Path) -> None:
    put(tmp_path / "lambada/lambada_test.jsonl", {"text": "She looked at the old door"})
    task = make_task("lambada", OPTIONS)
    item = task.items(tmp_path)[0]
    assert (item.content.context, item.content.word) == ("She looked at the old", "door")
    right = ScriptedSubject(scores=lambda context, option: [scored(1, -0.5), scored(2, -1.5)])
    wrong = ScriptedSubject(scores=lambda context, option: [scored(1, -0.5), scored(2, -1.5, best=9)])
    outcomes = [await task.run(item, subject, None) for subject in (right, wrong)]
    assert [outcome.score for outcome in outcomes] == [1.0, 0.0]
    assert [outcome.units for outcome in outcomes] == [[1.0, 1.0], [1.0, 0.0]]
    totals = task.totals(outcomes)
    assert totals["acc"] == 0.5 and totals["perplexity"] == pytest.approx(math.exp(2.0))
    # What a policy could look at must not know the word.
    assert set(outcomes[0].signals) == {"entropy", "free_energy", "first_entropy"}


@pytest.mark.parametrize(
    ("answer", "score"), [(" door, and", 1.0), ("\ndoor", 1.0), (" doors", 0.0), ("", 0.0), ("Door", 0.0)]
)
async def test_the_last_word_is_written(tmp_path: Path, answer: str, score: float) -> None:
    put(tmp_path / "lambada/lambada_test.jsonl", {"text": "She looked at the old door"})
    task = make_task("lambada_written", OPTIONS)
    subject = ScriptedSubject(answer=lambda ask: answer)
    assert (await task.run(task.items(tmp_path)[0], subject, None)).score == score
    assert subject.asked == [Ask(prompt="She looked at the old", max_tokens=6)]


def test_windows_judge_every_word_after_the_first_step_once() -> None:
    text = " ".join(str(number) for number in range(10))
    found = windows(text, before=2, step=3)
    assert [(window.before, window.text) for window in found] == [
        ("1 2", " 3 4 5"),
        ("4 5", " 6 7 8"),
        ("7 8", " 9"),
    ]
    assert [window.words for window in found] == [3, 3, 1]
    assert windows("one two", step=3) == []


async def test_perplexity_is_by_token_and_by_word(tmp_path: Path) -> None:
    (tmp_path / "wikitext2").mkdir()
    (tmp_path / "wikitext2/test.txt").write_text(" word" * 300, encoding="utf-8")
    task = make_task("wikitext2", OPTIONS)
    items = task.items(tmp_path)
    assert [item.content.words for item in items] == [128, 44]
    subject = ScriptedSubject(scores=lambda context, option: [scored(1, -1.0)] * 2 * len(option.split()))
    totals = task.totals([await task.run(item, subject, None) for item in items])
    assert totals["token_perplexity"] == pytest.approx(math.e)
    assert totals["word_perplexity"] == pytest.approx(math.e**2)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("So 3 + 4 = 7.", "7"),
        ("#### 1,234", "1234"),
        ("It costs $1,050.50 in all", "1050.50"),
        ("#### 5\nThat is 9 more", "5"),
        ("he owes -12", "-12"),
        ("none", None),
        ("#### none, but 3", "3"),
    ],
)
def test_the_last_number_counts(text: str, number: str | None) -> None:
    assert final_number(text) == (None if number is None else Decimal(number))


async def test_maths_is_asked_with_worked_examples_and_compared_as_numbers(tmp_path: Path) -> None:
    put(tmp_path / "gsm8k/test.jsonl", {"question": "2+2?", "answer": "2+2=<<2+2=4>>4\n#### 4"})
    put(tmp_path / "gsm8k/train.jsonl", *({"question": f"q{n}", "answer": f"<<1>>w{n}\n#### {n}"} for n in range(3)))
    task = make_task("gsm8k", TaskOptions(shots=2, max_tokens=9))
    item = task.items(tmp_path)[0]
    subject = ScriptedSubject(answer=lambda ask: "It is 4.00")
    assert (await task.run(item, subject, None)).score == 1.0
    messages = subject.asked[0].messages
    assert messages is not None and subject.asked[0].max_tokens == 9
    assert [message.role for message in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert messages[1].content == "w0\n#### 0"


async def test_programs_run_only_where_that_is_allowed(tmp_path: Path) -> None:
    exercise = {"task_id": "T/1", "prompt": "def two():\n", "entry_point": "two"}
    put(
        tmp_path / "mbpp_sanitized/mbpp_sanitized_for_code_generation.jsonl",
        exercise | {"test": "def check(candidate):\n    assert candidate() == 2"},
    )
    with pytest.raises(InvalidRequest, match="that is off") as caught:
        make_task("mbpp", OPTIONS).items(tmp_path)
    assert "--execute-code" in caught.value.remedy
    task = make_task("mbpp", TaskOptions(execute_code=True, unconfined_code=True))
    item = task.items(tmp_path)[0]
    for body, score, parses in (("    return 2", 1.0, 1.0), ("    return 3", 0.0, 1.0), ("    return (", 0.0, 0.0)):
        outcome = await task.run(item, ScriptedSubject(answer=lambda ask, body=body: body), None)  # type: ignore[misc]
        assert (outcome.score, outcome.measures["parses"]) == (score, parses)


async def test_instructions_are_followed_strictly_or_loosely(tmp_path: Path) -> None:
    put(
        tmp_path / "ifeval/input_data.jsonl",
        {
            "key": 7,
            "prompt": "No commas, and quote it.",
            "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
            "kwargs": [{}, {}],
        },
        {"key": 8, "prompt": "In Hindi.", "instruction_id_list": ["language:response_language"], "kwargs": [{}]},
    )
    task = make_task("ifeval", OPTIONS)
    items = task.items(tmp_path)
    assert [item.id for item in items] == ["7"]
    outcome = await task.run(items[0], ScriptedSubject(answer=lambda ask: 'Here:\n"so be it"'), None)
    assert outcome.score == 0.0
    assert outcome.measures == {"instruction_strict": 0.5, "prompt_loose": 1.0, "instruction_loose": 1.0}


def test_prompts_of_different_kinds_take_turns(tmp_path: Path) -> None:
    put(
        tmp_path / "prompts.jsonl",
        {"category": "a", "turns": ["1", "later"]},
        {"category": "a", "prompt": "2"},
        {"category": "b", "instruction": "3", "instances": [{"input": "about this"}]},
    )
    task = make_task(str(tmp_path / "prompts.jsonl"), OPTIONS)
    assert [item.content.text for item in task.items(tmp_path)] == ["1", "3\n\nabout this", "2"]
    (tmp_path / "lines.txt").write_text("first\n\nsecond\n")
    lines = make_task(str(tmp_path / "lines.txt"), OPTIONS).items(tmp_path)
    assert [(item.id, item.content.text) for item in lines] == [("1", "first"), ("3", "second")]


async def test_texts_are_compared_with_the_clouds(tmp_path: Path) -> None:
    put(tmp_path / "p.jsonl", {"prompt": "hi"})
    task = make_task(str(tmp_path / "p.jsonl"), OPTIONS)
    item = task.items(tmp_path)[0]
    reference = await task.refer(item, ScriptedSubject(answer=lambda ask: "abcd", cloud=True))
    outcome = await task.run(item, ScriptedSubject(answer=lambda ask: "abxd"), reference)
    assert outcome.score == pytest.approx(0.75)
    assert outcome.measures == {"exact": 0.0, "prefix": 0.5, "edit": 0.75}
    itself = await task.run(item, ScriptedSubject(answer=lambda ask: "abcd", cloud=True), None)
    assert (itself.score, itself.share, itself.cloud_passes) == (1.0, 1.0, 3)


async def test_distributions_are_compared_along_the_clouds_text(tmp_path: Path) -> None:
    put(tmp_path / "spec_bench/question.jsonl", {"turns": ["hi"]})
    task = make_task("spec_bench_distribution", OPTIONS)
    item: Item[Any] = task.items(tmp_path)[0]
    reference = Outcome(1.0, token_ids=[ord("a"), ord("b")])
    scores = [scored(ord("a"), -0.1), scored(ord("b"), -0.1, best=ord("x"))]
    outcome = await task.run(item, ScriptedSubject(scores=lambda context, option: scores), reference)
    assert (outcome.score, outcome.units) == (0.5, [1.0, 0.0])
    with pytest.raises(InvalidRequest, match="wrote nothing"):
        await task.run(item, ScriptedSubject(), None)
