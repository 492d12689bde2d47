"""Why a pass goes to llama.cpp with its sequences in ascending order."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st


def parts(order: tuple[int, ...], sizes: dict[int, int]) -> int:
    """Into how many native batches llama.cpp splits a batch with one stream a sequence (`split_equal`, sequential).

    Each takes the first sequence that has tokens left, then those after it in the batch whose numbers follow on each
    other, and as many tokens of each as the shortest has left.
    """
    left, count = dict(sizes), 0
    while any(left.values()):
        group: list[int] = []
        for sequence in order:
            if left[sequence] and (not group or sequence == group[-1] + 1):
                group.append(sequence)
        shortest = min(left[sequence] for sequence in group)
        for sequence in group:
            left[sequence] -= shortest
        count += 1
    return count


@given(st.dictionaries(st.integers(0, 7), st.integers(1, 4), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_no_order_gives_fewer_native_batches_than_the_ascending_one(sizes: dict[int, int]) -> None:
    assert parts(tuple(sorted(sizes)), sizes) == min(parts(order, sizes) for order in permutations(sizes))
