from __future__ import annotations

import operator
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.errors import InvalidRequest
from updraft.laboratory.task import (
    GRADES,
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

OPERATIONS = st.builds(Operation, st.sampled_from("+-*"), st.integers(0, 9))
PROBLEMS = st.builds(Problem, st.integers(0, 9), st.lists(OPERATIONS, min_size=1, max_size=MOST_STEPS).map(tuple))
EXAMPLE = parse_problem("7a+5b-4c*3")
BY_SIGN = {"+": operator.add, "-": operator.sub, "*": operator.mul}
ANSWER = "7b-4\n3a+5\n8c*3\n#4\n"


@given(PROBLEMS)
def test_a_problem_is_read_as_it_is_written(problem: Problem) -> None:
    assert parse_problem(problem.text) == problem == parse_problem(prompt(problem))
    expected = problem.start
    for operation in problem.operations:
        expected = BY_SIGN[operation.sign](expected, operation.operand)
    assert problem.answer == expected % 10


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
    digit = data.draw(st.sampled_from("0123456789"))
    mark, body = "#" * (place == problem.steps), lines[place].lstrip("#")
    if body[0] == digit:
        return
    lines[place] = f"{mark}{digit}{body[1:]}"
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
    assert found is None or (0 <= found < 10 and text.rstrip("\n").endswith(f"#{found}"))


@pytest.mark.parametrize(
    ("text", "found"),
    [("#7", 7), ("1a+1\n#2\n", 2), ("#3\n\n", 3), ("", None), ("7", None), ("#07", None), ("#x", None), ("#1 ", None),
     ("#1\n2a+3\n", None)],
)  # fmt: skip
def test_answers(text: str, found: int | None) -> None:
    assert parse_answer(text) == found


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("7a+5\n2b-4\n8c*3\n#4", [1, 1, 1, 1]),  # the other order
        ("7c*3\n1a+5\n6b-4\n#2", [0, 1, 1, 1]),  # * before its turn
        ("7b-4\n7b-4\n", [1, 0]),  # done before
        ("7b-4\n3a+5\n#8\n", [1, 1, 0]),  # not at the end
        ("7b+4\n1a+5\n", [0, 1]),  # another operation, whose number is then right
        (ANSWER + "#4\n", [1, 1, 1, 1, 0]),
        (ANSWER + "4a+1\n", [1, 1, 1, 1, 0]),
        ("7b-4\n\n3a+5\n", [1, 0, 1]),
        ("7d+1", [0]),
    ],
)
def test_lines_are_judged_by_the_line_before(text: str, right: list[int]) -> None:
    assert [int(step.right) for step in steps_of(EXAMPLE, text)] == right


def test_a_right_answer_by_wrong_steps() -> None:
    problem = parse_problem("1a+1b*5")
    text = "1a+1\n4b*5\n#0\n"
    steps = steps_of(problem, text)
    assert [(step.right, step.prefix_right) for step in steps] == [(True, True), (False, False), (True, False)]
    assert parse_answer(text) == problem.answer


@pytest.mark.parametrize(
    "text", ["", "7", "7a", "7a+", "7a+10", "17a+1", "7b+1", "7a+1a+2", "7a+1c+2", "1a/2", "1A+2", "x" * 999]
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
    some = problems("test", 35, seed=3)
    assert problems("test", 80, seed=3)[:35] == some
    assert problems("test", 35, seed=4) != some
    assert Counter(problem.steps for problem in some) == dict.fromkeys(GRADES, 5)
    assert {problem.steps for problem in problems("test", 10, steps=[2, 5])} == {2, 5}


def test_more_problems_than_there_are() -> None:
    with pytest.raises(InvalidRequest, match="there are not 200 problems"):
        problems("test", 200, steps=[1])
    for steps in ([], [0], [9]):
        with pytest.raises(InvalidRequest, match="1 to 8"):
            problems("test", 1, steps=steps)


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ("7b-4\n3a+5\n8c*3\n#4\n", [4, 4, 4, 2]),
        ("7b-4\n9a+5\n4c*3\n#3\n", [4, 0, 4, 1]),  # from a wrong number on
        ("7c*3\n", [1]),  # not its turn
        ("7b+4\n1", [2, 1]),
        ("7b-4x\n", [4]),
        ("7b-4\n3a+5\n8c*3\n#4\n#4\n", [4, 4, 4, 2, 0]),
        ("nonsense", [0]),
    ],
)
def test_how_far_a_line_is_right(text: str, sound: list[int]) -> None:
    steps = steps_of(parse_problem("7a+5b-4c*3"), text)
    assert [step.sound for step in steps] == sound
    assert all(step.sound == len(step.text) for step in steps if step.right)
