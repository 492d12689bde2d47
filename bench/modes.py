"""`updraft bench modes`: every mode over links of several round trips, with the cloud alone as the baseline."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.errors import ConfigError
from updraft.modes import Mode
from updraft_edge.agent import Agent

from .figures import Observed, observe, same_answers, summary
from .prompts import first_prompts
from .relay import Relay
from .report import Step, table_of
from .tiers import cloud_process, edge_settings, pin_apart, question, relay_to
from .trace import Trace
from .variants import ANY_PAIR, Variant, variants

__all__ = ["COST", "SPEED", "ModesBench", "against_cloud"]

_SETTLE_S: Final = 0.2  # beyond two round trips: what a session's end sends is through by then

_LANE: Final = {"round_trip_ms": ("RTT ms", "g"), "variant": ("mode", "")}
SPEED: Final = _LANE | {
    "tokens_per_second": ("tokens/s", ".1f"),
    "vs_cloud": ("x cloud", ".2f"),
    "first_token_ms": ("first token ms", ".0f"),
    "wall_ms_per_token": ("wall ms/token", ".1f"),
    "gap_p50_ms": ("gap p50 ms", ".1f"),
    "gap_p99_ms": ("p99 ms", ".0f"),
    "gap_max_ms": ("max ms", ".0f"),
    "same": ("text as cloud", ""),
    "degraded": ("degraded", "d"),
}
COST: Final = _LANE | {
    "cloud_passes_per_token": ("cloud passes/token", ".3f"),
    "cloud_positions_per_token": ("positions/token", ".2f"),
    "cloud_share": ("cloud share", ".0%"),
    "accepted_share": ("accepted", ".0%"),
    "bytes_up_per_token": ("bytes up/token", ".1f"),
    "tcp_up_per_token": ("over TCP", ".1f"),
    "bytes_down_per_token": ("down/token", ".1f"),
    "tcp_down_per_token": ("over TCP", ".1f"),
}


@dataclass(slots=True)
class _Lane:
    """A variant with an agent and a relay of its own, so that learning and bytes are its own too."""

    variant: Variant
    agent: Agent
    relay: Relay
    answers: list[Observed] = field(default_factory=list)
    before: tuple[int, int] = (0, 0)

    def bytes(self) -> tuple[int, int]:
        return self.relay.bytes_up, self.relay.bytes_down

    def row(self, round_trip_ms: float) -> dict[str, Any]:
        measured = summary(self.answers)
        up, down = (now - then for now, then in zip(self.bytes(), self.before, strict=True))
        tokens = measured["tokens"] or 1
        return {
            "round_trip_ms": round_trip_ms,
            "variant": self.variant.name,
            "mode": self.variant.mode.value,
            **measured,
            "tcp_up_per_token": up / tokens,
            "tcp_down_per_token": down / tokens,
        }


@dataclass(frozen=True)
class ModesBench:
    """Modes take turns prompt by prompt, each agent alone on the link while it answers.

    Attributes:
        round_trips_ms: of the emulated link; half each way.
        stops: stop rules of `draft` to compare, as RULE or RULE:VALUE.
        bandwidth_mbps: of the link in each direction; no limit when None.
        trace, trace_name: a file with bandwidth over time instead, and which of its traces.
        pin: keep the tiers on different cores.
    """

    round_trips_ms: tuple[float, ...] = (0.0, 20.0, 40.0, 80.0)
    modes: tuple[str, ...] = ANY_PAIR
    stops: tuple[str, ...] = ()
    prompts: int = 8
    tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    bandwidth_mbps: float | None = None
    trace: Path | None = None
    trace_name: str | None = None
    edge_model: str = "smollm2-q4_0"
    cloud_model: str = "smollm2"
    context: int = 1024
    pin: bool = True
    name = "modes"

    def __post_init__(self) -> None:
        if not self.round_trips_ms or min(self.round_trips_ms) < 0.0:
            raise ConfigError(f"round trips are {self.round_trips_ms}; give at least one, none below 0.")
        first_prompts(self.prompts)
        self._variants()

    @property
    def steps(self) -> int:
        return 1 + len(self.round_trips_ms) * len(self._variants()) * self.prompts

    def _variants(self) -> list[Variant]:
        return variants(self.modes, self.stops)

    async def measure(self, step: Step) -> dict[str, Any]:
        trace = Trace.read(self.trace, self.trace_name) if self.trace else None
        edge_cores, cloud_cores = pin_apart(self.pin)
        rows: list[dict[str, Any]] = []
        async with cloud_process(self.cloud_model, context=self.context, cores=cloud_cores) as cloud:
            step("the cloud serves")
            for round_trip_ms in self.round_trips_ms:
                rows += await self._over_link(cloud.address, round_trip_ms, trace, step)
        return {"edge_cores": edge_cores, "cloud_cores": cloud_cores, "rows": rows}

    async def _over_link(
        self, address: str, round_trip_ms: float, trace: Trace | None, step: Step
    ) -> list[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            lanes = [await self._lane(stack, variant, address, round_trip_ms, trace) for variant in self._variants()]
            await self._settle(round_trip_ms)
            for lane in lanes:
                lane.before = lane.bytes()
            for number, prompt in enumerate(first_prompts(self.prompts)):
                turn = number % len(lanes)
                for lane in [*lanes[turn:], *lanes[:turn]]:
                    lane.answers.append(await self._answer(lane, prompt, self.tokens))
                    step(f"{round_trip_ms:g} ms, {lane.variant.name}")
            await self._settle(round_trip_ms)
            return against_cloud([lane.row(round_trip_ms) for lane in lanes], [lane.answers for lane in lanes])

    async def _lane(
        self, stack: AsyncExitStack, variant: Variant, address: str, round_trip_ms: float, trace: Trace | None
    ) -> _Lane:
        bandwidth_bps = None if self.bandwidth_mbps is None else self.bandwidth_mbps * 1e6
        relay = await stack.enter_async_context(
            relay_to(address, round_trip_s=round_trip_ms / 1e3, bandwidth_bps=bandwidth_bps, trace=trace)
        )
        model = variant.edge_model or self.edge_model
        settings = edge_settings(model, address=relay.address, context=self.context, sequences=1)
        agent = await stack.enter_async_context(Agent(settings))
        lane = _Lane(variant, agent, relay)
        await self._answer(lane, "Hello.", min(16, self.tokens))  # connects, and warms the caches
        return lane

    async def _answer(self, lane: _Lane, prompt: str, tokens: int) -> Observed:
        request = question(
            prompt,
            lane.variant.settings,
            tokens=tokens,
            temperature=self.temperature,
            seed=self.seed,
            ignore_end=True,
        )
        return await observe(lane.agent, request)

    async def _settle(self, round_trip_ms: float) -> None:
        await asyncio.sleep(2 * round_trip_ms / 1e3 + _SETTLE_S)

    def tables(self, results: dict[str, Any]) -> list[Table]:
        places = f"edge on cores {results['edge_cores']}, cloud on {results['cloud_cores']}"
        shared = "both tiers on the same cores" if results["edge_cores"] is None else places
        title = (
            f"{self._pair()} on one machine ({shared}), {self.prompts} prompts x "
            f"{self.tokens} tokens, temperature {self.temperature:g}; baseline: mode cloud at the same round trip"
        )
        rows = results["rows"]
        return [table_of(title, rows, SPEED), table_of("What they ask of cloud and link", rows, COST)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        from .plot import plot_modes

        plot_modes(results["rows"], path, subtitle=self._subtitle())
        return True

    def _pair(self) -> str:
        return f"{self.edge_model} and {self.cloud_model}"

    def _subtitle(self) -> str:
        link = "" if self.bandwidth_mbps is None else f", {self.bandwidth_mbps:g} Mbit/s"
        link += "" if self.trace is None else f", trace {self.trace_name or self.trace.stem}"
        sampling = "greedy" if self.temperature == 0.0 else f"temperature {self.temperature:g}"
        return f"{self._pair()}, {self.prompts} x {self.tokens} tokens, {sampling}{link}"


def against_cloud(rows: list[dict[str, Any]], answers: list[list[Observed]]) -> list[dict[str, Any]]:
    """Rows of one round trip with their rate over mode cloud's, and how many of their texts are the cloud's."""
    place = next((number for number, row in enumerate(rows) if row["mode"] == Mode.CLOUD), None)
    for row, own in zip(rows, answers, strict=True):
        baseline = None if place is None else rows[place]["tokens_per_second"]
        row["vs_cloud"] = row["tokens_per_second"] / baseline if baseline else None
        row["same_as_cloud"] = None if place is None else same_answers(own, answers[place])
        row["same"] = None if place is None else f"{row['same_as_cloud']}/{len(own)}"
    return rows
