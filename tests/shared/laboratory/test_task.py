from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.errors import InvalidRequest
from updraft.laboratory.task import (
    MOST_STEPS,
    Operation,
    Problem,
    parse_answer,
    parse_problem,
    problems,
    prompt,
    split_of,
    steps_of,
    worked,
)

OPERATIONS = st.builds(Operation, st.sampled_from("+-*"), st.integers(0, 99))
PROBLEMS = st.builds(Problem, st.integers(0, 99), st.lists(OPERATIONS, min_size=1, max_size=MOST_STEPS).map(tuple))
EXAMPLE = parse_problem("37a+85b-15c*3")
ANSWER = "37b-15\n22a+85\n7c*3\n#21\n"


@given(PROBLEMS)
def test_a_problem_is_read_as_it_is_written(problem: Problem) -> None:
    assert parse_problem(problem.text) == problem == parse_problem(prompt(problem))
    expected = str(problem.start)
    for operation in problem.operations:
        expected = f"({expected}){operation}"
    assert problem.answer == eval(expected) % 100  # noqa: S307


@given(PROBLEMS, st.integers(0, 2**32))
def test_every_worked_answer_is_right_step_by_step(problem: Problem, seed: int) -> None:
    text = worked(problem, random.Random(seed))
    steps = steps_of(problem, text)
    assert len(steps) == problem.steps + 1 and all(step.right and step.prefix_right for step in steps)
    assert parse_answer(text) == problem.answer
    assert "".join(step.text + "\n" for step in steps) == text


@given(PROBLEMS, st.integers(0, 2**32), st.data())
def test_a_changed_line_is_wrong_and_so_is_every_prefix_after_it(
    problem: Problem, seed: int, data: st.DataObject
) -> None:
    lines = worked(problem, random.Random(seed)).splitlines()
    place = data.draw(st.integers(0, len(lines) - 1))
    number = data.draw(st.integers(0, 99))
    digits = len(lines[place].lstrip("#")) - len(lines[place].lstrip("#").lstrip("0123456789"))
    body = lines[place].lstrip("#")
    if int(body[:digits]) == number:
        return
    lines[place] = ("#" if lines[place].startswith("#") else "") + f"{number}{body[digits:]}"
    steps = steps_of(problem, "\n".join(lines))
    assert [step.prefix_right for step in steps] == [n < place for n in range(len(lines))]
    assert not steps[place].right
    if place < problem.steps - 1:
        assert all(step.right for step in steps[place + 2 :])  # judged by what the line before says


@given(PROBLEMS, st.text(alphabet="0123456789abch+-*#\n ", max_size=60))
def test_any_text_can_be_judged(problem: Problem, text: str) -> None:
    steps = steps_of(problem, text)
    assert len(steps) == len(text.removesuffix("\n").split("\n")) * bool(text)
    right = [step.prefix_right for step in steps]
    assert right == sorted(right, reverse=True)
    if len(steps) == problem.steps + 1 and all(right):
        assert parse_answer(text) == problem.answer


@given(st.text(max_size=30))
def test_any_text_can_be_read_for_an_answer(text: str) -> None:
    found = parse_answer(text)
    assert found is None or (0 <= found < 100 and text.rstrip("\n").endswith(f"#{found}"))


@pytest.mark.parametrize(
    ("text", "found"),
    [("#7", 7), ("1a+1\n#2\n", 2), ("#2\n\n", 2), ("", None), ("7", None), ("#07", None), ("#100", None), ("#1 ", None),
     ("#1\n2a+3\n", None)],
)  # fmt: skip
def test_answers(text: str, found: int | None) -> None:
    assert parse_answer(text) == found


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("37a+85\n22b-15\n7c*3\n#21", [1, 1, 1, 1]),  # the other order
        ("37c*3\n11a+85\n96b-15\n#81", [0, 1, 1, 1]),  # * before its turn
        ("37b-15\n37b-15\n", [1, 0]),  # done before
        ("37b-15\n22a+85\n#7\n", [1, 1, 0]),  # not at the end
        ("37b+15\n52a+85\n", [0, 1]),  # another operation, whose number is then right
        (ANSWER + "#21\n", [1, 1, 1, 1, 0]),
        (ANSWER + "21a+1\n", [1, 1, 1, 1, 0]),
        ("37b-15\n\n22a+85\n", [1, 0, 1]),
        ("37d+1", [0]),
    ],
)
def test_lines_are_judged_by_the_line_before(text: str, right: list[int]) -> None:
    assert [int(step.right) for step in steps_of(EXAMPLE, text)] == right


def test_a_right_answer_by_wrong_steps() -> None:
    problem = parse_problem("1a*50b*2")
    steps = steps_of(problem, "1a*50\n99b*2\n#98\n")
    assert [step.prefix_right for step in steps] == [True, False, False]
    steps = steps_of(problem, "1a*50\n0b*2\n#0\n")
    assert parse_answer("1a*50\n0b*2\n#0\n") == problem.answer and not steps[-1].prefix_right and steps[-1].right


@pytest.mark.parametrize(
    "text", ["", "37", "37a", "37a+", "37a+100", "37a+07", "137a+1", "37b+1", "37a+1a+2", "37a+1c+2", "1a/2", "x" * 999]
)
def test_what_is_no_problem_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not a problem"):
        parse_problem(text)


def test_splits_have_no_problem_in_common() -> None:
    splits = {split: {p.text for p in problems(split, 300)} for split in ("train", "validation", "test")}
    for split, texts in splits.items():
        assert len(texts) == 300 and all(split_of(text) == split for text in texts)
    assert len(set.union(*splits.values())) == 900


def test_problems_are_the_same_for_a_seed_and_graded() -> None:
    some = problems("test", 40, seed=3)
    assert problems("test", 80, seed=3)[:40] == some
    assert problems("test", 40, seed=4) != some
    assert Counter(problem.steps for problem in some) == dict.fromkeys(range(1, 9), 5)
    assert {problem.steps for problem in problems("test", 10, steps=[2, 5])} == {2, 5}


def test_more_problems_than_there_are() -> None:
    with pytest.raises(InvalidRequest, match="there are not 9000 problems"):
        problems("test", 9000, steps=[1])
    for steps in ([], [0], [9]):
        with pytest.raises(InvalidRequest, match="1 to 8"):
            problems("test", 1, steps=steps)
