"""`updraft bench onnx`: our ONNX engine against onnxruntime-genai's own generator, on the same graph and threads."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, get_args

from rich.table import Table

from updraft.errors import ConfigError
from updraft.models import resolve
from updraft.models.staged.builder import Precision

from .figures import Spread, rate
from .onnx_loops import EngineLoop, GenaiLoop, Loop, Models, make_models
from .prompts import first_prompts
from .report import Step, table_of
from .tiers import chat_tokens, machine_cores

__all__ = ["GOAL", "OnnxBench"]

GOAL: Final = 0.95  # of the generator's tokens a second, on the same graph
_REST_S: Final = 0.05  # idle threads of the last loop spin for a moment
_SAME_GRAPH: Final = "engine"


@dataclass(frozen=True)
class OnnxBench:
    """The loops take turns, prompt by prompt; all graphs come from one build with the same weights.

    Attributes:
        model: a GGUF or a Hugging Face folder.
        precision: of the weights.
        stages: of the staged form.
        threads: of each loop; one for each usable core when None.
        models: folder that keeps the built graphs for the next run; a temporary one when None.
    """

    prompts: int = 4
    tokens: int = 96
    rounds: int = 7
    model: str = "smollm2"
    precision: Precision = "int4"
    stages: int = 3
    context: int = 1024
    threads: int | None = None
    models: Path | None = None
    name = "onnx"

    def __post_init__(self) -> None:
        first_prompts(self.prompts)
        if self.precision not in get_args(Precision):
            raise ConfigError(f"precision is {self.precision!r}; it must be one of {', '.join(get_args(Precision))}.")

    @property
    def steps(self) -> int:
        return 2 + self.rounds

    async def measure(self, step: Step) -> dict[str, Any]:
        threads = self.threads or len(machine_cores())
        with ExitStack() as stack:
            folder = self.models or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folder.mkdir(parents=True, exist_ok=True)
            models = make_models(resolve(self.model), folder, self.precision, self.stages, lambda _: None)
            step("built the graphs")
            loops = self._loops(models, threads)
            for loop in loops:
                stack.callback(loop.close)
            engine = loops[0]
            assert isinstance(engine, EngineLoop)  # noqa: S101 (it is made first)
            prompts = [chat_tokens(engine.engine, prompt) for prompt in first_prompts(self.prompts)]
            if max(map(len, prompts)) + self.tokens > self.context:
                raise ConfigError(
                    f"{self.tokens} tokens after the longest prompt do not fit a context of {self.context}."
                )
            for loop in loops:
                loop.write(prompts[0], min(8, self.tokens))
            step("warmed up")
            return self._rounds(loops, prompts, threads, step)

    def _loops(self, models: Models, threads: int) -> list[Loop]:
        sizes = {"context": self.context, "threads": threads}
        engine = EngineLoop(_SAME_GRAPH, models.plain, **sizes)
        return [
            engine,
            EngineLoop("engine, exact", models.exact, **sizes),
            EngineLoop(f"engine, exact, {self.stages} stages", models.staged, **sizes),
            GenaiLoop(models.built, ends=sorted(engine.engine.info.end_tokens), **sizes),
        ]

    def _rounds(
        self, loops: Sequence[Loop], prompts: Sequence[Sequence[int]], threads: int, step: Step
    ) -> dict[str, Any]:
        rates: dict[str, list[float]] = {loop.name: [] for loop in loops}
        texts: dict[str, list[tuple[int, ...]]] = {loop.name: [] for loop in loops}
        for number in range(self.rounds):
            arrivals: dict[str, list[tuple[float, ...]]] = {loop.name: [] for loop in loops}
            for place, prompt in enumerate(prompts):
                first = (number + place) % len(loops)
                for loop in [*loops[first:], *loops[:first]]:
                    time.sleep(_REST_S)
                    written = loop.write(prompt, self.tokens)
                    arrivals[loop.name].append(written.arrivals)
                    texts[loop.name].append(written.tokens)
            for name, times in arrivals.items():
                rates[name].append(rate(times))
            step(f"round {number + 1}: " + ", ".join(f"{found[-1]:.1f}" for found in rates.values()) + " tokens/s")
        rows = [_row(name, rates, texts) for name in rates]
        return {
            "threads": threads,
            "texts": self.rounds * len(prompts),
            "loops": rows,
            "goal": GOAL,
            "goal_met": rows[0]["ratio"]["median"] >= GOAL,
        }

    def tables(self, results: dict[str, Any]) -> list[Table]:
        rows = [
            {
                "loop": row["loop"],
                "rate": str(Spread(**row["tokens_per_second"])),
                "ratio": str(Spread(**row["ratio"])),
                "same": f"{row['same']}/{results['texts']}",
            }
            for row in results["loops"]
        ]
        title = (
            f"{self.model}, {self.precision}, {results['threads']} threads, {self.prompts} prompts x {self.tokens} "
            f"tokens, {self.rounds} rounds, greedy, after the first token. Goal: engine at least {GOAL:g} of genai on "
            f"the same graph: {'met' if results['goal_met'] else 'missed'}"
        )
        columns = {
            "loop": ("loop", ""),
            "rate": ("tokens/s: median (range)", ""),
            "ratio": ("loop / genai, by round", ""),
            "same": ("same text as genai", ""),
        }
        return [table_of(title, rows, columns)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        return False


def _row(name: str, rates: dict[str, list[float]], texts: dict[str, list[tuple[int, ...]]]) -> dict[str, Any]:
    """A loop's rates, alone and over the generator's of the same round."""
    baseline = rates[GenaiLoop.name]
    ratios = Spread.of([mine / its for mine, its in zip(rates[name], baseline, strict=True)])
    pairs = zip(texts[name], texts[GenaiLoop.name], strict=True)
    return {
        "loop": name,
        "rounds": rates[name],
        "tokens_per_second": asdict(Spread.of(rates[name])),
        "ratio": asdict(ratios),
        "same": sum(mine == its for mine, its in pairs),
    }
