"""The demonstration's figures: how they are computed, what they must show, and their JSON form."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from updraft import __version__
from updraft.generation import Completion
from updraft.modes import Mode

__all__ = ["DemoReport", "Outage", "Tier", "Way", "WayFigures", "figures"]


@dataclass(frozen=True, slots=True)
class Tier:
    """What runs where; sizes in bytes."""

    model: str
    quantisation: str
    layers: int
    weight_bytes: int
    pid: int
    cores: tuple[int, ...] | None
    threads: int
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """One way to answer: a row of the table."""

    mode: Mode
    temperature: float

    @property
    def reference(self) -> Way:
        """The way whose text this one is compared with: the cloud alone, sampled alike."""
        return Way(Mode.CLOUD, self.temperature)


@dataclass(frozen=True, slots=True)
class WayFigures:
    """Figures of one way over all prompts.

    Rates and times are medians over the prompts; what is per token is the total over the total of tokens.
    Passes and positions leave out the prompt, as `Statistics` does; bytes are those of gRPC's frames.

    Attributes:
        same_text: answers that equal the cloud's own, of `prompts`.
        degraded: answers that the edge had to finish alone.
    """

    mode: str
    temperature: float
    prompts: int
    tokens: int
    tokens_per_second: float
    cloud_passes_per_token: float
    cloud_positions_per_token: float
    cloud_share: float
    bytes_up_per_token: float
    bytes_down_per_token: float
    first_token_seconds: float
    same_text: int
    degraded: int

    @property
    def lossless(self) -> bool:
        return self.same_text == self.prompts


def figures(way: Way, answers: Sequence[Completion], references: Sequence[Completion]) -> WayFigures:
    """Figures of the answers of one way; `references` are the cloud's own to the same prompts."""
    counts = [answer.statistics for answer in answers]
    tokens = sum(count.tokens for count in counts)
    each = 1 / max(tokens, 1)
    pairs = zip(answers, references, strict=True)
    return WayFigures(
        mode=way.mode.value,
        temperature=way.temperature,
        prompts=len(answers),
        tokens=tokens,
        tokens_per_second=statistics.median(count.tokens_per_second for count in counts),
        cloud_passes_per_token=sum(count.cloud_passes for count in counts) * each,
        cloud_positions_per_token=sum(count.cloud_positions for count in counts) * each,
        cloud_share=sum(count.cloud_tokens for count in counts) * each,
        bytes_up_per_token=sum(count.bytes_up for count in counts) * each,
        bytes_down_per_token=sum(count.bytes_down for count in counts) * each,
        first_token_seconds=statistics.median(count.first_token_seconds for count in counts),
        same_text=sum(answer.text == reference.text for answer, reference in pairs),
        degraded=sum(answer.degraded for answer in answers),
    )


@dataclass(frozen=True, slots=True)
class Outage:
    """What became of the answer in whose middle the cloud was killed, and of the one after the restart.

    Attributes:
        killed_after: tokens that the answer had when the cloud was killed.
        alone: tokens that the edge then wrote by itself.
        reason: code of the error that made the edge go on alone.
        longest_pause_seconds: longest wait for a token after the kill.
        restart_seconds: from starting the cloud to its being ready.
    """

    killed_after: int
    tokens: int
    alone: int
    completed: bool
    degraded: bool
    reason: str | None
    longest_pause_seconds: float
    restart_seconds: float
    next_tokens: int
    next_cloud_passes: int
    next_degraded: bool

    @property
    def survived(self) -> bool:
        """The answer was completed, by the edge alone, and says so."""
        return self.completed and self.degraded and self.alone > 0

    @property
    def recovered(self) -> bool:
        """The answer after the restart was made by both tiers again."""
        return self.next_cloud_passes > 0 and not self.next_degraded


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Everything that the demonstration found."""

    edge: Tier
    cloud: Tier
    cores_apart: bool
    tokens: int
    seed: int
    ways: tuple[WayFigures, ...]
    outage: Outage

    @property
    def lossless(self) -> bool:
        """`draft` wrote the cloud's own text for every prompt, greedy and sampled."""
        return all(row.lossless for row in self.ways if row.mode == Mode.DRAFT)

    @property
    def passed(self) -> bool:
        return self.lossless and self.outage.survived and self.outage.recovered

    def to_json(self) -> dict[str, Any]:
        """A JSON object; names are those of the dataclasses here."""
        rows = [{**asdict(row), "lossless": row.lossless} for row in self.ways]
        return {
            "version": __version__,
            "passed": self.passed,
            "lossless": self.lossless,
            "one_machine": True,
            "cores_apart": self.cores_apart,
            "edge": asdict(self.edge),
            "cloud": asdict(self.cloud),
            "tokens": self.tokens,
            "seed": self.seed,
            "modes": rows,
            "outage": {
                **asdict(self.outage),
                "survived": self.outage.survived,
                "recovered": self.outage.recovered,
            },
        }
