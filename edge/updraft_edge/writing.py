"""The edge tier's loop: draft → decide → (escalate) → commit."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator

from updraft.errors import LinkError, Overloaded, Unauthenticated, Withheld
from updraft.generation import TokenEvent
from updraft.modes import Mode, Origin
from updraft.sampling import Sampled
from updraft.solution import ProgressEvent
from updraft_edge.answer import Answer
from updraft_edge.composition import Composition, fails
from updraft_edge.lookup.drafter import own_tokens
from updraft_edge.seams import Decision, HandOver

__all__ = ["write"]

log = logging.getLogger(__name__)


async def write(answer: Answer, composition: Composition) -> AsyncIterator[TokenEvent | ProgressEvent]:
    """Events of the answer, and of what happens on the way to it, until it is finished.

    Raises what neither a retry nor the edge alone can mend.
    """
    while not answer.done():
        run = await _draft(answer, composition)
        for note in answer.take_notes():
            yield note
        try:
            match decision := await composition.policy.decide(run):
                case Decision.COMMIT:
                    events = _commit(answer, composition, run)
                case Decision.ACCEPT:
                    events = _commit(answer, composition, run, verified=True)
                case Decision.VERIFY:
                    events = await _verify(answer, composition, run)
                case HandOver():
                    for event in _commit(answer, composition, run[: decision.keep]):
                        yield event
                    run = []
                    async for item in _hand_over(answer, composition, decision):
                        yield item
                    continue
        except (LinkError, Overloaded, Unauthenticated, Withheld) as error:
            if fails(error, answer):
                raise
            log.warning("the edge finishes alone: %s", error.message)
            composition.degrade(answer, error)
            events = _commit(answer, composition, own_tokens(run))
        for event in events:
            yield event


async def _draft(answer: Answer, composition: Composition) -> list[Sampled]:
    """A run of proposed tokens; empty if nothing drafts, or drafter or policy leave the next token to the cloud."""
    run: list[Sampled] = []
    if not composition.drafts:
        return run
    while (proposed := await composition.drafter.propose()) is not None:
        run.append(proposed)
        if run[-1].token in answer.ends or len(run) >= answer.room or composition.stop.ends(run):
            break
    return run


def _commit(
    answer: Answer, composition: Composition, run: list[Sampled], *, verified: bool = False
) -> list[TokenEvent]:
    """The edge's own tokens stand."""
    composition.drafter.settle([sampled.token for sampled in run])
    return answer.commit(run, Origin.EDGE, verified=verified)


async def _verify(answer: Answer, composition: Composition, run: list[Sampled]) -> list[TokenEvent]:
    """Ask the cloud for a verdict on the run and commit what it says. The drafter goes on meanwhile."""
    asked = time.perf_counter()
    verdict = await composition.cloud.verify([sampled.token for sampled in run], composition.branches(run))
    spent = verdict.spent
    # The answer's first verdict has waited for the prompt and the session, too.
    if (run or composition.mode is Mode.LOOKUP) and not spent.prefilled:
        composition.costs.note_verdict(spent.positions, time.perf_counter() - asked, spent.micros * 1e-6)
    composition.stop.learn(run, verdict.accepted)
    own = [] if verdict.own is None else [verdict.own]
    accepted = verdict.reports or run[: verdict.accepted]
    composition.drafter.settle([*verdict.followed, *(sampled.token for sampled in own)])
    events = answer.commit(accepted, Origin.EDGE, verified=True, finish=None if own else verdict.finish)
    return events + answer.commit(own, Origin.CLOUD, verified=True, finish=verdict.finish)


async def _hand_over(
    answer: Answer, composition: Composition, condition: HandOver
) -> AsyncIterator[TokenEvent | ProgressEvent]:
    """Let the cloud write until it hands back or the answer is finished."""
    if answer.done():
        return
    composition.drafter.hold(True)
    async with contextlib.aclosing(composition.writer.write(condition)) as spans:
        async for span in spans:
            if isinstance(span, ProgressEvent):
                yield span
                continue
            events = answer.commit(span.tokens, span.origin, verified=True, finish=span.finish)
            composition.drafter.settle([sampled.token for sampled in span.tokens])
            for event in events:
                yield event
            if answer.done():
                return
    composition.policy.returned()
    composition.drafter.hold(False)
