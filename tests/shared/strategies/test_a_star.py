"""A*: with a verifier that knows the best path, the best path is found; the budget's steps are kept."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.scripted_engine import ScriptedEngine, tree
from tests.fakes.verifiers import RuleVerifier
from tests.shared.strategies.solving import steps_of, work_on
from updraft.strategies import Budget, Progress
from updraft.strategies.a_star import AStar, Frontier
from updraft.strategies.branches import Branch
from updraft.strategies.stepwise import Path, Step
from updraft.verifiers import Claim

FAN, DEPTH = 2, 3
LEAVES = ["".join(leaf) for leaf in itertools.product("ab", repeat=DEPTH)]


def path_of(number: int, rewards: list[float], *, ended: bool = False) -> Path:
    return Path(Branch(number, (1,), ended=ended), tuple(Step(end, reward) for end, reward in enumerate(rewards, 1)))


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(len(LEAVES))), st.sampled_from(["none", "remaining"]), st.integers(0, 1000))
async def test_with_a_perfect_heuristic_the_best_path_is_found(order: list[int], heuristic: str, seed: int) -> None:
    values = {leaf: (1 + rank) / (1 + len(LEAVES)) for leaf, rank in zip(LEAVES, order, strict=True)}

    def best_below(claim: Claim) -> float:
        written = "".join(steps_of(claim.text))
        return max(value for leaf, value in values.items() if leaf.startswith(written))

    strategy = AStar.model_validate({"heuristic": heuristic, "branches": 32, "choose": "best"})
    question = f"q{seed}>"
    outcome = await work_on(
        ScriptedEngine(tree(FAN, DEPTH)),
        strategy,
        RuleVerifier(best_below),
        budget=Budget(samples=64),
        question=question,
    )
    assert "".join(steps_of(outcome.sample.text)) == max(values, key=values.__getitem__)
    assert outcome.spent.tokens < 64 * 7  # as many whole answers


async def test_it_comes_back_from_a_way_that_turns_out_bad() -> None:
    """The better first step leads to nothing good; later the other one is expanded after all."""

    def trap(claim: Claim) -> float:
        steps = steps_of(claim.text)
        if steps[0] == "a":
            return 0.8 if len(steps) == 1 else 0.01
        return 0.6

    notes: list[Progress] = []
    outcome = await work_on(
        ScriptedEngine(tree(2, 4)), AStar(branches=4), RuleVerifier(trap), budget=Budget(samples=8), notes=notes
    )
    assert steps_of(outcome.sample.text)[0] == "b"
    assert any(note.kind == "step" and note.text == "a\n" for note in notes)


@pytest.mark.parametrize("samples", [1, 2, 5, 16])
@pytest.mark.parametrize("branches", [1, 2, 8])
async def test_it_takes_no_more_than_as_many_whole_answers(samples: int, branches: int) -> None:
    verifier = RuleVerifier(lambda claim: 0.3 + 0.4 * (sum(claim.tokens) % 7) / 7)
    strategy = AStar(branches=branches, goals=64)
    outcome = await work_on(ScriptedEngine(tree(4, 5)), strategy, verifier, budget=Budget(samples=samples))
    assert outcome.sample.finished
    assert outcome.spent.verifier_calls <= samples * 6  # steps; the sixth is the end token
    assert outcome.spent.tokens <= samples * 12


async def test_more_goals_give_more_answers() -> None:
    verifier = RuleVerifier(lambda claim: 0.9)
    found = []
    for goals in (1, 4):
        outcome = await work_on(
            ScriptedEngine(tree(4, 3)), AStar(goals=goals), verifier, budget=Budget(samples=32), extract=str
        )
        found.append(sum(one.samples for one in outcome.alternatives))
    assert found[0] < found[1] and found[1] >= 4


async def test_a_path_is_expanded_again_where_its_children_are_bad() -> None:
    """The first ways to go on are all bad, and better ones are there."""
    engine = ScriptedEngine(lambda text: {"a": 0.97, "b": 0.03} if text.endswith(">") else tree(1, 3)(text))
    verifier = RuleVerifier(lambda claim: 0.9 if claim.text.startswith("b") else 0.001)
    notes: list[Progress] = []
    outcome = await work_on(engine, AStar(branches=2), verifier, budget=Budget(samples=60), notes=notes)
    first_steps = [note.branch for note in notes if note.kind == "step" and note.text in ("a\n", "b\n")]
    assert outcome.sample.text.startswith("b") and len(first_steps) > 4


def test_costs_are_those_of_the_steps_and_of_the_missing_ones() -> None:
    frontier = Frontier(estimating=True)
    begun = path_of(0, [0.5, 0.8])
    whole = path_of(1, [0.9, 0.9, 0.5, 0.5], ended=True)
    assert frontier.cost(begun) == pytest.approx(-math.log(0.4))
    frontier.push([begun, whole])
    assert frontier.cost(begun) == pytest.approx(-math.log(0.4) - 2 * math.log(0.8))  # two more steps, as the whole one
    assert frontier.cost(whole) == pytest.approx(-math.log(0.9 * 0.9 * 0.25))
    assert frontier.deepest == 4 and frontier.paths[0] is begun
    assert math.isfinite(frontier.cost(path_of(2, [0.0] * 50)))
    again = path_of(3, [0.5])
    again.expanded = 2
    assert frontier.cost(again) == pytest.approx(-math.log(0.5) * 4 + 2 * math.log(10))
    plain = Frontier(estimating=False)
    plain.push([begun, whole])
    assert plain.cost(begun) == pytest.approx(-math.log(0.4))


def test_the_queue_is_in_order_and_trimmed_from_its_end() -> None:
    frontier = Frontier(estimating=False)
    paths = [path_of(number, [reward]) for number, reward in enumerate([0.2, 0.9, 0.5, 0.9])]
    frontier.push(paths)
    assert [path.branch.number for path in frontier.paths] == [1, 3, 2, 0]
    assert [path.branch.number for path in frontier.trim(3)] == [0]
    assert frontier.pop(1).branch.number == 3
    assert [path.branch.number for path in frontier.paths] == [1, 2]
