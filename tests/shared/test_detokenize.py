from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from updraft.detokenize import StreamDecoder


def _pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=12))
def test_any_split_of_any_bytes_gives_the_whole_text(data: bytes, cuts: list[int]) -> None:
    decoder = StreamDecoder()
    text = "".join(decoder.feed(piece) for piece in _pieces(data, cuts)) + decoder.flush()
    assert text == data.decode("utf-8", "replace")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.lists(st.integers(0, 80), max_size=40))
def test_valid_text_is_never_split_inside_a_character(text: str, cuts: list[int]) -> None:
    decoder, given_so_far = StreamDecoder(), ""
    for piece in _pieces(text.encode(), cuts):
        given_so_far += decoder.feed(piece)
        assert text.startswith(given_so_far)
    assert given_so_far == text
    assert decoder.flush() == ""


def test_a_character_comes_when_its_last_byte_does() -> None:
    decoder = StreamDecoder()
    assert [decoder.feed(bytes([byte])) for byte in "🌤".encode()] == ["", "", "", "🌤"]


def test_an_unfinished_character_is_replaced_and_the_decoder_starts_anew() -> None:
    decoder = StreamDecoder()
    assert decoder.feed("é".encode()[:1]) == ""
    assert decoder.flush() == "\ufffd"
    assert decoder.flush() == ""
    assert decoder.feed(b"a") == "a"


def test_bytes_that_cannot_continue_are_replaced_at_once() -> None:
    assert StreamDecoder().feed(b"\xff") == "\ufffd"
    assert StreamDecoder().feed(b"\xe2\x82a") == "\ufffda"
