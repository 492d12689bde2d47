"""`updraft bench experts --soak`: prompts of changing topics through offloaded experts, and nothing grows."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.table import Table

from updraft.engine.base import Engine, Run
from updraft.errors import ConfigError

from .experts import DEFAULT, policy_experts
from .fuzz import growth
from .plot import new_figure
from .prompts import PROMPTS
from .report import Step, table_of
from .soak import ALLOWED
from .watch import held

if TYPE_CHECKING:
    from updraft.engine.experts import Experts, ExpertSource
    from updraft_cloud.experts.store import OffloadedExperts

__all__ = ["ExpertsSoak", "answer", "footprint", "topics"]

SAMPLES: Final = 60
_TOPIC_PROMPTS: Final = 10  # prompts before the topic changes
_TOPIC_TOKENS: Final = 64  # of the vocabulary, that a topic's prompts are made of besides their text
_COLUMNS: Final = {
    "what": ("what", ""),
    "first": ("after the first fifth", ",.1f"),
    "last": ("at the end", ",.1f"),
    "most": ("most", ",.1f"),
    "growth": ("growth (fitted)", "+,.2f"),
    "allowed": ("allowed", ",.1f"),
}


@dataclass(frozen=True)
class ExpertsSoak:
    """One prompt after another, each answered greedily in runs of which half are announced, as drafts are.

    Attributes:
        model: a mixture of experts that torch computes.
        share: of all experts that the budget holds.
        tokens: of an answer.
    """

    minutes: float
    model: str = "smollm2-moe"
    share: float = 0.5
    policy: str = DEFAULT
    tokens: int = 24
    draft: int = 4
    threads: int = 1
    name = "experts-soak"

    def __post_init__(self) -> None:
        if not 0.0 < self.minutes <= 10_000 or not 0.0 < self.share <= 1.0 or min(self.tokens, self.draft) < 1:
            raise ConfigError(f"minutes is {self.minutes}, the budget {self.share}, tokens {self.tokens}: out of range")

    @property
    def steps(self) -> int:
        return SAMPLES

    async def measure(self, step: Step) -> dict[str, Any]:
        return await asyncio.to_thread(self._measure, step)

    def _measure(self, step: Step) -> dict[str, Any]:
        from updraft.engine import open_engine

        made: list[OffloadedExperts] = []

        def make(source: ExpertSource) -> Experts:
            made.append(policy_experts(self.policy, self.share)(source))
            return made[0]

        engine = open_engine(self.model, experts=make, context=512, sequences=2, threads=self.threads)
        try:
            if not made:
                raise ConfigError(f"{self.model} has no experts", remedy="Name a mixture of experts.")
            samples = self._run(engine, made[0], step)
            made[0].check_integrity(deep=True)
        finally:
            engine.shutdown()
        return self._results(samples, made[0])

    def _run(self, engine: Engine, store: OffloadedExperts, step: Step) -> list[dict[str, float]]:
        start, samples = time.monotonic(), list[dict[str, float]]()
        for number, prompt in enumerate(topics(engine), start=1):
            answer(engine, prompt, self.tokens, self.draft)
            store.check_integrity()
            elapsed = time.monotonic() - start
            if elapsed >= len(samples) * 60.0 * self.minutes / SAMPLES:
                samples.append(
                    {
                        "seconds": elapsed,
                        "prompts": float(number),
                        "resident_mib": held(os.getpid()).get("memory", 0.0) / 2**20,
                        "device_mib": store.device_bytes / 2**20,
                        "host_mib": footprint(store) / 2**20,
                    }
                )
                step(f"{number} prompts, {samples[-1]['resident_mib']:.0f} MiB")
            if elapsed >= 60.0 * self.minutes:
                return samples
        return samples

    def _results(self, samples: list[dict[str, float]], store: OffloadedExperts) -> dict[str, Any]:
        budget = store.statistics.most_bytes / 2**20
        rows: list[dict[str, Any]] = []
        for name, what in (
            ("resident_mib", "resident memory, MiB"),
            ("device_mib", "experts on the device, MiB"),
            ("host_mib", "the store's own books, MiB"),
        ):
            values = [sample[name] for sample in samples]
            # What the books learn of new tokens is bounded; all else must not grow.
            own = growth([sample["host_mib"] for sample in samples]) if name == "resident_mib" else 0.0
            allowed = {"resident_mib": ALLOWED["memory"] / 2**20 + max(own, 0.0), "device_mib": 0.001, "host_mib": 64.0}
            rows.append(
                {
                    "what": what,
                    "first": values[len(values) // 5],
                    "last": values[-1],
                    "most": max(values),
                    "growth": growth(values),
                    "allowed": allowed[name],
                }
            )
        passed = all(row["growth"] <= row["allowed"] for row in rows)
        within = all(sample["device_mib"] <= budget for sample in samples)
        counts = store.statistics
        return {
            "samples": samples,
            "rows": rows,
            "prompts": samples[-1]["prompts"],
            "hit_rate": counts.hit_rate,
            "loaded": counts.loaded,
            "failures": counts.failures,
            "passed": passed and within and not counts.failures,
        }

    def tables(self, results: dict[str, Any]) -> list[Table]:
        title = (
            f"{self.minutes:g} minutes, {results['prompts']:,.0f} prompts of changing topics: {self.model}, "
            f"{self.share:.0%} of the experts on the device, policy {self.policy}; {results['hit_rate']:.0%} hits, "
            f"{results['loaded']:,} loads"
        )
        return [table_of(title, results["rows"], _COLUMNS)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        figure = new_figure()
        axes = figure.subplots()
        minutes = [sample["seconds"] / 60 for sample in results["samples"]]
        for name, label in (("resident_mib", "resident"), ("device_mib", "experts on the device")):
            axes.plot(minutes, [sample[name] for sample in results["samples"]], label=label)
        axes.set_xlabel("minutes")
        axes.set_ylabel("MiB")
        axes.set_ylim(bottom=0)
        axes.legend()
        figure.savefig(path)
        return True


def topics(engine: Engine, seed: int = 0) -> Iterator[list[int]]:
    """Prompts without end: a text, and words of a topic that changes every few prompts."""
    random = np.random.default_rng(seed)
    words: list[int] = []
    texts = [engine.tokenizer.encode(text)[: engine.context // 4] for text in PROMPTS]
    number = 0
    while True:
        if number % _TOPIC_PROMPTS == 0:
            words = random.integers(0, engine.info.vocabulary, _TOPIC_TOKENS).tolist()
        own = random.choice(words, size=int(random.integers(1, engine.context // 4))).tolist()
        yield texts[number % len(texts)] + own
        number += 1


def answer(engine: Engine, prompt: Sequence[int], tokens: int, draft: int) -> list[int]:
    """Answer greedily in runs of one sure token and a guess that it repeats, which is announced and often wrong."""
    sequence, log = engine.open(), list(prompt)
    expect = getattr(engine, "expect", None)
    try:
        while len(log) < len(prompt) + tokens:
            start = engine.length(sequence)
            if len(log) - start > 1:  # the prompt
                part = log[start : min(start + engine.max_run, len(log) - 1)]
                engine.forward([Run(sequence, start, part)])
                continue
            run = [log[-1]] * draft
            if expect is not None:
                expect(run)
            (output,) = engine.forward([Run(sequence, start, run, rows=draft)])
            chosen = output.logits.argmax(1).tolist()
            kept = next((place for place, token in enumerate(chosen) if token != run[0]), draft - 1)
            log += chosen[: kept + 1]
            engine.truncate(sequence, len(log) - 1)
    finally:
        engine.close(sequence)
    return log[len(prompt) : len(prompt) + tokens]


def footprint(store: OffloadedExperts) -> int:
    """Bytes of all that a store keeps on the host of what it has seen: book, policy, forecasts, statistics."""
    names = ("_book", "_waiting", "_done", "_failures")
    return sum(_size(getattr(store, name), set()) for name in names)


def _size(value: Any, seen: set[int]) -> int:
    """Of a value and what it refers to; arrays by their bytes, modules and functions left out."""
    if id(value) in seen or callable(value) or isinstance(value, type):
        return 0
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return value.nbytes
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(_size(key, seen) + _size(own, seen) for key, own in value.items())
    if isinstance(value, (list, tuple, set, frozenset)) or hasattr(value, "popleft"):
        return size + sum(_size(own, seen) for own in value)
    below = list(vars(value).values()) if hasattr(value, "__dict__") else []
    if is_dataclass(value) and not below:
        below = [getattr(value, field.name) for field in fields(value)]
    return size + sum(_size(own, seen) for own in below)
