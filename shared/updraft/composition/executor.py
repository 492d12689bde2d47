"""Runs a pipeline's components in order, under its budget of calls."""

from __future__ import annotations

from collections.abc import Sequence

from updraft.composition.base import Candidate, Flow, Meter
from updraft.composition.pipeline import Pipeline
from updraft.errors import ConfigError, EngineFailure
from updraft.strategies.problem import Alternative, Outcome
from updraft.strategies.tally import conclude, tally
from updraft.strategies.workspace import Workspace

__all__ = ["check", "execute"]


async def execute(pipeline: Pipeline, work: Workspace) -> Outcome:
    """Run all components that calls, tokens and time are left for, and give the best answer of the latest.

    Raises:
        EngineFailure: no answer was written at all.
    """
    meter = Meter(min(pipeline.calls, work.budget.calls or pipeline.calls))
    flows: dict[str, Flow] = {}
    latest = given = Flow(tuple(map(Candidate, work.problem.given)))
    for component in pipeline.order:
        if meter.left == 0:
            work.ended = work.ended or "calls"
        if work.ended is not None or work.exhausted:
            break
        work.tell("stage", text=component.id)
        flows[component.id] = flow = await component.run(
            work, Flow.of([flows[name] for name in component.inputs]), meter
        )
        if component.kind == "generate" and given.answers:
            flows[component.id] = flow = Flow.of([given, flow])
            given = Flow()
        if flow.answers:
            latest = flow
    final = flows.get(pipeline.output)
    answers = final.answers if final is not None and final.answers else latest.answers
    if not answers:
        raise EngineFailure("The pipeline wrote no answer.", remedy="Give it more tokens or more time.")
    return _outcome(work, answers)


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
    scores = [candidate.score for candidate in standing]
    samples = [candidate.sample for candidate in standing]
    known = [score for score in scores if score is not None]
    if len(known) == len(standing):
        return _by_score(work, standing, known)
    return conclude(work, samples, tally(samples, [1.0] * len(samples), scores), verified=_passed(answers))


def _by_score(work: Workspace, standing: Sequence[Candidate], scores: Sequence[float]) -> Outcome:
    order = sorted(range(len(standing)), key=lambda index: -scores[index])
    total = sum(scores) or 1.0
    ranked = [Alternative(standing[i].sample, scores[i] / total, 1, scores[i]) for i in order]
    samples = [candidate.sample for candidate in standing]
    return conclude(work, samples, ranked, confidence=lambda best: best.score or 0.0, verified=_passed(standing))


def _passed(answers: Sequence[Candidate]) -> bool | None:
    told = [candidate.passed for candidate in answers if candidate.passed is not None]
    return any(told) if told else None
