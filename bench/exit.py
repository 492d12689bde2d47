"""`updraft bench exit`: early exits with a cloud behind them, against the cloud alone and the edge alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.config import StagedSettings
from updraft.engine import StagedEngine, open_engine
from updraft.errors import ConfigError
from updraft.exits.carry import CARRIES, Carry
from updraft.modes import Mode, ModeSettings, parse_settings
from updraft.sampling import SamplingParams
from updraft_edge.agent import Agent

from .exit_figures import PUBLISHED, Judge, exit_row
from .figures import Observed, observe
from .prompts import first_prompts
from .report import Step, table_of
from .tiers import chat_tokens, cloud_process, edge_settings, pin_apart, question, relay_to

__all__ = ["COSTS", "QUALITY", "ExitBench", "exact"]

_EXACT: Final[Carry] = "float32"
_NAME: Final = {"variant": ("variant", ""), "threshold": ("threshold", ".2g")}
QUALITY: Final = _NAME | {
    "early_share": ("leave early", ".1%"),
    "at": ("at layer", ""),
    "requests_per_token": ("asked", ".1%"),
    "agreement": ("agree with full model", ".1%"),
    "nats_per_token": ("nats/token to it", ".3f"),
    "same": ("text as whole", ""),
    "tokens_per_second": ("tokens/s", ".1f"),
    "first_token_ms": ("first token ms", ".0f"),
}
COSTS: Final = _NAME | {
    "cloud_layers_per_token": ("cloud layers/token", ".1f"),
    "compute_saved": ("cloud compute saved", ".1%"),
    "requests_per_token": ("requests/token", ".3f"),
    "bytes_up_per_token": ("bytes up/token", ".0f"),
    "hidden_bytes_up_per_token": ("of these hidden states", ".0f"),
    "bytes_down_per_token": ("bytes down/token", ".0f"),
}


@dataclass(slots=True)
class _Lane:
    """One way of answering, with what it answered."""

    variant: str
    carry: Carry
    settings: ModeSettings
    threshold: float | None = None
    answers: list[Observed] = field(default_factory=list)


@dataclass(frozen=True)
class ExitBench:
    """Every threshold with hidden states and with token ids going up; each precision in a pair of its own.

    Attributes:
        model: a staged model; the edge loads it up to its deepest exit.
        carries: precisions in which hidden states go up. The pair rounds them at the split, so that at threshold 1
            the text must be that of the same pair's cloud alone.
        split: stage after which they go up.
        criterion: what is compared with the threshold: probability or entropy, or with `calibrated` any.
        round_trip_ms: of the emulated link.
    """

    model: str = "smollm2-staged"
    thresholds: tuple[float, ...] = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)
    carries: tuple[Carry, ...] = CARRIES
    split: int = 0
    criterion: str = "probability"
    calibrated: bool = False
    prompts: int = 8
    tokens: int = 64
    round_trip_ms: float = 20.0
    temperature: float = 0.0
    seed: int = 0
    context: int = 1024
    pin: bool = True
    name = "exit"

    def __post_init__(self) -> None:
        first_prompts(self.prompts)
        if not self.thresholds or not all(0.0 <= threshold <= 1.0 for threshold in self.thresholds):
            raise ConfigError(f"thresholds are {self.thresholds}; give at least one, each from 0 to 1.")
        if unknown := set(self.carries) - set(CARRIES):
            raise ConfigError(f"There is no precision {min(unknown)!r}; there are {', '.join(CARRIES)}.")
        for carry in self._pairs:
            self._lanes(carry)

    @property
    def _pairs(self) -> tuple[Carry, ...]:
        """The model as it is, which is the baseline, and those that round."""
        return (_EXACT, *(carry for carry in dict.fromkeys(self.carries) if carry != _EXACT))

    @property
    def steps(self) -> int:
        return len(self._pairs) + 1 + self.prompts * sum(len(self._lanes(carry)) for carry in self._pairs)

    def _lanes(self, carry: Carry) -> list[_Lane]:
        """The cloud alone, then every threshold; edge and token ids need the model as it is only."""
        lanes = [_Lane(f"cloud, {carry}" if carry != _EXACT else "cloud (baseline)", carry, _settings(Mode.CLOUD))]
        for threshold in dict.fromkeys(self.thresholds):
            exits = {"threshold": threshold, "criterion": self.criterion, "calibrated": self.calibrated}
            if carry == _EXACT:
                lanes.append(_Lane("edge alone", carry, _settings(Mode.EDGE, **exits), threshold))
                lanes.append(_Lane("token ids", carry, _settings(Mode.EXIT, carry="tokens", **exits), threshold))
            if carry in self.carries:
                hidden = _settings(Mode.EXIT, carry="hidden", dtype=carry, **exits)
                lanes.append(_Lane(f"hidden {carry}", carry, hidden, threshold))
        return lanes

    async def measure(self, step: Step) -> dict[str, Any]:
        engine = open_engine(self.model, context=self.context, sequences=1)
        try:
            if not isinstance(engine, StagedEngine) or not any(stage.blocks for stage in engine.stages):
                raise ConfigError(f"{self.model} has no exits; the bench needs a staged model.")
            exits = [number for number, stage in enumerate(engine.stages) if stage.blocks]
            edge_cores, cloud_cores = pin_apart(self.pin)
            pairs = [await self._pair(carry, exits[-1], cloud_cores, step) for carry in self._pairs]
            step("the full model reads the answers")
            rows = self._rows(pairs, Judge(engine), [chat_tokens(engine, text) for text in first_prompts(self.prompts)])
            facts = {
                "layers": engine.info.layers,
                "exits": [engine.stages[number].last for number in exits],
                "quantisation": engine.info.quantisation,
            }
        finally:
            engine.shutdown()
        cores = {"edge_cores": edge_cores, "cloud_cores": cloud_cores}
        return {**cores, **facts, "rows": rows, "published": dict(PUBLISHED), "passed": exact(rows)}

    async def _pair(self, carry: Carry, deepest: int, cores: tuple[int, ...] | None, step: Step) -> list[_Lane]:
        """All lanes of a pair of tiers, prompt by prompt in turns."""
        lanes = self._lanes(carry)
        staged = StagedSettings(split=self.split, carry=carry)
        cloud = cloud_process(self.model, context=self.context, sequences=2, cores=cores, staged=staged)
        async with cloud, relay_to(cloud.address, round_trip_s=self.round_trip_ms / 1e3) as relay:
            step(f"the cloud serves, {carry}")
            edge = staged.model_copy(update={"last_stage": deepest})
            settings = edge_settings(self.model, address=relay.address, context=self.context, sequences=1, staged=edge)
            async with Agent(settings) as agent:
                for lane in lanes:
                    await self._answer(agent, lane, "Hello.", min(8, self.tokens))  # connects, and warms the caches
                for number, prompt in enumerate(first_prompts(self.prompts)):
                    turn = number % len(lanes)
                    for lane in [*lanes[turn:], *lanes[:turn]]:
                        lane.answers.append(await self._answer(agent, lane, prompt, self.tokens))
                        step(f"{carry}, {lane.variant}")
                await asyncio.sleep(2 * self.round_trip_ms / 1e3)  # what a session's end sends is through by then
        return lanes

    async def _answer(self, agent: Agent, lane: _Lane, prompt: str, tokens: int) -> Observed:
        request = question(
            prompt, lane.settings, tokens=tokens, temperature=self.temperature, seed=self.seed, ignore_end=True
        )
        return await observe(agent, request)

    def _rows(self, pairs: Sequence[list[_Lane]], judge: Judge, prompts: list[list[int]]) -> list[dict[str, Any]]:
        params = SamplingParams(temperature=self.temperature, seed=self.seed)
        rows = []
        for lanes in pairs:
            for lane in lanes:
                read = zip(prompts, lane.answers, strict=True)
                opinions = [judge.opinion(prompt, answer.completion.token_ids, params) for prompt, answer in read]
                row = exit_row(lane.answers, lanes[0].answers, opinions)
                at = ", ".join(f"{layer}: {share:.0%}" for layer, share in row["exits"].items())
                about = {"variant": lane.variant, "mode": lane.settings.mode.value, "carry": lane.carry}
                rows.append({**about, "threshold": lane.threshold, "at": at, **row})
        return sorted(rows, key=lambda row: row["mode"] != Mode.CLOUD)

    def tables(self, results: dict[str, Any]) -> list[Table]:
        rows = results["rows"]
        title = (
            f"{self.model} ({results['quantisation']}), exits after {results['exits']} of {results['layers']} layers, "
            f"hidden states of stage {self.split}; {self.prompts} prompts x {self.tokens} tokens, temperature "
            f"{self.temperature:g}, {self.round_trip_ms:g} ms round trip; baselines: cloud alone, edge alone"
        )
        published = dict.fromkeys(rows[0]) | results["published"]
        return [table_of(title, [*rows, published], QUALITY), table_of("What they cost", [*rows, published], COSTS)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        from .exit_plot import plot_exit

        subtitle = f"{self.model}, {self.prompts} x {self.tokens} tokens, {self.round_trip_ms:g} ms round trip"
        plot_exit(results, path, subtitle=subtitle)
        return True


def exact(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether every answer at threshold 1 is the text of the same staged model run whole, and none was degraded."""
    asked = [row for row in rows if row["mode"] == Mode.EXIT]
    whole = [row for row in asked if row["threshold"] == 1.0]
    return all(row["identical"] == row["answers"] for row in whole) and not any(row["degraded"] for row in asked)


def _settings(mode: Mode, **exits: Any) -> ModeSettings:
    return parse_settings({"mode": mode, "exit": exits})
