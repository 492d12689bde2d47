from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.token_log import TokenLog

TOKENS = st.lists(st.integers(0, 2**31 - 1), max_size=30)


@given(TOKENS, TOKENS, TOKENS)
def test_the_hash_depends_on_the_tokens_and_not_on_how_they_came(
    prompt: list[int], first: list[int], then: list[int]
) -> None:
    whole = TokenLog(prompt, [*first, *then])
    grown = TokenLog(prompt)
    grown.extend(first)
    assert grown.hash_with(then) == whole.hash
    grown.extend(then)
    assert (grown.hash, grown.tokens, grown.generated) == (whole.hash, whole.tokens, whole.generated)


@given(TOKENS, TOKENS, TOKENS)
def test_truncating_takes_the_hash_back(prompt: list[int], kept: list[int], dropped: list[int]) -> None:
    log = TokenLog(prompt, kept)
    before = log.hash
    log.extend(dropped)
    log.truncate(len(prompt) + len(kept))
    assert (log.hash, log.generated_length) == (before, len(kept))


@given(TOKENS.filter(bool), st.data())
def test_one_other_token_gives_another_hash(tokens: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(tokens) - 1))
    other = [*tokens]
    other[place] ^= 1
    assert TokenLog(tokens).hash != TokenLog(other).hash


def test_the_prompt_cannot_be_truncated() -> None:
    log = TokenLog([1, 2, 3], [4])
    with pytest.raises(ValueError, match="outside 3..4"):
        log.truncate(2)
