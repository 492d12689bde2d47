"""What an answer of the mode `route` is made of, for each score."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from updraft.errors import InvalidRequest
from updraft.mode_settings import RouteSettings
from updraft.routing.features import prompt_features
from updraft.sampling import MAX_SEED
from updraft_edge.policies.escalation import ROUTE_THRESHOLDS, Escalation
from updraft_edge.policies.prompt_rows import PromptReadingDrafter
from updraft_edge.policies.route import AnswerEnergy, RoutePolicy, mean_energy, mean_entropy
from updraft_edge.policies.scores import uniform
from updraft_edge.policies.voting import VotingDrafter
from updraft_edge.seams import Drafter, EscalationPolicy, StopRule
from updraft_edge.stopping.rules import WhileReady

if TYPE_CHECKING:
    from updraft.engine.base import Tokenizer
    from updraft_edge.composition import Order
    from updraft_edge.workshop import Workshop

__all__ = ["route_parts", "sample_drafters"]

_SAMPLE_TEMPERATURE: Final = 0.7
"""At which a greedy request's samples are drawn besides its own answer, as self-consistency does (arXiv 2203.11171)."""
_AHEAD: Final = 32
_LINGER_S: Final = 0.045

Score = Callable[[], Awaitable[float]]


def route_parts(
    workshop: Workshop, escalation: Escalation, order: Order, tokenizer: Tokenizer
) -> tuple[Drafter, StopRule, EscalationPolicy]:
    """Drafter, stop rule and policy.

    Raises:
        ConfigError, WrongTrunk: the score `learned` has no router for this pair.
        InvalidRequest: the edge model gives no rows of its prompt.
    """
    settings = order.settings.route
    if settings.score == "answer_energy":
        return _by_answer(workshop, escalation, order)
    if settings.score == "consistency":
        voting = VotingDrafter(sample_drafters(workshop, order, settings.samples), order.answer, tokenizer)

        async def doubt() -> float:
            return 1.0 - await voting.confidence()

        return voting, WhileReady(voting.available), _held(RoutePolicy(doubt, settings.threshold), escalation, order)
    drafter, score = _by_prompt(workshop, escalation, order)
    policy = _held(RoutePolicy(score, settings.threshold), escalation, order)
    return drafter, WhileReady(drafter.available), policy


def _by_prompt(workshop: Workshop, escalation: Escalation, order: Order) -> tuple[Drafter, Score]:
    """A score that is known before anything is written."""
    settings, log = order.settings.route, order.answer.log
    if settings.score == "random":
        number = uniform((order.sampling.seed or 0) ^ log.hash, 0)

        async def random() -> float:
            return number

        return workshop.drafter(order, _AHEAD, _LINGER_S), random
    router = escalation.router() if settings.score == "learned" else None
    drafter = workshop.drafter(order, _AHEAD, _LINGER_S, prompt_rows=settings.window)
    if not isinstance(drafter, PromptReadingDrafter):
        drafter.close()
        raise InvalidRequest(
            f"The score {settings.score} needs an edge model that is computed whole; this one has early exits.",
            remedy="Choose answer_energy, consistency or random, or another edge model.",
            param="updraft.route.score",
        )
    reader = drafter

    async def prompt() -> float:
        if router is not None:
            return router.prompt(prompt_features(reader.rows, log.prompt_length))
        return mean_energy(reader.rows) if settings.score == "prompt_energy" else mean_entropy(reader.rows)

    return drafter, prompt


def _by_answer(workshop: Workshop, escalation: Escalation, order: Order) -> tuple[Drafter, StopRule, EscalationPolicy]:
    """The edge writes ahead without committing, until its answer is whole or too bad."""
    settings = order.settings.route
    drafter = workshop.drafter(order, order.answer.most)

    async def score() -> float:
        return await energy.score()

    policy = RoutePolicy(score, settings.threshold)
    held = _held(policy, escalation, order)
    energy = AnswerEnergy(settings.window, lambda: policy.threshold, lambda: policy.decided, drafter.available)
    return drafter, energy, held


def sample_drafters(workshop: Workshop, order: Order, count: int) -> list[Drafter]:
    """The request's own answer, and others with seeds of their own."""
    own = order.sampling
    temperature = own.temperature or _SAMPLE_TEMPERATURE
    samples = [own]
    for number in range(1, count):
        seed = ((own.seed or 0) + number * 0x9E3779B97F4A7C15) & MAX_SEED
        samples.append(replace(own, temperature=temperature, seed=seed))
    return [workshop.drafter(replace(order, sampling=sampling), order.answer.most) for sampling in samples]


def _held(policy: RoutePolicy, escalation: Escalation, order: Order) -> EscalationPolicy:
    settings: RouteSettings = order.settings.route
    budget = order.settings.budget
    fallback = ROUTE_THRESHOLDS[settings.score]
    if settings.score == "random" and budget.share is not None:
        fallback = 1.0 - budget.share
    if policy.threshold is None:
        policy.threshold = fallback
    policy.on_score = partial(setattr, order.answer.statistics, "route_score")
    return escalation.within(
        budget,
        policy,
        order.answer,
        key=(settings, budget),
        asked=settings.threshold,
        fallback=fallback,
        whole=True,
    )
