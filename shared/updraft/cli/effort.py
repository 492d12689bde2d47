"""Options of the mode `solve`, what they make of the settings, and its progress on a terminal."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from updraft.cli.reporting import stderr
from updraft.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.status import Status

    from updraft.generation import Completion
    from updraft.solution import ProgressEvent

__all__ = [
    "AlternativesOption",
    "BudgetSamplesOption",
    "BudgetTokensOption",
    "EffortOption",
    "ProgressLine",
    "StrategyOption",
    "VerifierOption",
    "effort_settings",
    "print_solution",
]

EffortOption = Annotated[
    str | None,
    typer.Option(metavar="EFFORT", help="none, low, medium, high or max: how much compute the answer is worth."),
]
StrategyOption = Annotated[
    str | None, typer.Option(metavar="NAME|JSON", help="How compute is spent: a strategy, as JSON with its settings.")
]
VerifierOption = Annotated[
    str | None, typer.Option(metavar="NAME|JSON", help="Who judges answers: a verifier, as JSON with its settings.")
]
BudgetSamplesOption = Annotated[
    int | None, typer.Option(metavar="N", help="Most answers, particles or expansions that are drawn.")
]
BudgetTokensOption = Annotated[int | None, typer.Option(metavar="N", help="Most tokens that the cloud draws.")]
AlternativesOption = Annotated[
    bool, typer.Option("--alternatives", help="List the other final answers with their parts of the vote.")
]


def effort_settings(
    effort: str | None,
    strategy: str | None,
    verifier: str | None,
    budget_samples: int | None,
    budget_tokens: int | None,
) -> dict[str, object]:
    """The keys of the mode settings that these flags name. Raises InvalidRequest for broken JSON."""
    budget = {
        key: value for key, value in (("samples", budget_samples), ("tokens", budget_tokens)) if value is not None
    }
    given: dict[str, object] = {
        "effort": effort,
        "strategy": _spec("strategy", strategy),
        "verifier": _spec("verifier", verifier),
        "budget": budget or None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _spec(flag: str, text: str | None) -> str | dict[str, Any] | None:
    """A name as it is, an object decoded."""
    if text is None or not text.lstrip().startswith("{"):
        return text
    try:
        data: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(
            f"--{flag} is no JSON: {error}.", remedy='Write a name, or {"name": ...}.', param=flag
        ) from error
    return data


class ProgressLine:
    """One line on a terminal's standard error that tells what was done on the way; it goes when the answer comes."""

    _NAMES = ("sample", "samples"), ("step", "steps"), ("score", "scores"), ("prune", "pruned"), ("resample", "copied")

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._tokens: dict[str, int] = {}
        self._leading: float | None = None
        self._status: Status | None = None

    def take(self, event: ProgressEvent) -> None:
        """Something happened."""
        self._counts[event.kind] += 1
        self._tokens[event.origin.value] = event.tokens
        if event.kind == "answer":
            self._leading = event.value
        console = stderr()
        if not console.is_terminal:
            return
        if self._status is None:
            self._status = console.status(self.text)
            self._status.start()
        else:
            self._status.update(self.text)

    @property
    def text(self) -> str:
        parts = [f"{self._counts[kind]} {name}" for kind, name in self._NAMES if self._counts[kind]]
        parts.append(f"{sum(self._tokens.values())} tokens")
        if self._leading is not None:
            parts.append(f"leading at {self._leading:.0%}")
        return " · ".join(parts)

    def close(self) -> None:
        """The answer comes, or nothing more does."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def print_solution(completion: Completion) -> None:
    """How an answer of the mode `solve` came about, on standard error: how sure it is, what it cost, and what else was
    found."""
    solution = completion.solution
    if solution is None:
        return
    compute = solution.compute
    verified = {None: "", True: " · verified", False: " · not verified"}[solution.verified]
    sure = "" if solution.confidence is None else f" · confidence {solution.confidence:.0%}"
    cost = f"{compute.samples} samples, {compute.edge_tokens} edge and {compute.cloud_tokens} cloud tokens"
    console = stderr()
    console.print(
        f"{solution.strategy}{sure}{verified} · {cost} · ended: {solution.ended}",
        style="dim",
        markup=False,
        soft_wrap=True,
    )
    if solution.unparsed:
        console.print(f"{solution.unparsed} samples gave no final answer", style="yellow", soft_wrap=True)
    for complaint in solution.complaints:
        console.print(f"unverified: {complaint}", style="yellow", markup=False, soft_wrap=True)
    for found in solution.alternatives:
        score = "" if found.score is None else f", score {found.score:.2f}"
        line = f"{found.weight:.0%} ({found.samples} samples{score}): {' '.join(found.text.split())}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
