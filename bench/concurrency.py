"""`updraft bench concurrency`: many clients of one agent, and many agents of one cloud, each with its own text."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.client import AsyncClient
from updraft.config import ListenSettings
from updraft.errors import ConfigError
from updraft.generation import Completion
from updraft.modes import Mode, ModeSettings
from updraft_edge.agent import Agent
from updraft_edge.server import EdgeServer

from .figures import observe
from .prompts import PROMPTS, first_prompts
from .report import Step, table_of
from .tiers import cloud_process, edge_settings, pin_apart, question
from .variants import ANY_PAIR

__all__ = ["ConcurrencyBench", "Question", "compared"]

COLUMNS: Final = {
    "who": ("who", ""),
    "same": ("same text as alone", ""),
    "degraded": ("degraded", ""),
    "alone_tokens_per_second": ("tok/s, one after the other (baseline)", ".1f"),
    "together_tokens_per_second": ("tok/s, all at once", ".1f"),
    "modes": ("modes", ""),
}


@dataclass(frozen=True, slots=True)
class Question:
    """What one client asks."""

    prompt: str
    mode: Mode
    temperature: float
    seed: int


Ask = Callable[[Question], Awaitable[Completion]]


@dataclass(frozen=True)
class ConcurrencyBench:
    """Every client asks alone first, then all ask at once, `rounds` times.

    Attributes:
        clients: programs that use the SDK, each with a connection of its own, against one agent.
        agents: agents in this process, each with an engine of its own, against one cloud.
        agent_context: context of each of those, tokens; memory grows with agents times this.
    """

    clients: int = 8
    agents: int = 16
    tokens: int = 48
    rounds: int = 2
    temperature: float = 0.8
    edge_model: str = "smollm2-q4_0"
    cloud_model: str = "smollm2"
    context: int = 1024
    agent_context: int = 512
    pin: bool = True
    name = "concurrency"

    def __post_init__(self) -> None:
        for name in ("clients", "agents"):
            if not 0 <= getattr(self, name) <= len(PROMPTS):
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 0 to {len(PROMPTS)}.")
        if not self.clients and not self.agents:
            raise ConfigError("Neither clients nor agents are asked for.", remedy="Give --clients or --agents.")
        if self.rounds < 1:
            raise ConfigError(f"rounds is {self.rounds}; it must be at least 1.")

    @property
    def steps(self) -> int:
        return 1 + (1 + self.rounds) * (self.clients + self.agents)

    async def measure(self, step: Step) -> dict[str, Any]:
        _, cores = pin_apart(self.pin)
        sequences = max(self.agents, self.clients, 1)
        async with cloud_process(self.cloud_model, context=self.context, sequences=sequences, cores=cores) as cloud:
            step("the cloud serves")
            rows = []
            if self.clients:
                rows.append(await self._clients(cloud.address, step))
            if self.agents:
                rows.append(await self._agents(cloud.address, step))
        passed = all(row["identical"] == row["total"] and not row["degraded"] for row in rows)
        return {"rows": rows, "peak_memory_mib": _peak_memory_mib(), "passed": passed}

    async def _clients(self, address: str, step: Step) -> dict[str, Any]:
        """SDK clients over gRPC against one agent, in every mode."""
        settings = edge_settings(
            self.edge_model,
            address=address,
            context=self.context,
            sequences=self.clients,
            http=ListenSettings(port=0),
            grpc=ListenSettings(port=0),
        )
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(EdgeServer(settings))
            clients = [await stack.enter_async_context(AsyncClient(server.grpc_address)) for _ in range(self.clients)]
            asks = [_client_asks(client, self.tokens) for client in clients]
            row = await self._compare(asks, ANY_PAIR, step, "clients")
        return {"who": f"{self.clients} clients, 1 agent", **row}

    async def _agents(self, address: str, step: Step) -> dict[str, Any]:
        """Agents against one cloud, in the modes that need it."""
        settings = edge_settings(self.edge_model, address=address, context=self.agent_context, sequences=1, threads=1)
        async with AsyncExitStack() as stack:
            agents = [await stack.enter_async_context(Agent(settings)) for _ in range(self.agents)]
            asks = [_agent_asks(agent, self.tokens) for agent in agents]
            row = await self._compare(asks, (Mode.DRAFT, Mode.CLOUD, Mode.SPAN), step, "agents")
        return {"who": f"{self.agents} agents, 1 cloud", **row}

    async def _compare(self, asks: Sequence[Ask], modes: Sequence[Mode], step: Step, label: str) -> dict[str, Any]:
        """Alone, then all at once; half of the questions greedy, half at the temperature."""
        prompts = first_prompts(len(asks))
        cycled = itertools.cycle(modes)
        questions = [
            Question(prompt, next(cycled), (0.0, self.temperature)[number // len(modes) % 2], number)
            for number, prompt in enumerate(prompts)
        ]

        async def one(number: int, how: str) -> Completion:
            completion = await asks[number](questions[number])
            step(f"{label}, {how}")
            return completion

        started = time.perf_counter()
        alone = [await one(number, "alone") for number in range(len(asks))]
        alone_s = time.perf_counter() - started
        together: list[list[Completion]] = []
        started = time.perf_counter()
        for _ in range(self.rounds):
            together.append(await asyncio.gather(*(one(number, "all at once") for number in range(len(asks)))))
        together_s = time.perf_counter() - started
        return {
            "modes": ", ".join(modes),
            **compared(alone, together),
            "alone_tokens_per_second": _tokens(alone) / alone_s,
            "together_tokens_per_second": sum(map(_tokens, together)) / together_s,
        }

    def tables(self, results: dict[str, Any]) -> list[Table]:
        title = (
            f"{self.edge_model} and {self.cloud_model}, up to {self.tokens} tokens each, {self.rounds} rounds at once, "
            f"half greedy, half at temperature {self.temperature:g}; rates with prompts and first tokens; "
            f"peak memory of the agents' process {results['peak_memory_mib']} MiB"
        )
        return [table_of(title, results["rows"], COLUMNS)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        return False


def compared(alone: Sequence[Completion], together: Sequence[Sequence[Completion]]) -> dict[str, Any]:
    """How many answers of the rounds have the text and tokens of the same question asked alone."""
    pairs = [(one, mine) for answers in together for one, mine in zip(answers, alone, strict=True)]
    identical = sum(one.token_ids == mine.token_ids and one.text == mine.text for one, mine in pairs)
    return {
        "identical": identical,
        "total": len(pairs),
        "same": f"{identical}/{len(pairs)}",
        "degraded": sum(one.degraded for answers in [alone, *together] for one in answers),
    }


def _client_asks(client: AsyncClient, tokens: int) -> Ask:
    async def ask(asked: Question) -> Completion:
        return await client.generate(
            messages=[{"role": "user", "content": asked.prompt}],
            mode=asked.mode,
            max_tokens=tokens,
            temperature=asked.temperature,
            seed=asked.seed,
        )

    return ask


def _agent_asks(agent: Agent, tokens: int) -> Ask:
    async def ask(asked: Question) -> Completion:
        request = question(
            asked.prompt,
            ModeSettings(mode=asked.mode),
            tokens=tokens,
            temperature=asked.temperature,
            seed=asked.seed,
        )
        return (await observe(agent, request)).completion

    return ask


def _tokens(completions: Sequence[Completion]) -> int:
    return sum(completion.statistics.tokens for completion in completions)


def _peak_memory_mib() -> int | None:
    """Largest resident size of this process so far; None where the system does not say."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
