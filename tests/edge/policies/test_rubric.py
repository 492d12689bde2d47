"""How a step is graded: the question in the model's own framing, and the grade from ten probabilities."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.engine import LetterTokenizer
from updraft.chat_template import CHATML, ChatTemplate
from updraft.errors import InvalidRequest, ProtocolViolation
from updraft_edge.policies.rubric import PREFILL, RUBRIC, Questions, digit_tokens, grade, question

GRADES = st.dictionaries(st.integers(0, 9), st.floats(-50, 0), min_size=1)


def test_the_question_closes_the_answer_and_opens_the_grade() -> None:
    text = question(ChatTemplate(CHATML))
    assert text == f"<|im_end|>\n<|im_start|>user\n{RUBRIC}<|im_end|>\n<|im_start|>assistant\n{PREFILL}"
    assert question(None).endswith(f"{RUBRIC}\n{PREFILL}")


def test_a_template_without_the_assistants_words_is_refused() -> None:
    template = "{% for message in messages if message.role == 'user' %}{{ message.content }}{% endfor %}"
    with pytest.raises(InvalidRequest, match="drops"):
        question(ChatTemplate(template))


def test_digits_have_one_token_each() -> None:
    start, digits = digit_tokens(LetterTokenizer(64), "Grade:")
    assert start == LetterTokenizer(64).encode("Grade: ")
    assert digits == [16 + digit for digit in range(10)]


class Glued(LetterTokenizer):
    """Digits are one token with the space before them, or with nothing at all."""

    def __init__(self, *, space: bool) -> None:
        super().__init__(64)
        self._space = space

    def encode(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        if text[-1:].isdigit():
            before = text[:-2] if self._space else text[:-1]
            return [*super().encode(before), 50 + int(text[-1]) if self._space else 50]
        return super().encode(text)


def test_digits_may_come_with_their_space_but_must_be_ten() -> None:
    start, digits = digit_tokens(Glued(space=True), "Grade:")
    assert (start, digits) == (LetterTokenizer(64).encode("Grade:"), list(range(50, 60)))
    with pytest.raises(InvalidRequest, match="digit"):
        digit_tokens(Glued(space=False), "Grade:")


def test_a_chat_is_known_by_its_end_of_a_turn() -> None:
    questions = Questions(LetterTokenizer(64), CHATML)
    chat = questions.after([1, 2], chat=True)
    plain = questions.after([1, 2], chat=False)
    assert chat is not plain
    assert questions.after([*chat.tokens[:1], 2], chat=False) is chat
    assert Questions(LetterTokenizer(64), None).after([1], chat=False).tokens == plain.tokens


@given(GRADES)
def test_grades_are_between_the_digits_that_were_given(logprobs: dict[int, float]) -> None:
    average, greedy = grade(logprobs, "average"), grade(logprobs, "greedy")
    assert min(logprobs) - 1e-9 <= average <= max(logprobs) + 1e-9
    assert logprobs[int(greedy)] == max(logprobs.values())
    shifted = {digit: value - 3 for digit, value in logprobs.items()}
    assert grade(shifted, "average") == pytest.approx(average)


def test_the_average_is_the_expected_digit() -> None:
    assert grade({9: math.log(0.3), 1: math.log(0.1)}, "average") == pytest.approx(7.0)
    assert grade({9: -math.inf, 1: -2.0}, "average") == 1.0


@pytest.mark.parametrize("bad", [{}, {3: -math.inf}, {3: math.nan, 4: -1.0}, {4: math.inf}])
def test_unusable_grades_are_refused(bad: dict[int, float]) -> None:
    for scoring in ("average", "greedy"):
        with pytest.raises(ProtocolViolation):
            grade(bad, scoring)
