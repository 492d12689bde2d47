"""`updraft bench experts`: wall clock of experts offloaded on the CPU, over a link that is throttled as a device's is.

Everything that is compared computes on the same cores; what differs is who holds the experts. Ratios are of one run.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from updraft.errors import ConfigError

from .experts_model import Clocked, SyntheticMoe, SyntheticSizes, traffic
from .experts_sessions import GROUPING_COLUMNS, GROUPINGS, Crowd, grouping_rows, session_texts
from .report import Step, table_of

if TYPE_CHECKING:
    from updraft.engine.experts import Experts, ExpertSource
    from updraft_cloud.experts.carriers import Carrier
    from updraft_cloud.experts.store import OffloadedExperts

__all__ = ["DEFAULT", "EmulatedLink", "ExpertsBench", "policy_experts"]

BASELINE: Final = "lru"
DEFAULT: Final = "draft"
_RESIDENT: Final = "all resident"
_HOST: Final = "on the host"

_COLUMNS: Final = {
    "budget_share": ("budget", ".0%"),
    "way": ("experts", ""),
    "tokens_per_second": ("tok/s", ".1f"),
    "vs_lru": ("x lru", ".2f"),
    "vs_resident": ("x resident", ".2f"),
    "hit_rate": ("hits", ".1%"),
    "mib_per_token": ("MiB/token", ".2f"),
    "stall_share": ("stalled", ".1%"),
    "overlap": ("copies hidden", ".0%"),
    "useful_share": ("prefetches useful", ".0%"),
    "same": ("bits as resident", ""),
}


@dataclass(frozen=True)
class ExpertsBench:
    """Ways take turns, round by round.

    Attributes:
        model: a Hugging Face folder of a mixture of experts; random weights without attention when None.
        shares: budgets as shares of all experts.
        policies: besides the baseline `lru`.
        copy_ratio: how many times longer a copy takes than computing an expert for one token; on a GPU it is 50 and
            more, which would take a CPU hours.
        host_slowdown: how many times longer the host takes for an expert than the device.
        passes: of a round, `together` runs of `draft` tokens each, of twice as many sessions.
        sessions: of a model, that wait for passes of `pass_tokens`, which do not hold all of them; there the default
            policy shares passes in turn, and by the experts that runs are likely to need.
        prompts: their texts, at least as many as sessions; Updraft's own when there are none.
    """

    model: str | None = None
    shares: tuple[float, ...] = (0.25, 0.5, 0.75)
    policies: tuple[str, ...] = ("expected", "look-ahead", DEFAULT)
    copy_ratio: float = 4.0
    host_slowdown: float = 10.0
    passes: int = 60
    together: int = 2
    draft: int = 4
    rounds: int = 3
    threads: int = 1
    sessions: int = 16
    pass_tokens: int = 16
    prompts: tuple[str, ...] = ()
    layers: int = 6
    experts: int = 16
    active: int = 2
    width: int = 256
    hidden: int = 512
    name = "experts"

    def __post_init__(self) -> None:
        if not self.shares or not all(0.0 < share <= 1.0 for share in self.shares):
            raise ConfigError(f"budgets are {self.shares}; give shares above 0 and at most 1")
        if self.prompts and len(self.prompts) < self.sessions:
            raise ConfigError(f"{len(self.prompts)} prompts are too few for {self.sessions} sessions")
        if min(self.sessions, self.pass_tokens) < 1 or self.sessions * self.draft <= self.pass_tokens:
            raise ConfigError(f"a pass of {self.pass_tokens} tokens holds the runs of all {self.sessions} sessions")
        if self.copy_ratio <= 0.0 or self.host_slowdown < 1.0 or min(self.passes, self.together, self.draft) < 1:
            raise ConfigError("ratios must be above 0, a slowdown at least 1, and there must be passes of tokens")

    @property
    def steps(self) -> int:
        groupings = len(self.shares) * len(GROUPINGS) if self.model else 0
        return self.rounds * (2 + len(self.shares) * len(self._names) + groupings)

    @property
    def _names(self) -> tuple[str, ...]:
        return (BASELINE, *(name for name in self.policies if name != BASELINE))

    async def measure(self, step: Step) -> dict[str, Any]:
        return await asyncio.to_thread(self._measure, step)

    def _measure(self, step: Step) -> dict[str, Any]:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            drive = self._real() if self.model else self._synthetic()
            return self._rounds(drive, step)
        finally:
            torch.set_num_threads(before)

    def _rounds(self, drive: Drive, step: Step) -> dict[str, Any]:
        from updraft.engine.torch_experts import ResidentExperts
        from updraft_cloud.experts.host import HostExperts

        runs: dict[tuple[float, str], list[dict[str, Any]]] = {}
        slow, link = self.host_slowdown, EmulatedLink(self.copy_ratio)
        for _ in range(self.rounds):
            runs.setdefault((1.0, _RESIDENT), []).append(drive(ResidentExperts))
            step(_RESIDENT)
            runs.setdefault((0.0, _HOST), []).append(drive(lambda source: HostExperts(source, slow)))
            step(_HOST)
            for share in self.shares:
                for name in self._names:
                    make = policy_experts(name, share, link)
                    runs.setdefault((share, name), []).append(drive(make))
                    step(f"{name} at {share:.0%}")
        rows = _rows(runs)
        default = [row for row in rows if row["way"] == DEFAULT]
        groupings = self._groupings(link, step) if self.model else []
        same = all(row["same"] for row in (*rows, *groupings))
        return {
            "rows": rows,
            "groupings": groupings,
            "passed": same and all(row["vs_lru"] > 0.97 for row in default),
        }

    def _groupings(self, link: EmulatedLink, step: Step) -> list[dict[str, Any]]:
        """One comparison more: how sessions of the model share passes that do not hold all of them."""
        from .prompts import PROMPTS

        prompts = (self.prompts or PROMPTS)[: self.sessions]
        texts = session_texts(self.model or "", prompts, self.passes, self.threads)
        crowd = Crowd(self.model or "", texts, self.draft, threads=self.threads)
        runs: dict[tuple[float, str], list[dict[str, Any]]] = {}
        for _ in range(self.rounds):
            for share in self.shares:
                for way, grouped in GROUPINGS.items():
                    tokens = self.sessions * self.draft if grouped is None else self.pass_tokens
                    make = policy_experts(DEFAULT, share, link, group=True)
                    runs.setdefault((share, way), []).append(crowd.read(make, tokens, grouped=bool(grouped)))
                    step(f"sessions {way} at {share:.0%}")
        return grouping_rows(runs)

    def _synthetic(self) -> Drive:
        sizes = SyntheticSizes(self.layers, self.experts, self.active, self.width, self.hidden)
        source = SyntheticMoe(sizes)
        passes = traffic(self.passes, together=self.together, draft=self.draft, vocabulary=sizes.vocabulary)

        def drive(make: Callable[[ExpertSource], Experts]) -> dict[str, Any]:
            clocked = Clocked(make(source))
            for number, tokens in enumerate(passes):
                if number + 1 < len(passes):  # of sessions that wait meanwhile
                    clocked.expect(passes[number + 1])
                result = source.forward(clocked, tokens)
                clocked.digest.update(result.numpy().tobytes())
            clocked.close()
            return _figures(clocked, clocked.digest.hexdigest())

        return drive

    def _real(self) -> Drive:
        from updraft_cloud.experts.recording import RecordingJob, record

        from .prompts import PROMPTS

        job = RecordingJob(PROMPTS[: 2 * self.together], self.passes, self.draft, together=self.together, ahead=False)

        def drive(make: Callable[[ExpertSource], Experts]) -> dict[str, Any]:
            made: list[Clocked] = []

            def clocked(source: ExpertSource) -> Experts:
                made.append(Clocked(make(source)))
                return made[0]

            trace = record(self.model or "", job, holder=clocked, context=512, threads=self.threads)
            return _figures(made[0], hashlib.sha256(trace.tokens.tobytes() + trace.routes.tobytes()).hexdigest())

        return drive

    def tables(self, results: dict[str, Any]) -> list[Table]:
        what = self.model or f"{self.layers} layers of {self.experts} random experts, {self.active} for a token"
        title = (
            f"Experts on the device: {what}; a copy takes {self.copy_ratio:g} times an expert's computing for a token; "
            f"{_HOST}: {self.host_slowdown:g} times as slow (emulated)"
        )
        tables = [table_of(title, results["rows"], _COLUMNS)]
        if results["groupings"]:
            title = (
                f"{self.sessions} sessions under {DEFAULT}, passes of {self.pass_tokens} tokens, runs of {self.draft}"
            )
            tables.append(table_of(title, results["groupings"], GROUPING_COLUMNS))
        return tables

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        from .experts_plot import plot_wall_clock

        plot_wall_clock(results["rows"], path, subtitle=f"a copy takes {self.copy_ratio:g} times an expert's computing")
        return True


Drive = Callable[[Callable[["ExpertSource"], "Experts"]], dict[str, Any]]


class EmulatedLink:
    """Throttles copies to `ratio` times an expert's computing for one token, which is measured at the first use."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._bytes_per_s: float | None = None

    def carrier(self, source: ExpertSource) -> Carrier:
        from updraft_cloud.experts.carriers import ThrottledCarrier
        from updraft_cloud.experts.host_weights import weight_bytes
        from updraft_cloud.experts.measuring import measure_costs

        if self._bytes_per_s is None:
            costs = measure_costs(source, ThrottledCarrier())
            self._bytes_per_s = weight_bytes(source.weights(0, 0)) / (self._ratio * costs.device(1))
        return ThrottledCarrier(self._bytes_per_s)


