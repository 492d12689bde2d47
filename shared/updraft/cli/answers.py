"""Who answers `updraft run` and `updraft chat`: a running agent over gRPC, or one inside this process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from updraft.cli.background import BackgroundLoop
from updraft.cli.extras import needs_extra
from updraft.cli.reporting import stderr
from updraft.client import Client
from updraft.config import EdgeSettings, load_edge_settings
from updraft.errors import AgentUnavailable, InvalidRequest
from updraft.generation import ChatMessage, GenerationEvent, GenerationRequest
from updraft.modes import parse_settings
from updraft.process import pin_to_cores
from updraft.sampling import SamplingParams

__all__ = ["Answerer", "Question", "open_answerer"]

PROBE_S = 0.5


@dataclass(frozen=True, slots=True)
class Question:
    """What to answer. `settings` holds only the mode settings that were named; the agent's defaults are below them."""

    messages: Sequence[ChatMessage] | None = None
    prompt: str | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    trace: bool = False
    progress: bool = False
    alternatives: bool = False


class Answerer(Protocol):
    """Gives answers; `place` says where they are made."""

    @property
    def place(self) -> str: ...

    def ask(self, question: Question) -> Iterator[GenerationEvent]:
        """Token events, after progress if that was asked for, then the completion.

        Closing the iterator early stops the answer.
        """
        ...


class RunningAgent:
    """An agent in another process, asked through the SDK."""

    def __init__(self, client: Client, address: str) -> None:
        self._client = client
        self.place = f"the agent at {address}"

    def ask(self, question: Question) -> Iterator[GenerationEvent]:
        sampling = question.sampling
        stream = self._client.stream(
            question.prompt,
            messages=question.messages,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            seed=sampling.seed,
            max_tokens=question.max_tokens,
            stop=question.stop,
            settings=question.settings,
            trace=question.trace,
            progress=question.progress,
            alternatives=question.alternatives,
        )
        with stream:
            yield from stream.follow()
            yield stream.completion


class OwnAgent:
    """An agent inside this process, which ends with it."""

    def __init__(self, loop: BackgroundLoop, settings: EdgeSettings) -> None:
        with needs_extra("edge"):
            from updraft_edge.agent import Agent
        from updraft.models import resolve

        resolve(settings.model, progress=lambda line: stderr().print(line, style="dim", markup=False, soft_wrap=True))
        self._loop = loop
        self._settings = settings
        self._agent = loop.enter(Agent(settings))
        self.place = f"an agent in this process ({settings.model})"

    def ask(self, question: Question) -> Iterator[GenerationEvent]:
        request = GenerationRequest(
            messages=question.messages,
            prompt=question.prompt,
            sampling=question.sampling,
            max_tokens=question.max_tokens,
            stop=question.stop,
            settings=parse_settings(question.settings, self._settings.mode),
            trace=question.trace,
            progress=question.progress,
            alternatives=question.alternatives,
        )
        return self._loop.iterate(self._agent.follow(request))


@contextlib.contextmanager
def open_answerer(
    *, agent: str | None, config: Path | None, overrides: dict[str, Any], in_process: bool
) -> Iterator[Answerer]:
    """A running agent if one is named or answers at its usual address, else an agent of this process.

    Args:
        agent: address of a running agent.
        overrides: settings of an agent in this process; they rule a running one out.
        in_process: do not look for a running one.

    Raises:
        InvalidRequest: a running agent is named together with settings that only an own one can take.
        AgentUnavailable: the named agent does not answer.
    """
    own = in_process or bool(overrides)
    if agent and own:
        raise InvalidRequest(
            "--agent names a running agent, which has its own settings.",
            remedy="Leave out --agent, or --in-process, --model, --device, --cloud and --set.",
            param="agent",
        )
    settings = load_edge_settings(config, **overrides)
    with contextlib.ExitStack() as stack:
        running = None if own else _running(stack, settings, agent or os.environ.get("UPDRAFT_AGENT"))
        if running is not None:
            yield running
        else:
            pin_to_cores(settings.cores)  # before the loop's thread starts: threads inherit it
            yield OwnAgent(stack.enter_context(BackgroundLoop()), settings)


def _running(stack: contextlib.ExitStack, settings: EdgeSettings, named: str | None) -> RunningAgent | None:
    """The agent at the named address, or at the configured one if it answers at once."""
    listen = settings.grpc
    address = named or f"127.0.0.1:{listen.port}"
    client = stack.enter_context(
        Client(
            address,
            token=listen.token.get_secret_value() if listen.token else None,
            ca=listen.tls_cert,
            tls=listen.tls_cert is not None,
            connect_timeout=5.0 if named else PROBE_S,
        )
    )
    try:
        client.info()
    except AgentUnavailable:
        if named:
            raise
        return None
    return RunningAgent(client, address)
