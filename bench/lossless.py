"""`updraft bench lossless`: `draft` writes the cloud's own text, whatever the link and the company."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.errors import UnknownName
from updraft.generation import Generator
from updraft.modes import Mode, ModeSettings
from updraft_edge.agent import Agent

from .figures import Observed, observe, same_answers, summary
from .prompts import first_prompts
from .relay import Relay
from .report import Step, table_of
from .tiers import cloud_process, edge_settings, pin_apart, question, relay_to

__all__ = ["CASES", "GOALS", "LosslessBench", "all_same", "judged"]

# The goals of the pair SmolLM2 Q4_0 and Q4_1, for the cases in which no stream is cut.
GOALS: Final = {"cloud_passes_per_token": 0.35, "bytes_up_per_token": 24.0}
CASES: Final = ("plain", "relay", "together", "cut")
_CLOUD, _DRAFT = ModeSettings(mode=Mode.CLOUD), ModeSettings(mode=Mode.DRAFT)
_CUT_ROUND_TRIP_S: Final = 0.02  # long enough that a cut always loses something
_SETTLE_S: Final = 0.2
BASELINE: Final = "cloud (baseline)"

COLUMNS: Final = {
    "sampling": ("sampling", ""),
    "case": ("case", ""),
    "same": ("text as cloud", ""),
    "tokens": ("tokens", ""),
    "tokens_per_second": ("tok/s each", ".1f"),
    "cloud_passes_per_token": ("passes/tok", ".3f"),
    "cloud_positions_per_token": ("pos/tok", ".2f"),
    "accepted_share": ("acc.", ".0%"),
    "bytes_up_per_token": ("up B/tok", ".1f"),
    "tcp_up_per_token": ("TCP", ".1f"),
    "cuts": ("cuts", "d"),
    "reopened": ("reopened", "d"),
    "degraded": ("degraded", "d"),
}

Case = Callable[[], Awaitable[list[Observed]]]


@dataclass(frozen=True, slots=True)
class _Sampling:
    name: str
    temperature: float
    seed: int


@dataclass(frozen=True)
class LosslessBench:
    """`draft` against mode `cloud`: alone, over a slow link, in company, and with its stream cut.

    Attributes:
        prompts: how many; prompt number i is sampled with seed + i.
        round_trip_ms: of the case `relay`.
        together: answers at once in the case `together`.
        cuts: of the stream during each answer of the case `cut`, at random moments.
        ignore_end: write `tokens` tokens even where the model would end earlier.
    """

    prompts: int = 50
    tokens: int = 64
    temperature: float = 0.8
    seed: int = 1
    cases: tuple[str, ...] = CASES
    round_trip_ms: float = 40.0
    together: int = 8
    cuts: int = 2
    ignore_end: bool = False
    edge_model: str = "smollm2-q4_0"
    cloud_model: str = "smollm2"
    context: int = 1024
    pin: bool = True
    name = "lossless"

    def __post_init__(self) -> None:
        first_prompts(self.prompts)
        if unknown := set(self.cases) - set(CASES):
            raise UnknownName(f"There is no case {min(unknown)!r}; cases are {', '.join(CASES)}.")

    @property
    def _samplings(self) -> tuple[_Sampling, ...]:
        greedy, warm = _Sampling("greedy", 0.0, 0), _Sampling(f"T={self.temperature:g}", self.temperature, self.seed)
        return (greedy, warm) if self.temperature > 0.0 else (greedy,)

    @property
    def steps(self) -> int:
        return 1 + len(self._samplings) * self.prompts * (1 + len(self.cases))

    async def measure(self, step: Step) -> dict[str, Any]:
        _, cloud_cores = pin_apart(self.pin)
        rows: list[dict[str, Any]] = []
        async with cloud_process(self.cloud_model, context=self.context, cores=cloud_cores) as cloud:
            step("the cloud serves")
            for sampling in self._samplings:
                rows += await self._sampled(cloud.address, sampling, step)
        return {"rows": rows, "goals": judged(rows), "passed": all_same(rows)}

    async def _sampled(self, address: str, sampling: _Sampling, step: Step) -> list[dict[str, Any]]:
        """The reference and every case under one way of sampling."""
        run = _Run(self, address, sampling, step)
        async with run.agent() as (agent, _):
            reference = await run.one_by_one(agent, _CLOUD, "cloud")
        rows = [run.row(BASELINE, reference, reference)]
        for case in self.cases:
            rows.append(await run.case(case, reference))
        return rows

    def tables(self, results: dict[str, Any]) -> list[Table]:
        goals = "; ".join(
            f"{key.replace('_', ' ')} {goal['worst']:.3g}, goal {goal['limit']:g}: {'met' if goal['met'] else 'missed'}"
            for key, goal in results["goals"].items()
        )
        title = (
            f"draft against cloud, {self.prompts} prompts x up to {self.tokens} tokens, {self.edge_model} with "
            f"{self.cloud_model}. Worst case without cuts: {goals or 'not run'}"
        )
        return [table_of(title, results["rows"], COLUMNS)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        return False


class _Run:
    """One sampling's answers against one cloud."""

    def __init__(self, bench: LosslessBench, address: str, sampling: _Sampling, step: Step) -> None:
        self._bench, self._address, self._sampling, self._step = bench, address, sampling, step
        self._prompts = first_prompts(bench.prompts)

    async def case(self, name: str, reference: list[Observed]) -> dict[str, Any]:
        """The row of one case, measured with a fresh agent."""
        match name:
            case "plain":
                async with self.agent() as (agent, _):
                    return self.row(name, await self.one_by_one(agent, _DRAFT, name), reference)
            case "together":
                async with self.agent(sequences=self._bench.together) as (agent, _):
                    answers = await self._together(agent)
                return self.row(f"{self._bench.together} together", answers, reference)
            case "relay":
                return await self._over_relay(reference)
            case "cut":
                return await self._while_cut(reference)
        raise ValueError(f"no case {name!r}")

    @asynccontextmanager
    async def agent(
        self, *, sequences: int = 1, round_trip_s: float | None = None
    ) -> AsyncIterator[tuple[Agent, Relay | None]]:
        """An agent, linked straight to the cloud or over a relay, that has answered once."""
        async with AsyncExitStack() as stack:
            address, relay = self._address, None
            if round_trip_s is not None:
                relay = await stack.enter_async_context(relay_to(address, round_trip_s=round_trip_s))
                address = relay.address
            settings = edge_settings(
                self._bench.edge_model, address=address, context=self._bench.context, sequences=sequences
            )
            agent = await stack.enter_async_context(Agent(settings))
            await observe(agent, question("Hello.", _DRAFT, tokens=8))
            yield agent, relay

    async def answer(self, agent: Generator, settings: ModeSettings, number: int) -> Observed:
        sampling = self._sampling
        request = question(
            self._prompts[number],
            settings,
            tokens=self._bench.tokens,
            temperature=sampling.temperature,
            seed=sampling.seed + number,
            ignore_end=self._bench.ignore_end,
        )
        return await observe(agent, request)

    async def one_by_one(self, agent: Generator, settings: ModeSettings, label: str) -> list[Observed]:
        answers = []
        for number in range(len(self._prompts)):
            answers.append(await self.answer(agent, settings, number))
            self._step(f"{self._sampling.name}, {label}")
        return answers

    async def _together(self, agent: Generator) -> list[Observed]:
        places = asyncio.Semaphore(self._bench.together)

        async def one(number: int) -> Observed:
            async with places:
                answer = await self.answer(agent, _DRAFT, number)
            self._step(f"{self._sampling.name}, together")
            return answer

        return await asyncio.gather(*(one(number) for number in range(len(self._prompts))))

    async def _over_relay(self, reference: list[Observed]) -> dict[str, Any]:
        round_trip_s = self._bench.round_trip_ms / 1e3
        async with self.agent(round_trip_s=round_trip_s) as (agent, relay):
            assert relay is not None  # noqa: S101 (a round trip was given)
            await asyncio.sleep(2 * round_trip_s + _SETTLE_S)
            before = relay.bytes_up, relay.bytes_down
            answers = await self.one_by_one(agent, _DRAFT, "relay")
            await asyncio.sleep(2 * round_trip_s + _SETTLE_S)
            up, down = relay.bytes_up - before[0], relay.bytes_down - before[1]
        row = self.row(f"relay, {self._bench.round_trip_ms:g} ms", answers, reference)
        tokens = row["tokens"] or 1
        return row | {"tcp_up_per_token": up / tokens, "tcp_down_per_token": down / tokens}

    async def _while_cut(self, reference: list[Observed]) -> dict[str, Any]:
        chance = random.Random(self._bench.seed)
        answers: list[Observed] = []
        hits: list[int] = []
        async with self.agent(round_trip_s=_CUT_ROUND_TRIP_S) as (agent, relay):
            assert relay is not None  # noqa: S101 (a round trip was given)
            for number in range(len(self._prompts)):
                # Cuts make the answer longer; moments after its end would cut nothing.
                seconds = reference[number].completion.statistics.seconds
                moments = sorted(chance.uniform(0.0, seconds) for _ in range(self._bench.cuts))
                cutting = asyncio.create_task(_cut(relay, moments, hits))
                answers.append(await self.answer(agent, _DRAFT, number))
                cutting.cancel()
                self._step(f"{self._sampling.name}, cut")
        return self.row("stream cut", answers, reference) | {"cuts": sum(hits)}

    def row(self, case: str, answers: list[Observed], reference: list[Observed]) -> dict[str, Any]:
        identical = same_answers(answers, reference)
        return {
            "sampling": self._sampling.name,
            "case": case,
            "identical": identical,
            "total": len(answers),
            "same": f"{identical}/{len(answers)}",
            **summary(answers),
        }


async def _cut(relay: Relay, moments: list[float], hits: list[int]) -> None:
    """Cut the relay's connections at moments, in seconds from now; `hits` takes the number of connections cut."""
    before = 0.0
    for moment in moments:
        await asyncio.sleep(moment - before)
        before = moment
        hits.append(relay.cut())


def judged(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each goal with the worst figure of the cases without cuts; none if no such case was run."""
    drafted = [row for row in rows if row["case"] != BASELINE and "cuts" not in row]
    return {
        key: {"limit": limit, "worst": worst, "met": worst <= limit}
        for key, limit in GOALS.items()
        for worst in [max((row[key] for row in drafted), default=0.0)]
        if drafted
    }


def all_same(rows: list[dict[str, Any]]) -> bool:
    """Whether every answer of every case is the cloud's."""
    return all(row["identical"] == row["total"] for row in rows)
