"""Updraft: edge/cloud collaborative inference.

The names below are the public interface; each is loaded when it is first used, so that `import updraft` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from updraft.client import AsyncClient, Client
    from updraft.errors import UpdraftError
    from updraft.generation import ChatMessage, Completion, GenerationRequest, TokenEvent
    from updraft.modes import Mode, ModeSettings
    from updraft.sampling import SamplingParams

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "ChatMessage",
    "Client",
    "Completion",
    "GenerationRequest",
    "Mode",
    "ModeSettings",
    "SamplingParams",
    "TokenEvent",
    "UpdraftError",
    "__version__",
]

_HOMES = {
    "AsyncClient": "updraft.client",
    "ChatMessage": "updraft.generation",
    "Client": "updraft.client",
    "Completion": "updraft.generation",
    "GenerationRequest": "updraft.generation",
    "Mode": "updraft.modes",
    "ModeSettings": "updraft.modes",
    "SamplingParams": "updraft.sampling",
    "TokenEvent": "updraft.generation",
    "UpdraftError": "updraft.errors",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
