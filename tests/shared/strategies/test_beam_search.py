"""Beam search over steps: who survives, and that a beam as wide as the tree is exhaustive."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.scripted_engine import ScriptedEngine, tree
from tests.fakes.verifiers import RuleVerifier
from tests.shared.strategies.solving import steps_of, work_on
from updraft.strategies import Budget, Progress
from updraft.strategies.beam_search import BeamSearch, survivors
from updraft.verifiers import Claim

CANDIDATES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4)), min_size=1, max_size=20)
LEAVES = ["".join(leaf) for leaf in itertools.product("ab", repeat=3)]


@given(CANDIDATES, st.integers(1, 25), st.none() | st.integers(1, 4))
def test_survivors_are_the_best_within_their_families(
    candidates: list[tuple[float, int]], width: int, per_parent: int | None
) -> None:
    rewards, parents = [reward for reward, _ in candidates], [parent for _, parent in candidates]
    kept = survivors(rewards, parents, width, per_parent)
    families = Counter(parents[index] for index in kept)
    assert len(set(kept)) == len(kept) <= width
    assert [rewards[index] for index in kept] == sorted((rewards[index] for index in kept), reverse=True)
    assert per_parent is None or max(families.values()) <= per_parent
    for index in set(range(len(candidates))).difference(kept):
        full = per_parent is not None and families[parents[index]] == per_parent
        rivals = [other for other in kept if not full or parents[other] == parents[index]]
        assert (full or len(kept) == width) and all(rewards[other] >= rewards[index] for other in rivals)


def test_of_equals_the_earlier_survive() -> None:
    assert survivors([0.5] * 4, [0, 0, 1, 1], 2, None) == [0, 1]
    assert survivors([0.5] * 4, [0, 0, 1, 1], 3, 1) == [0, 2]


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(len(LEAVES))))
async def test_a_beam_as_wide_as_the_tree_is_exhaustive(order: list[int]) -> None:
    """Rewards tell nothing before the last step, so only a beam that keeps all finds the best leaf."""
    values = {leaf: (1 + rank) / (1 + len(LEAVES)) for leaf, rank in zip(LEAVES, order, strict=True)}

    def only_leaves(claim: Claim) -> float:
        return values.get("".join(steps_of(claim.text)), 0.5)

    strategy = BeamSearch(expand=12, choose="best")
    outcome = await work_on(
        ScriptedEngine(tree(2, 3)), strategy, RuleVerifier(only_leaves), budget=Budget(samples=96), extract=str
    )
    assert "".join(steps_of(outcome.sample.text)) == max(values, key=values.__getitem__)
    assert len(outcome.alternatives) == len(LEAVES)


async def test_the_best_beginnings_go_on_in_several_ways() -> None:
    notes: list[Progress] = []
    verifier = RuleVerifier(lambda claim: 0.1 + 0.8 * steps_of(claim.text).count("a") / 6)
    strategy = BeamSearch(choose="best")
    outcome = await work_on(ScriptedEngine(tree(3, 5)), strategy, verifier, budget=Budget(samples=16), notes=notes)
    assert outcome.sample.text.count("a") >= 4
    assert outcome.spent.tokens <= 16 * 11
    assert any(note.kind == "prune" for note in notes)


async def test_diversity_keeps_other_families() -> None:
    """Everything below one first step is liked; with one child a parent at most, other ways stay in the beam."""
    verifier = RuleVerifier(lambda claim: 0.9 if claim.text.startswith("a") else 0.5)
    found = []
    for per_parent in (None, 1):
        strategy = BeamSearch(per_parent=per_parent)
        budget = Budget(samples=16)
        outcome = await work_on(
            ScriptedEngine(tree(3, 4)), strategy, verifier, budget=budget, extract=lambda text: text[:1]
        )
        found.append({one.sample.answer for one in outcome.alternatives})
    assert found[0] == {"a"} < found[1]


async def test_paths_that_say_the_same_are_one_and_leave_their_ways_to_it() -> None:
    """Where one step is nearly certain, the beam is one path, which still goes on in all of the budget's ways."""
    engine = ScriptedEngine(lambda text: {"a": 1.0, "b": 1.0, "c": 1.0} if len(text) == 8 else tree(1, 5)(text))
    verifier = RuleVerifier(lambda claim: 0.9 if "c" in claim.text else 0.5)
    outcome = await work_on(engine, BeamSearch(), verifier, budget=Budget(samples=16), extract=str)
    assert "c" in outcome.sample.text and outcome.spent.tokens == 16 * 11


async def test_fewer_samples_than_ways_are_one_beam() -> None:
    outcome = await work_on(
        ScriptedEngine(tree(3, 4)), BeamSearch(expand=8), RuleVerifier(lambda claim: 0.5), budget=Budget(samples=3)
    )
    assert outcome.sample.finished and outcome.spent.tokens <= 3 * 9
