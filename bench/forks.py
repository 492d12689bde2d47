"""`updraft bench forks`: what branches share, in positions computed and cells held, against separate requests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.engine import Engine, open_engine
from updraft.engine.loop import EngineLoop
from updraft.errors import ConfigError
from updraft.models.cache_size import position_bytes
from updraft.models.catalog import resolve
from updraft.noise import key_of
from updraft.sampling import SamplingParams
from updraft.strategies import (
    STRATEGIES,
    Budget,
    EnginePlaces,
    Forks,
    Outcome,
    Problem,
    parse_strategy,
    solve,
)
from updraft.strategies.prompts import ask
from updraft.verifiers import Claim, Judgement

from .cells import CellCounter
from .prompts import first_prompts
from .report import Step, table_of

__all__ = ["DrawnScores", "ForksBench", "Held", "measure_forks"]

_COLUMNS: Final = {
    "model": ("model", ""),
    "strategy": ("strategy", ""),
    "samples": ("samples", "d"),
    "tokens": ("drawn", "d"),
    "separate_prefilled": ("prefill", "d"),
    "forks_prefilled": ("by forks", "d"),
    "prefill_ratio": ("x less", ".1f"),
    "separate_mib": ("KV MiB", ".2f"),
    "forks_mib": ("copied", ".2f"),
    "shared_mib": ("shared", ".2f"),
    "same": ("same text", ""),
}


class DrawnScores:
    """A verifier of steps whose scores follow from the tokens and say nothing: it makes a search copy and prune."""

    name = "drawn"
    judges_steps = True
    false_positive_rate: float | None = None

    async def judge(self, claims: Sequence[Claim]) -> Sequence[Judgement]:
        return [Judgement(_score(claim.tokens)) for claim in claims]


def _score(tokens: Sequence[int]) -> float:
    key = 0
    for token in tokens:
        key = key_of(key ^ token)
    return (key >> 11) * 2.0**-53


@dataclass(frozen=True, slots=True)
class Held:
    """What one problem took.

    Attributes:
        positions: computed by passes; those that are not drawn tokens are prefill.
        cells: positions held by all sequences together, at peak.
        distinct: of these, positions that differ in what comes before them: what an engine whose sequences share cells
            would hold, at peak.
    """

    outcome: Outcome
    positions: int
    cells: int
    distinct: int


async def measure_forks(engine: Engine, problem: Problem, strategy: str, samples: int, *, share: bool) -> Held:
    """One problem worked through, by branches that share or as requests of their own, on as many sequences as
    samples."""
    counter = CellCounter(engine, samples)
    loop = EngineLoop(counter)
    places = EnginePlaces(counter, share=share)
    loop.start()
    try:
        forks = Forks(loop, places, problem.sampling)
        outcome = await solve(problem, parse_strategy(strategy), Budget(samples), forks, verifier=DrawnScores())
        await asyncio.wrap_future(loop.call(places.close))
        return Held(outcome, forks.work.positions, counter.cells, counter.distinct)
    finally:
        await asyncio.to_thread(loop.stop)


@dataclass(frozen=True)
class ForksBench:
    """The same strategies with the same seeds, by forks and as separate requests; figures are sums over the prompts,
    memory the largest of them.

    Attributes:
        strategies: those that search are led by scores that say nothing.
        tokens: of one answer, at most.
        step: text that ends a step.
    """

    models: tuple[str, ...] = ("smollm2-q4_0",)
    strategies: tuple[str, ...] = ("self-consistency", "particle-filtering", "beam-search", "a-star")
    samples: tuple[int, ...] = (4, 16)
    prompts: int = 3
    tokens: int = 64
    step: str = "\n"
    temperature: float = 0.8
    seed: int = 1
    context: int = 512
    threads: int | None = None
    name = "forks"

    def __post_init__(self) -> None:
        if unknown := set(self.strategies) - set(STRATEGIES):
            raise ConfigError(f"There is no strategy {min(unknown)!r}.", remedy=f"Choose from {', '.join(STRATEGIES)}.")
        if not self.models or not self.strategies or not self.samples:
            raise ConfigError("Give a model, a strategy and a number of samples.")
        first_prompts(self.prompts)

    @property
    def steps(self) -> int:
        return len(self.models) * len(self.strategies) * len(self.samples) * self.prompts

    async def measure(self, step: Step) -> dict[str, Any]:
        rows = []
        for model in self.models:
            for strategy in self.strategies:
                for samples in self.samples:
                    rows.append(await self._row(model, strategy, samples, step))
        return {"rows": rows, "passed": all(row["same_answers"] == row["prompts"] for row in rows)}

    async def _row(self, model: str, strategy: str, samples: int, step: Step) -> dict[str, Any]:
        options: dict[str, Any] = {} if self.threads is None else {"threads": self.threads}
        pairs: list[tuple[Held, Held]] = []
        for prompt in first_prompts(self.prompts):
            ways = []
            for share in (False, True):
                # A loop ends its engine, so each way has a fresh one.
                engine = await asyncio.to_thread(
                    lambda: open_engine(model, context=self.context, sequences=samples, **options)
                )
                ways.append(await measure_forks(engine, self._problem(engine, prompt), strategy, samples, share=share))
            pairs.append((ways[0], ways[1]))
            step(f"{model}, {strategy}, {samples} samples")
        return {"model": Path(model).name, "strategy": strategy, "samples": samples} | row_of(
            pairs, position_bytes(resolve(model))
        )

    def _problem(self, engine: Engine, prompt: str) -> Problem:
        sampling = SamplingParams(temperature=self.temperature, seed=self.seed)
        return Problem(ask(engine, prompt), prompt, sampling, max_tokens=self.tokens, step=self.step)

    def tables(self, results: dict[str, Any]) -> list[Table]:
        return [table_of(f"Separate requests against branches, prompts: {self.prompts}", results["rows"], _COLUMNS)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        return False


def row_of(pairs: Sequence[tuple[Held, Held]], cell_bytes: int) -> dict[str, Any]:
    """Separate requests beside forks: sums of work, peaks of memory."""
    separate, forks = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    tokens = sum(held.outcome.spent.tokens for held in forks)
    computed = {"separate": sum(held.positions for held in separate), "forks": sum(held.positions for held in forks)}
    prefilled = {way: positions - tokens for way, positions in computed.items()}
    cells = {
        "separate": max(held.cells for held in separate),
        "forks": max(held.cells for held in forks),
        "shared": max(held.distinct for held in forks),
    }
    same = sum(one.outcome.alternatives == other.outcome.alternatives for one, other in pairs)
    return {
        "prompts": len(pairs),
        "tokens": tokens,
        **{f"{way}_positions": positions for way, positions in computed.items()},
        **{f"{way}_prefilled": positions for way, positions in prefilled.items()},
        "prefill_ratio": prefilled["separate"] / max(1, prefilled["forks"]),
        **{f"{way}_cells": count for way, count in cells.items()},
        **{f"{way}_mib": count * cell_bytes / 2**20 for way, count in cells.items()},
        "same_answers": same,
        "same": f"{same}/{len(pairs)}",
    }
