"""Figures of `updraft bench stopping`: rows of the replay, of the real answers, and how far rules are from the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log
from statistics import median
from typing import Any, Final

from rich.table import Table

from updraft.modes import ModeSettings
from updraft_edge.agent import Agent
from updraft_edge.stopping.costs import Costs

from .figures import Observed
from .report import table_of
from .stopping_replay import Clock, Machine, Outcome, Recording, replay
from .stopping_rules import Rule

__all__ = ["GOAL", "Lane", "real_rows", "replay_rows", "stopping_tables", "summarise", "token_ms"]

GOAL: Final = 1.03  # of the best fixed length's time
SHORTEST: Final = 2  # fixed lengths from here on must lose over all links
_TOGETHER_S: Final = 0.003  # tokens of one verdict arrive within this

_LANE: Final = {"drafter": ("edge model", ""), "rule": ("rule", "")}
_COSTS: Final = _LANE | {
    "mean_run": ("run", ".2f"),
    "mean_accepted": ("accepted", ".2f"),
    "cloud_passes_per_token": ("passes/token", ".3f"),
    "cloud_positions_per_token": ("positions/token", ".2f"),
    "edge_tokens_per_token": ("drafted/token", ".2f"),
}
_AGAINST: Final = {
    "drafter": ("edge model", ""),
    "round_trip_ms": ("RTT ms", "g"),
    "best": ("best fixed", ""),
    "best_ms": ("ms/token", ".2f"),
    "rule": ("rule", ""),
    "ms": ("ms/token", ".2f"),
    "ratio": ("of best fixed", ".3f"),
    "passes": ("passes/token", ".3f"),
}
_ACROSS: Final = _LANE | {"mean_ratio": ("mean of best fixed", ".3f"), "worst_ratio": ("worst", ".3f")}
_REAL: Final = _LANE | {
    "round_trip_ms": ("RTT ms", "g"),
    "wall_ms_per_token": ("ms/token", ".1f"),
    "replayed_ms_per_token": ("replayed", ".1f"),
    "of_best_fixed": ("of best fixed, median of pairs", ".2f"),
    "mean_accepted": ("accepted", ".2f"),
    "cloud_passes_per_token": ("passes/token", ".3f"),
    "replayed_passes_per_token": ("replayed", ".3f"),
    "cloud_positions_per_token": ("positions/token", ".2f"),
}


@dataclass(slots=True)
class Lane:
    """A rule with an agent of its own, its real answers by round trip, and the costs that it measured there."""

    name: str
    settings: ModeSettings
    agent: Agent
    answers: dict[float, list[Observed]] = field(default_factory=dict)
    costs: dict[float, dict[str, float]] = field(default_factory=dict)


def replay_rows(
    drafter: str, rules: Sequence[Rule], recordings: Sequence[Recording], machine: Machine, trips_ms: Sequence[float]
) -> list[dict[str, Any]]:
    """Every rule on every link; rules that learn begin anew on each and learn from one recording to the next."""
    rows = []
    for trip in trips_ms:
        for rule in rules:
            outcome = _replayed(rule, recordings, machine, trip)
            about = {"drafter": drafter, "round_trip_ms": trip, "rule": rule.name, "length": rule.length}
            rows.append(about | {"adapts": rule.adapts} | outcome.row())
    return rows


def _replayed(rule: Rule, recordings: Sequence[Recording], machine: Machine, trip_ms: float) -> Outcome:
    costs, clock, total, make = Costs(), Clock(), Outcome(), rule.maker()
    for recording in recordings:
        ahead = 2 * rule.settings.stop.longest
        total.add(replay(recording, make(costs, clock), costs, clock, machine, trip_ms / 1e3, ahead=ahead))
    return total


def real_rows(
    drafter: str, lanes: Sequence[Lane], recordings: Sequence[Recording], machine: Machine, trips_ms: Sequence[float]
) -> list[dict[str, Any]]:
    """What the real answers cost, beside the replay of the same prompts.

    Times begin at the first verdict: what comes before it is the prompt. Pairs are answers to one prompt.
    """
    rows = []
    for trip in trips_ms:
        times = {lane.name: [token_ms(answer) for answer in lane.answers[trip]] for lane in lanes}
        fixed = [name for name in times if name.startswith("fixed ")]
        best = min(fixed, key=lambda name: _mean(times[name]))
        for lane in lanes:
            counts = [answer.completion.statistics for answer in lane.answers[trip]]
            tokens, rounds = sum(count.tokens for count in counts), sum(count.round_trips for count in counts)
            pairs = [own / other for own, other in zip(times[lane.name], times[best], strict=True) if own and other]
            row = {
                "drafter": drafter,
                "round_trip_ms": trip,
                "rule": lane.name,
                "wall_ms_per_token": _mean(times[lane.name]) if any(times[lane.name]) else None,
                "of_best_fixed": median(pairs) if pairs else None,
                "best_fixed": best,
                "mean_accepted": sum(count.accepted for count in counts) / max(1, rounds),
                "cloud_passes_per_token": sum(count.cloud_passes for count in counts) / max(1, tokens),
                "cloud_positions_per_token": sum(count.cloud_positions for count in counts) / max(1, tokens),
            }
            rows.append(row | _beside(lane, recordings, machine, trip))
    return rows


def _beside(lane: Lane, recordings: Sequence[Recording], machine: Machine, trip_ms: float) -> dict[str, Any]:
    """The replay's figures for a lane of mode `draft`; the recording stops at the bench's last token, too."""
    head = lane.agent.settings.acceptance_head
    if lane.settings.mode != "draft":
        return {"replayed_ms_per_token": None, "replayed_passes_per_token": None}
    row = _replayed(Rule(lane.name, lane.settings, head=head), recordings, machine, trip_ms).row()
    return {
        "replayed_ms_per_token": row["wall_ms_per_token"],
        "replayed_passes_per_token": row["cloud_passes_per_token"],
    }


def token_ms(answer: Observed) -> float | None:
    """Milliseconds a token from the first verdict to the last; None for an answer of one verdict."""
    arrivals = answer.arrivals
    later = sum(time > arrivals[0] + _TOGETHER_S for time in arrivals) if arrivals else 0
    return 1e3 * (arrivals[-1] - arrivals[0]) / later if later else None


def _mean(times: Sequence[float | None]) -> float:
    known = [time for time in times if time is not None]
    return sum(known) / len(known) if known else float("inf")


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Each adapting rule against the best fixed length of its link, and every rule across the links.

    `passed`: no cost-aware rule takes more than 3 % longer than the best fixed length of a link, and each is better
    than any one length from 2 on over all links. (Where a run of 1 is best on every link, so is always writing 1.)
    """
    against, across = [], []
    for drafter in dict.fromkeys(row["drafter"] for row in rows):
        own = [row for row in rows if row["drafter"] == drafter]
        best = {trip: _best(own, trip) for trip in dict.fromkeys(row["round_trip_ms"] for row in own)}
        ratios: dict[str, list[float]] = {}
        for row in own:
            reference = best[row["round_trip_ms"]]
            ratio = row["wall_ms_per_token"] / reference["wall_ms_per_token"]
            ratios.setdefault(row["rule"], []).append(ratio)
            if row["length"] is None:
                against.append(_against(row, reference, ratio))
        for rule, found in ratios.items():
            mean = exp(sum(log(ratio) for ratio in found) / len(found))
            across.append({"drafter": drafter, "rule": rule, "mean_ratio": mean, "worst_ratio": max(found)})
    return {"against_best": against, "across_links": across, "passed": _passed(rows, against, across)}


