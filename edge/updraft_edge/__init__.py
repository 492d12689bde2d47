"""The edge agent: drafters, policies, the link to the cloud and the local servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from updraft_edge.agent import Agent

__all__ = ["Agent"]


def __getattr__(name: str) -> object:
    """Load the agent, and with it the engine, only when it is asked for."""
    if name == "Agent":
        from updraft_edge.agent import Agent

        return Agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
