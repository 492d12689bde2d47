"""`updraft bench ladder`: what each rung of the ladder agrees with, and what it costs, against the full model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table

from updraft.engine import open_engine
from updraft.engine.base import Engine, StagedEngine
from updraft.errors import ConfigError, MissingExtra
from updraft.models import model_info
from updraft.models.catalog import resolve
from updraft.train.write import read_prompts

from .figures import Spread
from .judged import Contestant, Reference, Tally, Text, write_texts
from .prompts import first_prompts
from .report import Step, table_of
from .tiers import chat_tokens

__all__ = ["GOAL", "LadderBench", "costs", "goal"]

GOAL: Final = {"agreement": 0.45, "cost": 0.45}  # at least, of positions; at most, of the full model's time a token
LLAMA, ONNX = "llama.cpp", "ONNX Runtime"
_WRITERS = 8  # texts that the cloud's model writes at once
_WARM_UP_TOKENS = 4

COLUMNS: Final = {
    "rung": ("model", ""),
    "library": ("on", ""),
    "layers": ("layers", "d"),
    "agreement": ("agrees, greedy", ".1%"),
    "acceptance": ("accepted, sampled", ".1%"),
    "same_best": ("same best, sampled", ".1%"),
    "divergence": ("KL, nats", ".3f"),
    "rate": ("tokens/s", ".1f"),
    "cost": ("x full", ".2f"),
    "cost_of_cloud": ("x cloud", ".2f"),
}


@dataclass(frozen=True)
class LadderBench:
    """The cloud's model writes answers, greedy and sampled; every other model is asked for each of their tokens.

    Attributes:
        prompts: how many, from the built-in ones or evenly from `prompt_file`.
        prompt_file: .jsonl with `prompt`, `question` or `turns`; held-out ones for figures that mean something.
        tokens: of the longest answer.
        temperature: of the sampled answers.
        seeds: sampled answers to a prompt, with the seeds 0, 1, ...
        cloud_model: what writes the answers.
        models: GGUF models; the first is the full one that the others' time is compared with.
        staged: a staged model, judged whole and at each exit; left out where its extra is missing, or when empty.
        rounds: of timing; in each round every model decodes `speed_tokens` tokens, one after the other.
        threads: of each engine.
    """

    prompts: int = 16
    prompt_file: Path | None = None
    tokens: int = 64
    temperature: float = 0.8
    seeds: int = 2
    rounds: int = 9
    speed_tokens: int = 32
    cloud_model: str = "smollm2"
    models: tuple[str, ...] = ("smollm2-q4_0", "smollm2-student", "smollm2-exit8", "smollm2-exit16")
    staged: str = "smollm2-staged"
    context: int = 1024
    threads: int = 1
    name = "ladder"

    def __post_init__(self) -> None:
        for name in ("prompts", "tokens", "seeds", "rounds", "speed_tokens", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not 0.0 < self.temperature <= 100.0:
            raise ConfigError(
                f"temperature is {self.temperature:g}; greedy answers are judged besides, so give above 0."
            )
        if not self.models:
            raise ConfigError("No model is asked for.", remedy="Give --model, the full one first.")
        if self.prompt_file is None:
            first_prompts(self.prompts)

    @property
    def steps(self) -> int:
        return 1 + 2 * self.prompts * (1 + self.seeds) + self.rounds

    async def measure(self, step: Step) -> dict[str, Any]:
        with ExitStack() as stack:
            cloud = self._engine(stack, self.cloud_model, sequences=_WRITERS)
            contestants, left_out = self._contestants(stack)
            step("models loaded")
            texts = self._texts(cloud)
            write_texts(cloud, texts, self.tokens, done=lambda text: step(f"wrote to prompt {text.number + 1}"))
            judge = Contestant(self.cloud_model, LLAMA, cloud)  # now that the writers' sequences are free
            everyone = [judge, *contestants]
            tallies, own = _judge(judge, everyone, texts, step)
            rounds = self._time(everyone, max(texts, key=lambda text: len(text.answer)), step)
        rows = [
            _row(one, tallies[number], rounds[number], self._weight_bytes(one)) for number, one in enumerate(everyone)
        ]
        costs(rows)
        rows[0]["rung"] += " (cloud)"
        return {
            "rows": rows,
            "texts": len(texts),
            "positions": {"greedy": tallies[0][0].positions, "sampled": tallies[0][1].positions},
            "left_out": left_out,
            "goal": GOAL,
            "goal_met": goal(rows),
            "passed": own,
        }

    def _engine(self, stack: ExitStack, model: str, *, sequences: int = 1) -> Engine:
        engine = open_engine(model, context=self.context, sequences=sequences, threads=self.threads)
        stack.callback(engine.shutdown)
        return engine

    def _contestants(self, stack: ExitStack) -> tuple[list[Contestant], list[str]]:
        """All models but the cloud's, and why some were left out."""
        found = [Contestant(name, LLAMA, self._engine(stack, name)) for name in self.models]
        if not self.staged:
            return found, []
        try:
            sequences = 1 + len(_exit_stages(self.staged))
            engine = self._engine(stack, self.staged, sequences=sequences)
        except MissingExtra as error:
            return found, [f"{self.staged}: {error.message} ({error.remedy})"]
        if not isinstance(engine, StagedEngine):
            raise ConfigError(
                f"{self.staged} is not a staged model.", remedy="Name a folder that `models export` made."
            )
        found.append(Contestant(self.staged, ONNX, engine))
        for depth, stage in enumerate(engine.stages):
            if stage.blocks:
                found.append(Contestant(f"{self.staged}, exit {stage.last}", ONNX, engine, depth=depth))
        return found, []

    def _texts(self, cloud: Engine) -> list[Text]:
        """The answers to be written: for each prompt a greedy one and the sampled ones."""
        prompts = [chat_tokens(cloud, prompt) for prompt in self._prompts()]
        longest = max(map(len, prompts))
        room = longest + max(self.tokens, self.speed_tokens)
        if room > self.context:
            raise ConfigError(
                f"The longest prompt has {longest} tokens; with its answer it takes a context of {room}.",
                remedy="Give a larger --context, fewer --tokens, or other prompts.",
            )
        how = [(0.0, 0), *((self.temperature, seed) for seed in range(self.seeds))]
        return [Text(number, prompt, *drawn) for number, prompt in enumerate(prompts) for drawn in how]

    def _prompts(self) -> Sequence[str]:
        if self.prompt_file is None:
            return first_prompts(self.prompts)
        found = read_prompts(self.prompt_file)
        if len(found) < self.prompts:
            raise ConfigError(f"{self.prompt_file} has {len(found)} prompts; {self.prompts} were asked for.")
        return [found[number * len(found) // self.prompts] for number in range(self.prompts)]

    def _time(self, everyone: Sequence[Contestant], text: Text, step: Step) -> list[list[float]]:
        """Seconds a token of each model, round by round; they take turns, each round beginning with another."""
        for one in everyone:
            one.decode(text, _WARM_UP_TOKENS)
        rounds: list[list[float]] = [[] for _ in everyone]
        for number in range(self.rounds):
            for place in range(len(everyone)):
                which = (number + place) % len(everyone)
                everyone[which].ready(text)
                started = time.perf_counter()
                everyone[which].decode(text, self.speed_tokens)
                rounds[which].append((time.perf_counter() - started) / self.speed_tokens)
            step(f"round {number + 1} of timing")
        return rounds

    def _weight_bytes(self, one: Contestant) -> int | None:
        """Of the file of a GGUF model."""
        return model_info(resolve(one.name)).weight_bytes if one.library == LLAMA else None

    def tables(self, results: dict[str, Any]) -> list[Table]:
        where = f"prompts of {self.prompt_file.name}" if self.prompt_file else "built-in prompts"
        (greedy, sampled), cloud = results["positions"].values(), Path(self.cloud_model).name
        title = (
            f"Agreement with {cloud}'s own text: {self.prompts} {where}, {greedy} greedy positions and "
            f"{sampled} at T = {self.temperature:g} ({self.seeds} seeds), same noise. Costs are times a token, of the "
            f"full model's on the same library and of the cloud's: {self.threads} threads, models taking turns, "
            f"{self.rounds} x {self.speed_tokens} tokens. Goal of {GOAL['agreement']:.0%} at {GOAL['cost']:g} of the "
            f"cost: {results['goal_met'] or 'missed'}"
        )
        shown = table_of(title, results["rows"], COLUMNS)
        shown.columns[0].no_wrap = shown.columns[1].no_wrap = True
        if results["left_out"]:
            shown.caption = "left out: " + "; ".join(results["left_out"])
        return [shown]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        from .ladder_plot import plot_ladder

        plot_ladder(
            results["rows"],
            path,
            subtitle=f"{self.prompts} prompts, up to {self.tokens} tokens, {Path(self.cloud_model).name}",
        )
        return True


def costs(rows: list[dict[str, Any]]) -> None:
    """Add each model's time a token over the cloud's and over the full model's of its library, medians of the rounds.

    The full model of a library is its first row after the cloud's.
    """
    cloud = rows[0]
    for row in rows:
        full = next(other for other in rows[1:] if other["library"] == row["library"])
        for name, other in (("cost", full), ("cost_of_cloud", cloud)):
            ratios = [mine / its for mine, its in zip(row["rounds"], other["rounds"], strict=True)]
            row[name] = float(np.median(ratios))


def goal(rows: Sequence[dict[str, Any]]) -> str | None:
    """The rung with the highest agreement among those that meet the goal; None if none does."""
    met = [row for row in rows if row["agreement"] >= GOAL["agreement"] and row["cost"] <= GOAL["cost"]]
    return max(met, key=lambda row: row["agreement"])["rung"] if met else None


def _exit_stages(staged: str) -> list[int]:
    from updraft.models.staged import read_manifest

    path = resolve(staged)
    return [part.stage for part in read_manifest(path).exits] if path.is_dir() else []


def _judge(
    judge: Contestant, everyone: Sequence[Contestant], texts: Sequence[Text], step: Step
) -> tuple[list[tuple[Tally, Tally]], bool]:
    """A tally of greedy and one of sampled texts for each model; whether the writer repeats its own tokens."""
    tallies = [(Tally(), Tally()) for _ in everyone]
    own = True
    for text in texts:
        reference = Reference(text, np.concatenate([rows.copy() for rows in judge.rows(text)]))
        own = own and reference.draws == text.answer
        for one, pair in zip(everyone, tallies, strict=True):
            pair[text.temperature > 0.0].add(text, reference, one.rows(text))
        step(f"judged answers to prompt {text.number + 1}")
    return tallies, own


def _row(one: Contestant, pair: tuple[Tally, Tally], rounds: list[float], weight_bytes: int | None) -> dict[str, Any]:
    greedy, sampled = pair[0].shares(), pair[1].shares()
    rate = Spread.of([1 / seconds for seconds in rounds])
    return {
        "rung": one.name.rpartition("/")[2],
        "library": one.library,
        "layers": one.layers,
        "weight_bytes": weight_bytes,
        "agreement": greedy["accepted"],
        "acceptance": sampled["accepted"],
        "same_best": sampled["same_best"],
        "divergence": sampled["divergence"],
        "tokens_per_second": asdict(rate),
        "rate": rate.median,
        "rounds": rounds,
    }
