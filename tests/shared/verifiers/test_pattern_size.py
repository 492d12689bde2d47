"""Patterns that would take minutes and gigabytes to compile are refused, and usual ones are not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.errors import InvalidRequest
from updraft.verifiers import parse_verifier
from updraft.verifiers.pattern_size import size_of


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("abc", 3),
        (r"\d{3}-\d{4}", 8),
        ("[a{9}]{5}", 5),
        (r"\(a{3}", 4),
        ("(?:ab){10}", 50),
        ("a{2,}", 2),
        ("a{,5}", 5),
        ("a{0}", 1),
        ("(((", 0),
        ("a)", 2),
    ],
)
def test_repetitions_are_written_out(pattern: str, size: int) -> None:
    assert size_of(pattern) == size


@pytest.mark.parametrize(
    "pattern",
    [
        "(?:(?:(?:a|b){500}){500}){500}",
        "a{500}{500}",
        "(?x)(?:(?:a|b) {500} ) {500}",
        "(?:(?:a|b)(?#no){500})(?#no){500}",
        "(?x)(?:(?:a|b)#)\n{500})#(\n{500}",
        "a{99999999999999999999}",
    ],
)
def test_what_would_be_huge_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match="repetitions"):
        parse_verifier({"kind": "regex", "pattern": pattern})


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        r"(?x) \d{4} - \d{2} - \d{2}  # a date",
        r"\b(\d{1,3}\.){3}\d{1,3}\b",
        r"[\s\S]{0,4000}answer",
        "[]a]{3}",
    ],
)
def test_usual_patterns_are_taken(pattern: str) -> None:
    parse_verifier({"kind": "regex", "pattern": pattern})


@settings(deadline=None)
@given(st.text("ab(){}[]^\\?:x#|*+,0123456789 ", max_size=60))
def test_any_text_has_a_size(pattern: str) -> None:
    assert size_of(pattern) >= 0