def _best(rows: Sequence[dict[str, Any]], trip: float) -> dict[str, Any]:
    fixed = [row for row in rows if row["round_trip_ms"] == trip and row["length"] is not None]
    return min(fixed, key=lambda row: row["wall_ms_per_token"])


def _against(row: dict[str, Any], best: dict[str, Any], ratio: float) -> dict[str, Any]:
    return {
        "drafter": row["drafter"],
        "round_trip_ms": row["round_trip_ms"],
        "best": best["rule"],
        "best_ms": best["wall_ms_per_token"],
        "rule": row["rule"],
        "adapts": row["adapts"],
        "ms": row["wall_ms_per_token"],
        "ratio": ratio,
        "passes": row["cloud_passes_per_token"],
    }


def _passed(
    rows: Sequence[dict[str, Any]], against: Sequence[dict[str, Any]], across: Sequence[dict[str, Any]]
) -> bool:
    adaptive = {row["rule"] for row in rows if row["adapts"]}
    fixed = {row["rule"] for row in rows if (row["length"] or 0) >= SHORTEST}
    for drafter in dict.fromkeys(row["drafter"] for row in across):
        own = [row for row in across if row["drafter"] == drafter]
        least = min(row["mean_ratio"] for row in own if row["rule"] in fixed)
        if any(row["mean_ratio"] >= least for row in own if row["rule"] in adaptive):
            return False
    return all(row["ratio"] <= GOAL for row in against if row["adapts"])


def stopping_tables(results: dict[str, Any], about: str) -> list[Table]:
    """For people: against the best fixed length, across links, what each rule costs, real runs beside the replay."""
    shares = ", ".join(f"{model} {share:.0%}" for model, share in results["agreement"].items())
    title = f"Against the best fixed length of each link, replayed: {about}; edge agrees with the cloud: {shares}"
    rows = results["rows"]
    middle = sorted({row["round_trip_ms"] for row in rows})[len({row["round_trip_ms"] for row in rows}) // 2]
    tables = [
        table_of(title, results["against_best"], _AGAINST),
        table_of("Over all links: time over that of each link's best fixed length", results["across_links"], _ACROSS),
        _walls(rows),
        table_of(
            f"What they ask of edge and cloud ({middle:g} ms)",
            [row for row in rows if row["round_trip_ms"] == middle],
            _COSTS,
        ),
    ]
    if results["real"]:
        title = f"Real answers to {results['real_prompts']} prompts, after the first verdict, and their replay"
        tables.append(table_of(title, results["real"], _REAL))
    return tables


def _walls(rows: Sequence[dict[str, Any]]) -> Table:
    """Milliseconds a token of every rule, one column a link."""
    lanes: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        lane = lanes.setdefault((row["drafter"], row["rule"]), {"drafter": row["drafter"], "rule": row["rule"]})
        lane[f"at {row['round_trip_ms']:g}"] = row["wall_ms_per_token"]
    trips = dict.fromkeys(row["round_trip_ms"] for row in rows)
    columns = _LANE | {f"at {trip:g}": (f"{trip:g} ms", ".2f") for trip in trips}
    return table_of("Milliseconds a token by round trip, replayed", list(lanes.values()), columns)
