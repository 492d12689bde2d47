"""Accuracy against generated tokens: every strategy on the laboratory's questions, with the same seeds.

Sampling strategies are run on one pool of answers, drawn and judged once; step-wise ones are run anew for every budget.
Then what follows from it: how many samples RPC saves, what step-wise search gains at equal tokens, where an imperfect
verifier's resampling ends, what the compute-optimal choice costs, and what an edge model saves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from .report import Step, table_of
from .strategies_plot import plot_strategies
from .strategy_choice import choose
from .strategy_collaboration import collaborate
from .strategy_curves import RUN, curves_of, equal_tokens, greedy, samples_saved
from .strategy_laboratory import laboratory_questions, open_laboratory
from .strategy_resampling import resampled
from .strategy_smollm2 import MODEL, smollm2_curves
from .strategy_verifiers import rates_of

__all__ = ["StrategiesBench"]

_SMOLLM2_MOST: Final = 8  # samples: it writes far more slowly


@dataclass(frozen=True, slots=True)
class StrategiesBench:
    """Every strategy on the laboratory's questions.

    Attributes:
        questions: of the test split, all levels in equal parts.
        fitted: questions of the validation split that the choice is fitted on.
        most: samples of the largest budget; budgets are its powers of two.
        search: budgets of the strategies that are run anew for each.
        edge: every strategy with the edge's model, too.
        smollm2: questions for SmolLM2, which every strategy has, too; 0 leaves it out.
        price: of 1000 tokens, in right answers, for the choice.
    """

    questions: int = 120
    fitted: int = 80
    most: int = 64
    search: tuple[int, ...] = (1, 4, 16, 64)
    edge: bool = True
    smollm2: int = 24
    price: float = 0.02
    seed: int = 1
    threads: int | None = None

    @property
    def name(self) -> str:
        return "strategies"

    @property
    def steps(self) -> int:
        small = sum(budget <= _SMOLLM2_MOST for budget in self.search)
        return 4 + (1 + self.edge) * (1 + len(RUN) * len(self.search)) + bool(self.smollm2) * (2 + len(RUN) * small)

    async def measure(self, step: Step) -> dict[str, Any]:
        results: dict[str, Any] = {}
        async with open_laboratory(sequences=self.most, threads=self.threads) as lab:
            test = laboratory_questions("test", self.questions, seed=self.seed)
            pools = await lab.pools(lab.cloud, test, self.most, seed=self.seed)
            step(f"{self.most} answers of lab-cloud")
            curves = await curves_of(lab.cloud, pools, self.search, seed=self.seed, step=step)
            curves.append(await greedy(lab.cloud, test))
            results |= {"curves": curves, "saved": samples_saved(curves), "equal_tokens": equal_tokens(curves)}
            results["resampling"] = await resampled(pools, lab.cloud, self.most)
            step("resampling")
            results["verifiers"] = await rates_of("lab-cloud", lab.verifiers, lab.cloud, pools, lab.resources)
            step("verifiers")
            if self.edge:
                edge_pools = await lab.pools(lab.edge, test, self.most, seed=self.seed)
                step(f"{self.most} answers of lab-edge")
                results["edge_curves"] = await curves_of(lab.edge, edge_pools, self.search, seed=self.seed, step=step)
                results["edge_curves"].append(await greedy(lab.edge, test))
            fitted = laboratory_questions("validation", self.fitted, seed=self.seed)
            results["choice"] = await choose(lab, fitted, test, curves, price=self.price, seed=self.seed)
            step("choice")
            results["collaboration"] = await collaborate(lab, fitted, test, pools, seed=self.seed)
            step("collaboration")
        if self.smollm2:
            results["smollm2_curves"], rates = await smollm2_curves(
                self.smollm2, _SMOLLM2_MOST, self.search, seed=self.seed, threads=self.threads, step=step
            )
            results["verifiers"] += rates
        results["passed"] = True
        return results

    def tables(self, results: dict[str, Any]) -> list[Table]:
        title = "Accuracy against tokens a question; intervals of 95 %"
        tables = [
            table_of(f"{model}: {title}", results[key], _CURVE)
            for model, key in (("lab-cloud", "curves"), ("lab-edge", "edge_curves"), (MODEL, "smollm2_curves"))
            if key in results
        ]
        tables.append(
            table_of(
                "Samples that RPC needs for what self-consistency reaches",
                results["saved"],
                {
                    "samples": ("self-consistency", "d"),
                    "accuracy": ("right", ".3f"),
                    "needed": ("rpc", ".1f"),
                    "share": ("share", ".2f"),
                },
            )
        )
        tables.append(
            table_of(
                "Step-wise search against best-of-n at equal tokens, the same reward model",
                results["equal_tokens"],
                {
                    "strategy": ("strategy", ""),
                    "samples": ("samples", "d"),
                    "tokens": ("tokens", ".0f"),
                    "accuracy": ("right", ".3f"),
                    "best_of_n": ("best-of-n", ".3f"),
                    "gain": ("gain", "+.3f"),
                    "weighted": ("weighted best-of-n", ".3f"),
                },
            )
        )
        tables.append(table_of("How often verifiers err; intervals of 95 %", results["verifiers"], _VERIFIERS))
        tables += [*_resampling_tables(results["resampling"]), *_choice_tables(results["choice"])]
        tables.append(
            table_of(
                "Edge and cloud together",
                results["collaboration"]["rows"],
                {
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
                },
            )
        )
        return tables

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        plot_strategies(results, path)
        return True


_CURVE: Final = {
    "strategy": ("strategy", ""),
    "samples": ("samples", "d"),
    "accuracy": ("right", ".3f"),
    "low": ("from", ".3f"),
    "high": ("to", ".3f"),
    "tokens": ("tokens", ".0f"),
    "calls": ("verifier calls", ".0f"),
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
