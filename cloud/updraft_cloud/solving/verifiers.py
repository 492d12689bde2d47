"""Verifiers that a request may name: which are allowed, and what the engine's process lends them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from updraft.config.strategies import StrategySettings
from updraft.errors import InvalidRequest, UnknownName
from updraft.strategies import Forks
from updraft.verifiers import VERIFIERS, Resources, Verifier, open_verifier
from updraft.verifiers.reward_model import open_reward, reward_source

__all__ = ["close_resources", "make_verifier", "open_resources", "verifier_names"]


def open_resources(settings: StrategySettings) -> Resources:
    """What verifiers are lent besides the request's own model. Raises what loading the reward model raises."""
    rewards = {}
    if settings.reward_model is not None:
        rewards["reward"] = open_reward(reward_source(settings.reward_model))
    return Resources(rewards=rewards, execute_code=settings.execute_code, records=settings.records)


def close_resources(resources: Resources) -> None:
    """Free reward models. Safe to call twice."""
    for reward in resources.rewards.values():
        reward.close()


def verifier_names(settings: StrategySettings) -> list[str]:
    """Names that requests may use: those that are allowed and have here what they need."""
    lacking = {"command"}  # programs are the operator's, and `updraft verify`'s
    if not settings.execute_code:
        lacking.add("unit-tests")
    if settings.reward_model is None:
        lacking.add("reward")
    allowed = VERIFIERS if settings.verifiers is None else settings.verifiers
    return [name for name in VERIFIERS if name in allowed and name not in lacking]


def make_verifier(spec: dict[str, Any], resources: Resources, settings: StrategySettings, reader: Forks) -> Verifier:
    """The verifier that a request names; `reader` is the request's own model.

    Raises:
        UnknownName: there is none of this name, or it is not allowed.
        InvalidRequest: its settings are wrong.
        ConfigError: something that it needs is not here.
    """
    kind, allowed = spec.get("kind"), verifier_names(settings)
    if not isinstance(kind, str):
        raise InvalidRequest("The verifier has no kind.", param="updraft.verifier")
    if kind not in allowed:
        known = ", ".join(allowed) or "none"
        raise UnknownName(f"There is no verifier {kind[:64]!r} here; there is: {known}.", param="updraft.verifier")
    return open_verifier(spec, replace(resources, reader=reader))
