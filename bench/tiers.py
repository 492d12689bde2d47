"""Both tiers for a bench: the cloud as its own process on cores of its own, agents in this one, a relay between."""

from __future__ import annotations

import os
from typing import Any

from updraft.chat_template import ChatTemplate
from updraft.cloud_process import CloudProcess
from updraft.config import CloudLinkSettings, CloudSettings, EdgeSettings, ListenSettings, RulesSettings
from updraft.config.kv import KvSettings
from updraft.engine.base import Engine
from updraft.generation import ChatMessage, GenerationRequest
from updraft.modes import ModeSettings
from updraft.process import pin_to_cores
from updraft.sampling import SamplingParams
from updraft.transport.address import parse_address

from .relay import Relay
from .trace import Trace

__all__ = [
    "chat_tokens",
    "cloud_process",
    "edge_settings",
    "machine_cores",
    "pin_apart",
    "question",
    "relay_to",
]


def machine_cores() -> tuple[int, ...]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def pin_apart(pin: bool) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Keep this process on the first half of its cores; that half, and the other one for the cloud.

    Both are None where nothing is pinned: when not asked for, with one core, or where the system cannot.
    """
    cores = machine_cores()
    if not pin or len(cores) < 2 or not hasattr(os, "sched_setaffinity"):
        return None, None
    edge, cloud = cores[: len(cores) // 2], cores[len(cores) // 2 :]
    pin_to_cores(edge)
    return edge, cloud


def cloud_process(
    model: str, *, context: int, sequences: int = 16, cores: tuple[int, ...] | None = None, **more: Any
) -> CloudProcess:
    """A cloud on a free port, its threads as many as its cores; `more` are other settings of it.

    Sessions share no prompts unless `kv` says so: the modes of a comparison would compute each other's.
    """
    more.setdefault("kv", KvSettings(share=False))
    return CloudProcess(
        CloudSettings(
            model=model,
            context=context,
            sequences=sequences,
            cores=cores,
            listen=ListenSettings(port=0),
            drain_s=0.5,
            log_level="warning",
            **more,
        )
    )


def relay_to(
    address: str, *, round_trip_s: float, bandwidth_bps: float | None = None, trace: Trace | None = None
) -> Relay:
    """A relay in front of the cloud that splits the round trip evenly."""
    host, port = parse_address(address)
    return Relay(host, port, delay_s=round_trip_s / 2, bandwidth_bps=bandwidth_bps, trace=trace)


def edge_settings(model: str, *, address: str | None, context: int, sequences: int, **more: Any) -> EdgeSettings:
    """An agent's settings; local only without an address.

    Prompts are public: one that a rule kept here would be measured as the edge's.
    """
    more.setdefault("rules", RulesSettings(keep_local=()))
    return EdgeSettings(
        model=model,
        context=context,
        sequences=sequences,
        cloud=CloudLinkSettings(address=address),
        local_only=address is None,
        **more,
    )


def question(
    prompt: str,
    settings: ModeSettings,
    *,
    tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    ignore_end: bool = False,
) -> GenerationRequest:
    """A chat request with one user message."""
    return GenerationRequest(
        messages=[ChatMessage("user", prompt)],
        sampling=SamplingParams(temperature=temperature, seed=seed),
        max_tokens=tokens,
        settings=settings,
        ignore_end=ignore_end,
    )


def chat_tokens(engine: Engine, prompt: str) -> list[int]:
    """The token ids that an agent with this engine makes of `question(prompt)`."""
    text = ChatTemplate(engine.info.chat_template, bos="", eos="").render([{"role": "user", "content": prompt}])
    return engine.tokenizer.encode(text, special=True)
