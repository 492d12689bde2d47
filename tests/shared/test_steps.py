"""A step ends with the first blank line after text, however the tokens cut it."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.steps import StepText


def ended_after(pieces: list[bytes]) -> int | None:
    """After how many pieces the step has ended."""
    step = StepText()
    return next((number for number, piece in enumerate(pieces, 1) if step.feed(piece)), None)


@pytest.mark.parametrize(
    ("pieces", "number"),
    [
        ([b"One.", b"\n\n"], 2),
        ([b"One.\n", b"\n", b"Two."], 2),
        ([b"One.", b"\n", b" \t", b"\n"], 4),
        ([b"One.", b"\r\n", b"\r\n"], 3),
        ([b"One.\n\nTwo."], 1),
        ([b"\n\n", b" ", b"\n", b"One.", b"\n\n"], 5),
        ([b"One.\n", b"Two.\n"], None),
        ([b"\n\n\n\n"], None),
        ([], None),
        ([b"\xe2\x82", b"\xac\n", b"\n"], 3),
    ],
)
def test_steps_end_at_blank_lines_after_text(pieces: list[bytes], number: int | None) -> None:
    assert ended_after(pieces) == number


@given(st.text(alphabet="a \n\t.", max_size=30), st.data())
def test_where_a_step_ends_does_not_depend_on_how_it_was_cut(text: str, data: st.DataObject) -> None:
    whole = re.search(r"\S[^\n]*\n[ \t]*\n", text)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(text) - 1)))) | {0, len(text)})
    pieces = [text[start:stop].encode() for start, stop in pairwise(cuts)]
    number = ended_after(pieces)
    if whole is None:
        assert number is None
    else:
        assert number is not None
        assert cuts[number - 1] < whole.end() <= cuts[number]


def test_what_is_only_white_space_is_empty() -> None:
    step = StepText()
    step.feed(b" \n\n")
    assert step.empty
    step.feed(b"a")
    assert (step.empty, step.text) == (False, b" \n\na")
