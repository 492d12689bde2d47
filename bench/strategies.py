"""Accuracy against generated tokens: every strategy on the laboratory's questions, with the same seeds.

Sampling strategies are run on one pool of answers, drawn and judged once; step-wise ones are run anew for every budget.
Then what follows from it: how many samples RPC saves, what step-wise search gains at equal tokens, where an imperfect
verifier's resampling ends, what the compute-optimal choice costs, and what an edge model saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from updraft.strategies.subject import Question

from .report import Step, table_of
from .strategies_plot import plot_strategies
from .strategy_choice import choose
from .strategy_collaboration import collaborate
from .strategy_curves import RUN, curves_of, equal_tokens, samples_saved
from .strategy_laboratory import Laboratory, laboratory_questions, open_laboratory
from .strategy_resampling import resampled
from .strategy_smollm2 import SMOLLM2, smollm2_curves
from .strategy_verifiers import rates_of

__all__ = ["SUBJECTS", "StrategiesBench"]

CLOUD: Final = "lab-cloud"
EDGE: Final = "lab-edge"
SUBJECTS: Final = (CLOUD, EDGE, SMOLLM2)
_SMOLLM2_MOST: Final = 8  # samples: it writes far more slowly


@dataclass(frozen=True, slots=True)
class StrategiesBench:
    """Every strategy on the laboratory's questions.

    Attributes:
        questions: of the test split, all levels in equal parts.
        fitted: questions of the validation split that the choice is fitted on.
        most: samples of the largest budget; budgets are its powers of two.
        search: budgets of the strategies that are run anew for each.
        on: models, of `SUBJECTS`.
        smollm2: questions for SmolLM2.
        price: of 1000 tokens, in right answers, for the choice.
    """

    questions: int = 105
    fitted: int = 105
    most: int = 64
    search: tuple[int, ...] = (1, 4, 16, 64)
    on: tuple[str, ...] = SUBJECTS
    smollm2: int = 24
    price: float = 0.03
    seed: int = 1
    threads: int | None = None

    @property
    def name(self) -> str:
        return "strategies"

    @property
    def steps(self) -> int:
        small = sum(budget <= _SMOLLM2_MOST for budget in self.search)
        runs = len(RUN) * len(self.search)
        steps = {CLOUD: 5 + runs, EDGE: 1 + runs, SMOLLM2: 2 + len(RUN) * small}
        return sum(steps[subject] for subject in self.on)

    async def measure(self, step: Step) -> dict[str, Any]:
        results: dict[str, Any] = {"curves": {}, "verifiers": [], "passed": True}
        if CLOUD in self.on or EDGE in self.on:
            async with open_laboratory(sequences=self.most, threads=self.threads) as lab:
                test = laboratory_questions("test", self.questions, seed=self.seed)
                if CLOUD in self.on:
                    await self._on_cloud(lab, test, results, step)
                if EDGE in self.on:
                    await self._on_edge(lab, test, results, step)
        if SMOLLM2 in self.on:
            results["curves"][SMOLLM2], rates = await smollm2_curves(
                self.smollm2, _SMOLLM2_MOST, self.search, seed=self.seed, threads=self.threads, step=step
            )
            results["verifiers"] += rates
        return results

    async def _on_cloud(self, lab: Laboratory, test: Sequence[Question], results: dict[str, Any], step: Step) -> None:
        """Curves, and what follows from them."""
        pools = await lab.pools(lab.cloud, test, self.most, seed=self.seed)
        step(f"{self.most} answers of {CLOUD}")
        curves = await curves_of(lab.cloud, pools, self.search, seed=self.seed, step=step)
        results["curves"][CLOUD] = curves
        results |= {"saved": samples_saved(curves), "equal_tokens": equal_tokens(curves)}
        results["verifiers"] += await rates_of(CLOUD, lab.verifiers, lab.cloud, pools, lab.resources)
        step("verifiers")
        results["resampling"] = await resampled(pools, lab.cloud, self.most)
        step("resampling")
        fitted = laboratory_questions("validation", self.fitted, seed=self.seed)
        results["choice"] = await choose(lab, fitted, test, curves, price=self.price, seed=self.seed)
        step("choice")
        results["collaboration"] = await collaborate(lab, fitted, test, pools, seed=self.seed)
        step("collaboration")

    async def _on_edge(self, lab: Laboratory, test: Sequence[Question], results: dict[str, Any], step: Step) -> None:
        pools = await lab.pools(lab.edge, test, self.most, seed=self.seed)
        step(f"{self.most} answers of {EDGE}")
        results["curves"][EDGE] = await curves_of(lab.edge, pools, self.search, seed=self.seed, step=step)

    def tables(self, results: dict[str, Any]) -> list[Table]:
        tables = [
            table_of(f"{model}: accuracy against tokens a question; intervals of 95 %", rows, _CURVE)
            for model, rows in results["curves"].items()
        ]
        tables.append(table_of("How often verifiers err; intervals of 95 %", results["verifiers"], _VERIFIERS))
        if CLOUD in results["curves"]:
            tables += [
                table_of("Samples that RPC needs for what self-consistency reaches", results["saved"], _SAVED),
                table_of(
                    "Step-wise search against best-of-n at equal tokens, the same reward model",
                    results["equal_tokens"],
                    _EQUAL,
                ),
                *_resampling_tables(results["resampling"]),
                *_choice_tables(results["choice"]),
                table_of("Edge and cloud together", results["collaboration"]["rows"], _TOGETHER),
            ]
        return tables

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        if CLOUD in results["curves"]:
            plot_strategies(results, path)
        return CLOUD in results["curves"]


_CURVE: Final = {
    "strategy": ("strategy", ""),
    "samples": ("samples", "d"),
    "accuracy": ("right", ".3f"),
    "low": ("from", ".3f"),
    "high": ("to", ".3f"),
    "tokens": ("tokens", ".0f"),
    "calls": ("verifier calls", ".0f"),
}


_SAVED: Final = {
    "samples": ("self-consistency", "d"),
    "accuracy": ("right", ".3f"),
    "needed": ("rpc", ".1f"),
    "share": ("share", ".2f"),
}
_EQUAL: Final = {
    "strategy": ("strategy", ""),
    "samples": ("samples", "d"),
    "tokens": ("tokens", ".0f"),
    "accuracy": ("right", ".3f"),
    "best_of_n": ("best-of-n", ".3f"),
    "gain": ("gain", "+.3f"),
    "weighted": ("weighted best-of-n", ".3f"),
}
_TOGETHER: Final = {
    "setup": ("setup", ""),
    "accuracy": ("right", ".3f"),
    "low": ("from", ".3f"),
    "high": ("to", ".3f"),
    "edge_tokens": ("edge tokens", ".0f"),
    "cloud_tokens": ("cloud tokens", ".0f"),
    "verified": ("positions verified", ".0f"),
    "escalated": ("to the cloud", ".0%"),
    "kept": ("of its accuracy", ".2f"),
    "share": ("of its tokens", ".2f"),
}
_VERIFIERS: Final = {
    "model": ("answers of", ""),
    "verifier": ("verifier", ""),
    "right": ("right", "d"),
    "wrong": ("wrong", "d"),
    "area": ("area under the curve", ".3f"),
    "threshold": ("threshold", ".3f"),
    "false_positive_rate": ("false positives", ".3f"),
    "low": ("from", ".3f"),
    "high": ("to", ".3f"),
    "true_positive_rate": ("true positives", ".3f"),
}


def _resampling_tables(results: dict[str, Any]) -> list[Table]:
    title = (
        f"Resampling until a verifier passes: threshold {results['threshold']:.2f}, false positives "
        f"{results['false_positive_rate']:.3f}, true positives {results['true_positive_rate']:.3f}"
    )
    columns = {
        "tries": ("tries at most", "d"),
        "accuracy": ("right", ".3f"),
        "predicted": ("predicted", ".3f"),
        "exact": ("with an exact verifier", ".3f"),
    }
    return [table_of(title, results["rows"], columns)]


def _choice_tables(results: dict[str, Any]) -> list[Table]:
    columns = {
        "setup": ("setup", ""),
        "accuracy": ("right", ".3f"),
        "low": ("from", ".3f"),
        "high": ("to", ".3f"),
        "tokens": ("tokens", ".0f"),
        "share": ("of the tokens", ".2f"),
    }
    signals = {"signal": ("of the edge's answers", ""), "auc": ("area under the curve", ".3f")}
    return [
        table_of("Compute-optimal choice against the best fixed strategy", results["rows"], columns),
        table_of("Signals that tell whether the edge's vote is wrong", results["signals"], signals),
    ]
