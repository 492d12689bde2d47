"""Each instruction of IFEval with answers that follow it and answers that do not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.evaluation.instructions import CHECKS, count_sentences, follows, follows_loosely, parameters_of

AT_LEAST, LESS = "at least", "less than"
CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("keywords:existence", {"keywords": ["war", "peace"]}, ["Peace and WAR."], ["Only war."]),
    (
        "keywords:frequency",
        {"keyword": "war", "frequency": 2, "relation": AT_LEAST},
        ["war, Warm"],
        ["one war"],
    ),
    ("keywords:frequency", {"keyword": "a+", "frequency": 1, "relation": LESS}, ["aaa"], ["an a+ grade"]),
    ("keywords:forbidden_words", {"forbidden_words": ["rock"]}, ["rocket"], ["A ROCK!"]),
    ("keywords:letter_frequency", {"letter": "!", "let_frequency": 2, "let_relation": AT_LEAST}, ["!a!"], ["!"]),
    ("keywords:letter_frequency", {"letter": "T", "let_frequency": 2, "let_relation": LESS}, ["t"], ["Tt"]),
    ("length_constraints:number_words", {"num_words": 3, "relation": AT_LEAST}, ["a b, c"], ["a b"]),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": LESS}, ["One. Two!"], ["Ab. B? C d!"]),
    (
        "length_constraints:number_paragraphs",
        {"num_paragraphs": 2},
        ["one\n***\ntwo", "*** one *** two"],
        ["one", "one *** *** two"],
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "weekend"},
        ['One.\n\n"Weekend" here.'],
        ["weekend.\n\nTwo.", "One.\n\nTwo.\n\nweekend"],
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] and [b]"], ["[a]"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["End.\nP. S. more"], ["PS more"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["p.p.s more"], ["P.S. more"]),
    ("detectable_content:postscript", {"postscript_marker": "N.B."}, ["n.b. more"], ["more"]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n- b"], ["* a", "* a\n* b\n* c"]),
    ("detectable_format:constrained_response", {}, ["My answer is no."], ["No."]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, ["*a* and **b**"], ["*a* and ** **"]),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        ["SECTION 1\na\nSECTION 2\nb"],
        ["SECTION 1\na"],
    ),
    ("detectable_format:json_format", {}, ['{"a": 1}', "```json\n[1]\n```"], ["a: 1"]),
    ("detectable_format:title", {}, ["<<A title>>\ntext"], ["<< >>", "<a>"]),
    ("combination:two_responses", {}, ["one ****** two"], ["one", "one ****** one", "a ****** b ****** c"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, ["say hi. Hi!"], ["Hi! Say hi."]),
    ("startend:end_checker", {"end_phrase": "Any help?"}, ['Yes. any help?"'], ["Any help? No."]),
    ("startend:quotation", {}, ['"all of it"'], ['"', '"half']),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": AT_LEAST},
        ["THE BIG cat"],
        ["THE big cat"],
    ),
    ("change_case:english_capital", {}, ["LOUD, 1!"], ["Loud"]),
    ("change_case:english_lowercase", {}, ["quiet, 1!"], ["Quiet"]),
    ("punctuation:no_comma", {}, ["none here"], ["one, here"]),
]


def test_every_kind_has_a_case() -> None:
    assert {kind for kind, *_ in CASES} == set(CHECKS)


@pytest.mark.parametrize(("kind", "given_", "good", "bad"), CASES)
def test_answers_are_told_apart(kind: str, given_: dict[str, Any], good: list[str], bad: list[str]) -> None:
    parameters = parameters_of(kind, given_ | {"unused": None})
    for answer in good:
        assert follows(kind, answer, parameters), answer
    for answer in [*bad, "", " \n"]:
        assert not follows(kind, answer, parameters), answer


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One. Two! Three?", 3),
        ("No mark", 1),
        ("Dr. Smith met J. Doe at 3.5 p.m. today. Fine.", 3),
        ('He said "No." Then left...', 2),
        ("", 0),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert count_sentences(text) == count


def test_loosely_an_introduction_an_end_and_asterisks_are_forgiven() -> None:
    assert not follows("startend:quotation", 'Sure:\n"yes"', {})
    assert follows_loosely("startend:quotation", 'Sure:\n"yes"', {})
    assert follows_loosely("startend:quotation", '**"yes"**\nBye', {})
    assert not follows_loosely("startend:quotation", "yes", {})


@pytest.mark.parametrize(
    ("kind", "given_"),
    [
        ("keywords:existence", {}),
        ("keywords:existence", {"keywords": []}),
        ("keywords:existence", {"keywords": [3]}),
        ("keywords:frequency", {"keyword": "a", "frequency": "2", "relation": AT_LEAST}),
        ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "about"}),
        ("length_constraints:number_paragraphs", {"num_paragraphs": True}),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2.5}),
    ],
)
def test_wrong_parameters_are_refused(kind: str, given_: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=kind):
        parameters_of(kind, given_)
    assert parameters_of("length_constraints:number_paragraphs", {"num_paragraphs": 2.0}) == {"num_paragraphs": 2}


@given(st.text())
def test_no_answer_breaks_a_check(answer: str) -> None:
    for kind, parameters, _, _ in CASES:
        follows(kind, answer, parameters)
        follows_loosely(kind, answer, parameters)