def policy_experts(
    name: str, share: float, link: EmulatedLink | None = None, *, group: bool = False
) -> Callable[[ExpertSource], OffloadedExperts]:
    """A store under a policy and a share of all experts, over a link, or the device's own."""
    from updraft_cloud.experts.carriers import make_carrier
    from updraft_cloud.experts.evaluation import slots_of
    from updraft_cloud.experts.host_weights import weight_bytes
    from updraft_cloud.experts.policies.registry import make_policy
    from updraft_cloud.experts.store import OffloadedExperts

    def make(source: ExpertSource) -> OffloadedExperts:
        carrier = make_carrier(source.device) if link is None else link.carrier(source)
        budget = slots_of(source.shape, share) * weight_bytes(source.weights(0, 0))
        return OffloadedExperts(
            source, lambda shape, slots: make_policy(name, shape, slots), budget, carrier, group=group
        )

    return make


def _figures(clocked: Clocked, digest: str) -> dict[str, Any]:
    """What one run of a way gave."""
    counts = getattr(clocked.inner, "statistics", None)
    figures = {"seconds": clocked.seconds, "tokens": clocked.tokens, "passes": clocked.passes, "digest": digest}
    if counts is None:
        return figures
    hidden = max(0.0, 1.0 - counts.stall_s / counts.copy_s) if counts.copy_s else None
    return figures | {
        "hit_rate": counts.hit_rate,
        "bytes_moved": counts.bytes_moved,
        "device_bytes": counts.most_bytes,
        "stall_share": counts.stall_s / clocked.seconds,
        "overlap": hidden,
        "useful_share": counts.useful / counts.prefetched if counts.prefetched else None,
    }


def _rows(runs: dict[tuple[float, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Medians over the rounds. Ratios are of runs of the same round, and of these the median, too."""
    resident = runs[1.0, _RESIDENT]
    rows = []
    for (share, way), own in runs.items():
        lru = runs.get((share, BASELINE))
        first = own[-1]
        row = {name: first.get(name) for name in ("hit_rate", "device_bytes", "stall_share", "overlap", "useful_share")}
        row |= {
            "budget_share": share,
            "way": way,
            "tokens": first["tokens"],
            "passes": first["passes"],
            "tokens_per_second": median(run["tokens"] / run["seconds"] for run in own),
            "mib_per_token": first.get("bytes_moved", 0) / first["tokens"] / 2**20,
            "vs_lru": lru and median(a["seconds"] / b["seconds"] for a, b in zip(lru, own, strict=True)),
            "vs_resident": median(a["seconds"] / b["seconds"] for a, b in zip(resident, own, strict=True)),
            "same": all(run["digest"] == resident[0]["digest"] for run in own),
        }
        rows.append(row)
    return rows
