"""Runs a pipeline's components in order, under its budget of calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from updraft.composition.base import Candidate, Flow, Meter
from updraft.composition.pipeline import Pipeline
from updraft.errors import ConfigError
from updraft.strategies.problem import Outcome
from updraft.strategies.tally import best_first, conclude, tally
from updraft.strategies.workspace import Workspace

__all__ = ["check", "execute"]


async def execute(pipeline: Pipeline, work: Workspace) -> Outcome:
    """Run all components that tokens and time are left for, and give the best answer of the latest; an empty one where
    they did not reach for any."""
    meter = Meter(pipeline.calls, work.budget.samples)
    flows: dict[str, Flow] = {}
    latest = given = Flow(tuple(map(Candidate, work.problem.given)))
    for component in pipeline.order:
        if work.exhausted:
            break
        work.tell("stage", text=component.id)
        flow = await component.run(work, Flow.of([flows[name] for name in component.inputs]), meter)
        if component.kind == "generate":
            flow, given = Flow.of([given, flow]), Flow()
        flows[component.id] = flow
        if flow.answers:
            latest = flow
    work.ended = work.ended or meter.short
    final = flows.get(pipeline.output)
    answers = final.answers if final is not None and final.answers else latest.answers
    seen = {id(one.sample): one.sample for flow in [given, *flows.values()] for one in flow.answers}
    return replace(_outcome(work, answers), unparsed=sum(sample.answer is None for sample in seen.values()))


def check(pipeline: Pipeline, work: Workspace) -> None:
    """See that what components need is there, before anything is spent.

    Raises:
        ConfigError: a component needs a verifier, or a permission, that there is not.
    """
    for component in pipeline.component:
        if getattr(component, "by", None) == "verifier" and work.verifier is None:
            raise ConfigError(
                f"The component {component.id!r} needs a verifier.",
                remedy='Name one in the request, or let the model judge: by = "model".',
            )
        if component.kind == "run-tests" and not work.runs_code:
            raise ConfigError(
                f"The component {component.id!r} runs programs that the model writes, which is not allowed here.",
                remedy="Allow it where the model runs, or leave the component out.",
            )


def _outcome(work: Workspace, answers: Sequence[Candidate]) -> Outcome:
    """The best answer: of those that passed if any did, by their scores where all have one, else by votes."""
    standing = [candidate for candidate in answers if candidate.passed] or list(answers)
    known = [candidate.score for candidate in standing if candidate.score is not None]
    if known and len(known) == len(standing):
        standing = [standing[index] for index in sorted(range(len(known)), key=lambda index: -known[index])]
    samples, scores = [one.sample for one in standing], [one.score for one in standing]
    if known and len(known) == len(standing):
        found = best_first(tally(samples, sorted(known, reverse=True), scores))
        outcome = conclude(work, samples, found, confidence=lambda best: best.score or 0.0)
    else:
        outcome = conclude(work, samples, tally(samples, [1.0] * len(samples), scores))
    passed = next((one.passed for one in standing if one.sample is outcome.sample), None)
    return replace(outcome, verified=passed)
