"""Fits the compute-optimal choice to a model: what does a question of this difficulty deserve?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from updraft.errors import ConfigError
from updraft.modes import Origin
from updraft.noise import key_of
from updraft.strategies.choice import Candidate, ComputeOptimal, Record, fit_plans
from updraft.strategies.difficulty import Difficulty, features_of, fit_difficulty
from updraft.strategies.problem import Budget, Sample
from updraft.strategies.subject import Question, Subject
from updraft.strategies.workspace import Workspace

__all__ = ["candidates_for", "fit_choice"]

_STAND: Final = Candidate(None)
_LARGE: Final = 64  # samples, of which few are drawn where the vote is soon settled
_WAVE: Final = 2
_EDGE_ANSWERS: Final = 4  # as most efforts have it
_SOFT: Final = 3.0  # an imperfect verifier should not decide alone which particles are left
_MOST: Final = Budget(samples=1024)


def candidates_for(subject: Subject, price: float) -> tuple[Candidate, ...]:
    """What plans are chosen from: votes that stop where a sample gains less than it costs, with a verifier weighted by
    its scores, with one that judges steps also step-wise search. They are few: the best of many on a handful of
    questions is mostly the luckiest.

    Args:
        price: of 1000 tokens, in right answers.
    """
    saturating = (("wave", _WAVE), *((("price", price),) if price > 0 else ()))
    found = [Candidate("self-consistency", _LARGE, saturating)]
    if subject.verifier is not None:
        found.append(Candidate("best-of-n", _LARGE, (("weighted", True), *saturating)))
        if subject.verifier.judges_steps:
            found += [Candidate("particle-filtering", samples, (("temperature", _SOFT),)) for samples in (8, 16)]
    return tuple(found)


async def fit_choice(
    subject: Subject,
    questions: Sequence[Question],
    candidates: Sequence[Candidate],
    *,
    pilot: int = 2,
    price: float = 0.02,
    classes: int = 3,
    edge: Subject | None = None,
    seed: int = 0,
    done: Callable[[], None] = lambda: None,
) -> ComputeOptimal:
    """Difficulty and plans, from what every candidate makes of every question after its pilot.

    Args:
        candidates: the pilot's answer standing is added to them.
        pilot: answers that the difficulty is estimated from.
        price: what 1000 tokens cost, in right answers.
        classes: of difficulty, at most.
        edge: the edge's model, whose answers come with every question, as in mode `solve`.
        done: told of each question.

    Raises:
        ConfigError: the edge's model has another tokenizer.
    """
    if edge is not None and edge.engine.info.tokenizer_hash != subject.engine.info.tokenizer_hash:
        raise ConfigError(
            "The edge's model has another tokenizer than the one that is fitted.", remedy="Name one of the same family."
        )
    chosen = tuple(dict.fromkeys((_STAND, *candidates)))

    async def measured(
        index: int, question: Question
    ) -> tuple[tuple[float, ...], dict[Candidate, tuple[float, float]]]:
        own = seed + 1_000_003 * index
        samples, scores = await _pilot(subject, question, ComputeOptimal(pilot=pilot), own)
        drawn = sum(len(sample.tokens) for sample in samples)
        given = [] if edge is None else await _edge_answers(edge, question, own)
        results = {}
        for candidate in chosen:  # with noise of their own: the pilot's would draw its answers again
            strategy = ComputeOptimal(pilot=pilot, plans=(candidate.plan(1.0),))
            attempt = await subject.attempt(question, strategy, _MOST, seed=key_of(own), given=[*given, *samples])
            results[candidate] = (float(attempt.right), float(attempt.outcome.spent.tokens + drawn))
        done()
        return features_of(samples, scores, given), results

    rows = await asyncio.gather(*(measured(index, question) for index, question in enumerate(questions)))
    difficulty = fit_difficulty([features for features, _ in rows], [not results[_STAND][0] for _, results in rows])
    records = [Record(difficulty.of(features), results) for features, results in rows]
    plans = fit_plans(records, price=price, classes=classes)
    return ComputeOptimal(pilot=pilot, difficulty=_rounded(difficulty), plans=plans)


async def _pilot(
    subject: Subject, question: Question, strategy: ComputeOptimal, seed: int
) -> tuple[list[Sample], list[float | None] | None]:
    """A question's first answers, and what the verifier gives them."""
    forks = subject.forks(seed)
    try:
        problem, budget = subject.problem(question.text, seed=seed), Budget(samples=strategy.pilot)
        work = Workspace(problem, budget, forks, subject.verifier)
        samples = await strategy.drawn(work, strategy.pilot)
        scores = [judged.score for judged in await work.judge(samples)] if work.verifier is not None else None
        return samples, scores
    finally:
        await forks.close()


async def _edge_answers(edge: Subject, question: Question, seed: int) -> list[Sample]:
    """What the edge would send with a question."""
    forks = edge.forks(seed)
    try:
        work = Workspace(edge.problem(question.text, seed=seed), Budget(samples=_EDGE_ANSWERS), forks)
        return [replace(sample, origin=Origin.EDGE) for sample in await work.sample(_EDGE_ANSWERS)]
    finally:
        await forks.close()


def _rounded(difficulty: Difficulty) -> Difficulty:
    """As a person would write it down."""
    values = [round(weight, 4) for weight in difficulty.weights]
    return Difficulty(intercept=round(difficulty.intercept, 4), weights=tuple(values))  # type: ignore[arg-type]
