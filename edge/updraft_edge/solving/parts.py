"""What an answer of the mode `solve` is made of: the edge's answers, their vote, and who is asked where it is thin."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from updraft.modes import Origin
from updraft.routing.votes import Ballot
from updraft.sampling import Sampled
from updraft.solution import ProgressEvent
from updraft_edge.drafters import NoDrafter
from updraft_edge.policies.plain import HandOverAll, Never
from updraft_edge.policies.route_parts import sample_drafters
from updraft_edge.policies.voting import VotingDrafter
from updraft_edge.seams import Decision, Drafter, EscalationPolicy, HandOver, StopRule
from updraft_edge.solving.session import SolveSession
from updraft_edge.solving.vote import voted
from updraft_edge.solving.wire import Asking
from updraft_edge.stopping.rules import FixedLength, WhileReady

if TYPE_CHECKING:
    from updraft.engine.base import Engine, Tokenizer
    from updraft.generation import GenerationRequest
    from updraft.sampling import SamplingParams
    from updraft.strategies.effort import Plan
    from updraft_edge.answer import Answer
    from updraft_edge.composition import Order
    from updraft_edge.workshop import Workshop

__all__ = ["SolvePolicy", "asking_of", "solve_parts"]


class SolvePolicy:
    """The edge's vote stands where the winner's part of it reaches the threshold; else the cloud works on the prompt,
    and the edge's answers vote on there."""

    def __init__(self, voting: VotingDrafter, threshold: float) -> None:
        self._voting = voting
        self._threshold = threshold
        self._decided = False

    async def decide(self, run: Sequence[Sampled]) -> Decision | HandOver:
        if self._decided:
            return Decision.COMMIT
        self._decided = True
        confidence = await self._voting.confidence()
        sure = math.isfinite(confidence) and confidence >= self._threshold
        return Decision.COMMIT if sure else HandOver(keep=0)

    def returned(self) -> None:
        pass


def solve_parts(
    workshop: Workshop, order: Order, plan: Plan, tokenizer: Tokenizer
) -> tuple[Drafter, StopRule, EscalationPolicy]:
    """Drafter, stop rule and policy. Without a cloud the edge's vote decides alone."""
    session = order.session if isinstance(order.session, SolveSession) else None
    if plan.edge_samples == 0:
        if session is not None:
            return NoDrafter(), FixedLength(1), HandOverAll()
        drafter = workshop.alone(order)
        return drafter, WhileReady(drafter.available), Never()
    samples = sample_drafters(workshop, order, plan.edge_samples)
    voting = VotingDrafter(samples, order.answer, tokenizer, stands=True)
    voting.on_vote = lambda ballot, answers: _tell(order, voting, session, ballot, answers)
    policy = Never() if session is None else SolvePolicy(voting, plan.threshold)
    return voting, WhileReady(voting.available), policy


def asking_of(engine: Engine, request: GenerationRequest, sampling: SamplingParams, answer: Answer) -> Asking:
    """What the cloud is asked with, besides the plan."""
    log, said = answer.log, [message.content for message in request.messages or () if message.role == "user"]
    return Asking(
        tokenizer_hash=engine.info.tokenizer_hash,
        prompt=log.tokens[: log.prompt_length],
        question=engine.tokenizer.encode(said[-1]) if said else [],
        sampling=sampling,
        max_tokens=answer.most,
        stop_tokens=sorted(answer.ends),
        top_logprobs=request.top_logprobs if request.logprobs else 0,
        progress=request.progress,
        alternatives=request.alternatives,
        vocabulary=engine.info.vocabulary,
    )


def _tell(
    order: Order,
    voting: VotingDrafter,
    session: SolveSession | None,
    ballot: Ballot,
    answers: Sequence[Sequence[Sampled]],
) -> None:
    """The edge has voted: whoever wants to know is told."""
    answer, request = order.answer, order.request
    answer.solution = voted(ballot, answers, voting.text, alternatives=request.alternatives)
    if session is not None:
        session.given = [list(sample) for sample in answers if sample]
    if not request.progress:
        return
    seconds, tokens = time.perf_counter() - answer.started, sum(map(len, answers))
    for number in range(len(answers)):
        answer.notes.append(ProgressEvent("sample", Origin.EDGE, number, tokens=tokens, seconds=seconds))
    value = ballot.confidence if math.isfinite(ballot.confidence) else None
    answer.notes.append(ProgressEvent("answer", Origin.EDGE, ballot.winner, value, tokens=tokens, seconds=seconds))
