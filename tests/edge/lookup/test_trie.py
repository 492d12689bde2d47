"""The trie against counting by hand, and its bounds."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from updraft_edge.lookup.memory import LookupEstimate, LookupMemory
from updraft_edge.lookup.trie import Node, SuffixTrie
from updraft_edge.lookup.trigram import TrigramTable

DEPTH = 5
TOKENS = st.lists(st.integers(0, 3), max_size=12)


def pieces(texts: list[list[int]], length: int) -> Counter[tuple[int, ...]]:
    """How often every piece of this length occurs in the texts."""
    found: Counter[tuple[int, ...]] = Counter()
    for text in texts:
        found.update(tuple(text[place : place + length]) for place in range(len(text) - length + 1))
    return found


class Writing(RuleBasedStateMachine):
    """Any order of putting and ending leaves counts that agree with a count by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.trie = SuffixTrie(depth=DEPTH, most=80)
        self.texts: list[list[int]] = [[]]
        self.taken = 0

    @rule(tokens=TOKENS)
    def put(self, tokens: list[int]) -> None:
        self.trie.put(tokens)
        room = 80 - self.taken
        self.texts[-1] += tokens[:room]
        self.taken += len(tokens[:room])

    @rule()
    def end(self) -> None:
        if self.taken < 80:
            self.taken += self.taken > 0  # the break takes a place
            self.trie.end()
            self.texts.append([])

    @invariant()
    def every_piece_is_found_with_its_count(self) -> None:
        for length in range(1, DEPTH):
            following = pieces(self.texts, length + 1)
            for piece in pieces(self.texts, length):
                place = self.trie.find(piece)
                assert place is not None
                counts = {token: count for token, count, _ in self.trie.following(place)}
                expected = {end: times for (*start, end), times in following.items() if tuple(start) == piece}
                assert counts == expected

    @invariant()
    def nothing_else_is_found(self) -> None:
        seen = set(pieces(self.texts, 3))
        for piece in ((0, 1, 2), (3, 3, 3), (2, 1, 0)):
            assert (self.trie.find(piece) is not None) == (piece in seen)

    @invariant()
    def it_stays_small(self) -> None:
        assert len(self.trie) <= 81
        assert self.trie.nodes <= 1 + DEPTH * len(self.trie)


TestWriting = Writing.TestCase
TestWriting.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)


@given(st.lists(st.integers(0, 200), max_size=200))
@settings(max_examples=50, deadline=None)
def test_a_text_without_repetition_costs_one_entry_a_token(text: list[int]) -> None:
    trie = SuffixTrie(depth=DEPTH, most=1000)
    trie.put(list(dict.fromkeys(text)))
    assert trie.nodes == 1


@given(st.lists(TOKENS, max_size=4))
@settings(max_examples=100, deadline=None)
def test_following_a_place_leads_where_finding_the_longer_piece_does(texts: list[list[int]]) -> None:
    trie = SuffixTrie(depth=DEPTH, most=100)
    for text in texts:
        trie.put(text)
        trie.end()
    for text in texts:
        for pair in pairwise(text):
            place = trie.find(pair)
            assert place is not None
            for token, count, after in trie.following(place):
                found = trie.find([*pair, token])
                assert isinstance(found, Node) == isinstance(after, Node)
                assert count >= 1
                assert trie.step(place, token) == after


def test_what_repeats_beyond_its_nodes_is_found_where_it_was_first() -> None:
    trie = SuffixTrie(depth=DEPTH, most=100, nodes=3)
    for times in range(1, 4):
        trie.put([1, 2, 3, 4])
        trie.end()
        assert trie.full == (times > 1)
    assert trie.nodes == 3
    for length in range(1, 4):
        place = trie.find([1, 2, 3, 4][:length])
        assert place is not None
        assert [token for token, _, _ in trie.following(place)] == [length + 1]


@pytest.mark.parametrize(("depth", "most"), [(1, 5), (4, 0)])
def test_a_trie_without_room_is_refused(depth: int, most: int) -> None:
    with pytest.raises(ValueError, match="room"):
        SuffixTrie(depth=depth, most=most)


class Table(RuleBasedStateMachine):
    """Rows are bounded in number and width, and agree with a count by hand while nothing had to go."""

    def __init__(self) -> None:
        super().__init__()
        self.table = TrigramTable(rows=6)
        self.text: list[int] = []

    @rule(tokens=st.lists(st.integers(0, 1), max_size=8))
    def put(self, tokens: list[int]) -> None:
        self.table.put(tokens)
        self.text += tokens

    @rule(tokens=st.lists(st.integers(0, 400), max_size=40))
    def put_rare(self, tokens: list[int]) -> None:
        self.table.put(tokens)
        self.text += tokens

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.table) <= 6
        for first, second in pairwise(self.text[-8:]):
            row = self.table.row(first, second)
            assert len(row) <= 12
            assert all(0 < count < 76 for count in row.values())

    @invariant()
    def the_newest_row_is_there(self) -> None:
        if len(self.text) >= 3:
            assert self.table.row(*self.text[-3:-1])[self.text[-1]] >= 1.0


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)


def test_rows_are_counts_of_what_came_after_a_pair() -> None:
    table = TrigramTable(rows=100)
    table.put([1, 2, 3, 1, 2, 4, 1, 2, 3])
    assert table.row(1, 2) == {3: 2.0, 4: 1.0}
    table.end()
    table.put([9])
    assert table.row(2, 3) == {1: 1.0}
    assert table.row(7, 7) == {}
    with pytest.raises(ValueError, match="room"):
        TrigramTable(rows=0)


@given(st.lists(TOKENS, max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_memory_forgets_the_oldest_and_never_joins_two_answers(answers: list[list[int]]) -> None:
    memory = LookupMemory(40, segments=2)
    for answer in answers:
        memory.remember(answer)
        assert len(memory.tries) <= 2
        assert len(memory) <= 2 * 40
        assert all(trie.nodes <= 2 * 20 for trie in memory.tries)
    if answers and answers[-1]:
        assert memory.tries[-1].find(answers[-1]) is not None
    joined = LookupMemory(32_768)
    joined.remember([1, 2])
    joined.remember([3, 4])
    assert joined.tries[0].find([2, 3]) is None
    assert not joined.trigrams.row(1, 2)


def test_the_estimate_learns_what_stands_and_stays_a_probability() -> None:
    estimate = LookupEstimate()
    before = estimate("trie", 2, 1.0, 1)
    for _ in range(60):
        estimate.learn("trie", 2, 1.0, 1, stood=True)
        estimate.learn("trie", 1, 1.0, 1, stood=False)
    assert before < 0.9 < estimate("trie", 2, 1.0, 1) < 1.0
    assert 0.0 < estimate("trie", 1, 1.0, 1) < 0.05
    assert estimate("trigram", 2, 1.0, 1) == before  # another source learns for itself
