"""The scores' part of the bench `overhead`."""

from __future__ import annotations

from bench.overhead_scores import score_pieces
from updraft.sampling import Distribution, Sampled


def test_every_score_is_timed_and_takes_any_number_of_tokens() -> None:
    tokens = [Sampled(1, -1.0, Distribution(10.0, 1.0, 0.5))] * 40
    made = score_pieces()
    names = {name for name, _ in made}
    assert {"span: entropy", "span: learned", "span: random", "span: entropy, in a budget"} <= names
    for _, decide in made:
        decide(tokens)
        decide([])
