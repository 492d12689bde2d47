"""`updraft bench overhead`: what deciding costs per token, against what the edge model's token itself costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from rich.table import Table

from updraft.acceptance_head import FEATURES, AcceptanceHead
from updraft.engine import open_engine
from updraft.engine.base import Engine, Run
from updraft.sampling import Sampled, Sampler, SamplingParams
from updraft_edge.seams import StopRule
from updraft_edge.stopping.costs import Costs
from updraft_edge.stopping.predictors import Calibration, ScorePredictor, confidence, head_score
from updraft_edge.stopping.rules import EntropyStop, FixedLength, RateStop

from .figures import Spread
from .overhead_lookup import lookup_pieces
from .overhead_scores import score_pieces
from .prompts import first_prompts
from .report import Step, table_of
from .tiers import chat_tokens, pin_apart

__all__ = ["GOAL", "OverheadBench", "Piece", "pieces"]

GOAL: Final = 0.03  # of the edge's token time
_RUN: Final = 6  # tokens between two verdicts
_ACCEPTED: Final = 4

_COLUMNS: Final = {
    "name": ("decision", ""),
    "us": ("us/token", ".1f"),
    "us_low": ("least", ".1f"),
    "us_high": ("most", ".1f"),
    "share": ("of a token's time", ".2%"),
}

Piece = tuple[str, Callable[[Sequence[Sampled]], None]]
"""A name, and what decides about these tokens, in order, as the agent's loop would have it."""


def pieces(width: int) -> list[Piece]:
    """Everything that is timed; `width` is the hidden states'."""
    return [*_stop_rules(width), *score_pieces(), *lookup_pieces()]


def _stop_rules(width: int) -> list[Piece]:
    costs = Costs()

    def risk(predictor: ScorePredictor) -> RateStop:
        return RateStop(predictor, costs, shortest=1, longest=16, ready=lambda: False)

    rules: dict[str, StopRule] = {
        "stop: fixed": FixedLength(_RUN),
        "stop: entropy": EntropyStop(2.0, 16),
        "stop: cost-aware": risk(ScorePredictor(confidence, Calibration())),
        "stop: cost-aware, head": risk(ScorePredictor(head_score(_head(width)), Calibration())),
    }
    return [(name, _runs(rule, costs)) for name, rule in rules.items()]


def _runs(rule: StopRule, costs: Costs) -> Callable[[Sequence[Sampled]], None]:
    """Runs of six tokens with a verdict after each, which is what `ends` and `learn` are asked for."""

    def decide(tokens: Sequence[Sampled]) -> None:
        for start in range(0, len(tokens), _RUN):
            run: list[Sampled] = []
            for sampled in tokens[start : start + _RUN]:
                run.append(sampled)
                rule.ends(run)
            costs.note_verdict(len(run) + 1, 0.05, 0.03)
            rule.learn(run, min(_ACCEPTED, len(run)))

    return decide


def _head(width: int) -> AcceptanceHead:
    """A head of the size that `updraft train acceptance` makes, with weights that mean nothing."""
    rng, narrow = np.random.default_rng(0), 64
    shapes = {
        "scale": (width,),
        "project.weight": (narrow, width + FEATURES),
        "project.bias": (narrow,),
        "out.weight": (narrow + FEATURES,),
        "out.bias": (1,),
    }
    for number in range(2):
        shapes |= {f"blocks.{number}.weight": (narrow, narrow), f"blocks.{number}.bias": (narrow,)}
    tensors = {name: (0.01 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    return AcceptanceHead(tensors, "edge", "cloud")


@dataclass(frozen=True)
class OverheadBench:
    """Real tokens of the edge model, each decision timed over all of them, several times.

    Attributes:
        rounds: repetitions; figures are medians.
    """

    edge_model: str = "smollm2-q4_0"
    tokens: int = 96
    rounds: int = 7
    context: int = 512
    pin: bool = True
    name = "overhead"

    @property
    def steps(self) -> int:
        return 1 + self.rounds

    async def measure(self, step: Step) -> dict[str, Any]:
        pin_apart(self.pin)
        engine = open_engine(self.edge_model, context=self.context, sequences=1, threads=1 if self.pin else None)
        try:
            drawn, token_s = _write(engine, self.tokens)
            width = engine.info.width
        finally:
            engine.shutdown()
        step("the edge's tokens")
        timed = pieces(width)
        took: dict[str, list[float]] = {name: [] for name, _ in timed}
        for _ in range(self.rounds):
            for name, decide in timed:
                started = time.perf_counter()
                decide(drawn)
                took[name].append((time.perf_counter() - started) / len(drawn))
            step("decisions")
        rows = [_row(name, times, token_s) for name, times in took.items()]
        return {"token_ms": 1e3 * token_s, "rows": rows, "passed": all(row["share"] <= GOAL for row in rows)}

    def tables(self, results: dict[str, Any]) -> list[Table]:
        title = (
            f"What deciding costs, beside {results['token_ms']:.2f} ms for a token of {self.edge_model} "
            f"(forward pass and draw); goal: at most {GOAL:.0%}"
        )
        return [table_of(title, results["rows"], _COLUMNS)]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        return False


def _write(engine: Engine, tokens: int) -> tuple[list[Sampled], float]:
    """Greedy tokens with their hidden states, and the median seconds of one."""
    sampler, sequence, times = Sampler(SamplingParams(seed=0)), engine.open(), []
    prompt = chat_tokens(engine, first_prompts(1)[0])
    engine.forward([Run(sequence, 0, prompt[:-1])])
    drawn: list[Sampled] = []
    last = prompt[-1]
    for number in range(tokens):
        started = time.perf_counter()
        output = engine.forward([Run(sequence, len(prompt) - 1 + number, [last], 1, hidden=True)])[0]
        sampled = sampler.draw(output.logits[0], len(prompt) + number)
        times.append(time.perf_counter() - started)
        hidden = None if output.hidden is None else output.hidden[0].copy()
        drawn.append(Sampled(sampled.token, sampled.logprob, sampled.distribution, hidden=hidden))
        last = sampled.token
    return drawn, median(times)


def _row(name: str, times: Sequence[float], token_s: float) -> dict[str, Any]:
    spread = Spread.of([1e6 * seconds for seconds in times])
    share = 1e-6 * spread.median / token_s
    return {"name": name, "us": spread.median, "us_low": spread.low, "us_high": spread.high, "share": share}
