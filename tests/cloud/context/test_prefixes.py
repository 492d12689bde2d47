"""The index of what caches begin with."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from updraft_cloud.context.prefixes import PrefixIndex, common_length

TOKENS = st.lists(st.integers(0, 2), max_size=40)


@given(TOKENS, TOKENS)
def test_common_length_is_that_of_a_plain_walk(one: list[int], other: list[int]) -> None:
    plain = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    assert common_length(one, other) == plain


@given(st.lists(st.integers(0, 100_000), max_size=400), st.integers(0, 400))
def test_common_length_of_long_logs(tokens: list[int], place: int) -> None:
    other = [*tokens[:place], -1, *tokens[place + 1 :]]
    assert common_length(tokens, tokens) == len(tokens)
    assert common_length(tokens, other) == min(place, len(tokens))


@given(st.lists(st.tuples(st.sampled_from("ab"), TOKENS), max_size=8), TOKENS, st.integers(1, 5))
def test_it_finds_who_shares_a_block_the_longest_first(
    logs: list[tuple[str, list[int]]], tokens: list[int], block: int
) -> None:
    index: PrefixIndex[int] = PrefixIndex(block)
    for owner, (tenant, log) in enumerate(logs):
        index.publish(owner, tenant, log[: len(log) // 2])
        index.publish(owner, tenant, log)
    found = index.find("a", tokens)
    blocks = {
        owner: common_length(log, tokens) // block
        for owner, (tenant, log) in enumerate(logs)
        if tenant == "a" and common_length(log, tokens) >= block
    }
    assert set(found) == set(blocks)
    assert [blocks[owner] for owner in found] == sorted(blocks.values(), reverse=True)
    for owner in range(len(logs)):
        index.forget(owner)
        index.forget(owner)
    assert (index.find("a", tokens), len(index)) == ([], 0)


def test_no_more_than_asked_for_are_found() -> None:
    index: PrefixIndex[int] = PrefixIndex(1)
    for owner in range(9):
        index.publish(owner, "", [1, 2])
    assert len(index.find("", [1, 2], most=4)) == 4


def test_names_need_whole_beginnings() -> None:
    index: PrefixIndex[str] = PrefixIndex(2)
    index.publish("x", "", [1, 2, 3, 4])
    assert index.find("", [9, 9, 3, 4]) == []
    assert index.find("", [1]) == []
    assert "x" in index
