"""Particle filtering and particle Gibbs: who multiplies, who is given up, and what is kept between iterations."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fakes.scripted_engine import ScriptedEngine, tree
from tests.fakes.verifiers import RuleVerifier
from tests.shared.strategies.solving import running, steps_of, work_on
from updraft.sampling import SamplingParams
from updraft.strategies import Budget, Forks, Problem, Progress
from updraft.strategies.particle_filtering import ParticleFiltering
from updraft.strategies.particle_gibbs import ParticleGibbs
from updraft.strategies.stepwise import Path, Step, Walk
from updraft.strategies.workspace import Workspace
from updraft.verifiers import Claim

WARM = SamplingParams(temperature=1.0, seed=5)


def only_a(claim: Claim) -> float:
    """Once something else than the letter a is written, all is lost."""
    return 0.999 if set(steps_of(claim.text)) <= {"a"} else 0.001


@pytest.mark.parametrize("resampling", ["systematic", "multinomial"])
async def test_copies_of_the_good_take_the_place_of_the_bad(resampling: str) -> None:
    notes: list[Progress] = []
    strategy = ParticleFiltering.model_validate({"resampling": resampling})
    engine = ScriptedEngine(tree(3, 5))
    outcome = await work_on(engine, strategy, RuleVerifier(only_a), budget=Budget(samples=12), notes=notes)
    assert outcome.sample.text == "a\n" * 5 and outcome.confidence > 0.99
    kinds = Counter(note.kind for note in notes)
    assert kinds["prune"] == kinds["resample"] > 5  # as many come as go
    assert outcome.spent.tokens == 12 * 11  # what best-of-n takes
    alone = await work_on(engine, ParticleFiltering(), RuleVerifier(lambda claim: 0.5), budget=Budget(samples=12))
    assert alone.spent.tokens == 12 * 11 and alone.confidence < 0.5


async def test_copies_share_what_was_computed() -> None:
    engine = ScriptedEngine(tree(3, 5), sequences=32)
    outcome = await work_on(engine, ParticleFiltering(), RuleVerifier(only_a), question="q" * 200 + ">")
    assert outcome.spent.prefilled == 200  # the prompt once, without its last token


async def test_equal_rewards_leave_all_as_they_are() -> None:
    notes: list[Progress] = []
    await work_on(ScriptedEngine(tree(3, 4)), ParticleFiltering(), RuleVerifier(lambda claim: 0.7), notes=notes)
    assert not {"prune", "resample"} & {note.kind for note in notes}


async def test_a_finished_particle_competes_and_is_copied() -> None:
    engine = ScriptedEngine(lambda text: {"": 1.0} if text.endswith("a\n") else tree(2, 9)(text))
    outcome = await work_on(engine, ParticleFiltering(), RuleVerifier(only_a), budget=Budget(samples=8))
    assert outcome.sample.text == "a\n"
    assert outcome.alternatives[0].samples >= 7  # the one in the end, too, where the others are copies of it


def test_the_temperature_falls_linearly() -> None:
    strategy = ParticleFiltering(temperature=0.5, start_temperature=2.5, anneal_steps=4)
    assert [strategy.heat(depth) for depth in (0, 1, 2, 4, 9)] == [2.5, 2.0, 1.5, 0.5, 0.5]
    assert ParticleFiltering(temperature=0.5).heat(0) == 0.5


async def test_gibbs_spends_the_samples_in_all_iterations_together() -> None:
    outcome = await work_on(
        ScriptedEngine(tree(3, 4)), ParticleGibbs(iterations=3), RuleVerifier(only_a), budget=Budget(samples=8)
    )
    assert outcome.spent.samples == 8 and outcome.spent.tokens <= 8 * 9
    assert sum(one.samples for one in outcome.alternatives) + outcome.unparsed == 8


async def test_gibbs_begins_as_a_filter_of_its_first_iteration() -> None:
    verifier = RuleVerifier(lambda claim: 0.5)
    filtered = await work_on(ScriptedEngine(tree(3, 4)), ParticleFiltering(), verifier, budget=Budget(samples=3))
    gibbs = await work_on(ScriptedEngine(tree(3, 4)), ParticleGibbs(iterations=1), verifier, budget=Budget(samples=3))
    assert gibbs.sample == filtered.sample and gibbs.alternatives == filtered.alternatives


async def test_new_particles_go_on_from_beginnings_of_the_reference() -> None:
    engine = ScriptedEngine(tree(3, 4))
    async with running(engine) as (loop, places):
        forks = Forks(loop, places, WARM)
        work = Workspace(
            Problem(engine.tokenizer.encode("q>"), "q>", WARM, step="\n"), Budget(), forks, RuleVerifier(only_a)
        )
        walk = Walk(work, 16)
        reference = Path(work.start())
        await work.extend([reference.branch])
        reference.steps = tuple(Step(end, 0.9999) for end in (2, 4, 6, 8, 9))
        if only_a(work.claim(reference.branch)) > 0.5:
            pytest.skip("the reference must be told from what the verifier likes")
        particles = await ParticleFiltering().sweep(walk, [Path(work.start()) for _ in range(3)], reference)
        first = reference.branch.tokens[:2]
        assert len(particles) == 3 and reference not in particles
        assert any(path.branch.tokens[:2] == first and path.branch.origin == 0 for path in particles)
        assert all(len(path.steps) == 5 and path.steps[0].end == 2 for path in particles)
        await forks.close()
