"""Who asks when, how much, and over which link: from traces of real services and networks."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

from updraft.errors import ConfigError

from .trace import Trace

__all__ = ["Asking", "Link", "Traffic", "links_of", "read_traffic"]

_AZURE: Final = Path("azure_llm_trace/AzureLLMInferenceTrace_conv.csv")
_MOONCAKE: Final = Path("mooncake_trace/conversation_trace.jsonl")
_ROUND_TRIPS: Final = Path("net_5gophers/All-Carriers/02-Round-Trip-Times/data.csv")
_BANDWIDTHS: Final = Path("net_abr_traces/traces_oboe.jsonl")
_LONG: Final = 0.9  # quantile of a trace's answers that becomes the longest answer of the bench


@dataclass(frozen=True, slots=True)
class Asking:
    """A session to come.

    Attributes:
        at_s: since the start.
        script: number of the recorded answer.
        tokens: how many of its tokens are asked for.
        edge: number of the link that it comes over.
    """

    at_s: float
    script: int
    tokens: int
    edge: int


@dataclass(frozen=True, slots=True)
class Link:
    """One edge's way to the cloud.

    Attributes:
        round_trip_s: there and back without load.
        trace: bandwidth over time; None for no limit.
    """

    name: str
    round_trip_s: float
    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """A request of a trace; requests of one `prefix` begin alike."""

    at_s: float
    answer: int
    prompt: int
    prefix: int | None = None


class Traffic:
    """Requests of a trace as sessions of recorded answers.

    Gaps keep the trace's proportions, so that bursts stay bursts, and are stretched to the wanted rate. Lengths of
    answers are scaled so that nine of ten fit the longest recorded one, and clipped. Prompts go by rank: the longest of
    the trace to the longest recorded; where it knows shared prefixes, requests of one prefix ask the same prompt.
    """

    def __init__(self, name: str, rows: Sequence[_Row]) -> None:
        self.name = name
        self._rows = rows

    def sessions(
        self, rate: float, seconds: float, prompts: Sequence[int], longest: Sequence[int], links: int, *, start: int
    ) -> list[Asking]:
        """Sessions of so many seconds at `rate` a second.

        Args:
            prompts, longest: tokens of each recorded prompt, and of its answer.
            links: how many there are.
            start: place in the trace to begin at; the same place gives the same sessions at every rate.
        """
        count = max(1, round(rate * seconds))
        first = start % len(self._rows)
        rows = [self._rows[(first + number) % len(self._rows)] for number in range(count + 1)]
        gaps = [max(0.0, after.at_s - before.at_s) for before, after in pairwise(rows)]
        stretch = seconds / sum(gaps) if sum(gaps) > 0.0 else 0.0
        ranked = sorted(range(len(prompts)), key=lambda number: prompts[number])
        edges = random.Random(start)
        found, now = [], 0.0
        for row, gap in zip(rows, gaps, strict=False):
            script = ranked[self._rank(row, len(ranked))]
            tokens = max(2, min(longest[script], round(row.answer * max(longest) / self._long)))
            found.append(Asking(now, script, min(tokens, longest[script]), edges.randrange(links)))
            now += gap * stretch
        return found

    @property
    def _long(self) -> float:
        answers = sorted(row.answer for row in self._rows)
        return max(1.0, float(answers[int(_LONG * (len(answers) - 1))]))

    def _rank(self, row: _Row, scripts: int) -> int:
        if row.prefix is not None:
            return random.Random(row.prefix).randrange(scripts)
        shorter = sum(other.prompt < row.prompt for other in self._rows)
        return min(scripts - 1, shorter * scripts // len(self._rows))


def read_traffic(data: Path | None, name: str) -> Traffic:
    """The trace `azure` or `mooncake` of the data folder; `poisson`, and any without a folder, is drawn.

    Raises ConfigError where the trace is unknown or its file cannot be read.
    """
    readers: dict[str, tuple[Path, Callable[[Path], list[_Row]]]] = {
        "azure": (_AZURE, _azure),
        "mooncake": (_MOONCAKE, _mooncake),
    }
    if name == "poisson" or data is None:
        return Traffic("poisson", _drawn())
    if name not in readers:
        raise ConfigError(f"There is no trace {name!r}.", remedy="Choose azure, mooncake or poisson.")
    path, reader = readers[name]
    try:
        rows = reader(data / path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{data / path} cannot be read as a trace of requests: {error}.") from error
    if len(rows) < 2:
        raise ConfigError(f"{data / path} has {len(rows)} requests.")
    return Traffic(name, rows)


def links_of(data: Path | None, count: int, seed: int = 0) -> list[Link]:
    """Links with measured round trips (5Gophers) and bandwidths (Oboe); 20 ms without a limit where there is no data.

    Raises ConfigError where a file cannot be read.
    """
    if data is None:
        return [Link("20 ms", 0.02)] * count
    chosen = random.Random(seed)
    try:
        with (data / _ROUND_TRIPS).open(encoding="utf-8", newline="") as file:
            found: dict[str, list[float]] = {}
            for row in csv.DictReader(file):
                found.setdefault(f"{row['carrier']} to {row['server_location']}", []).append(float(row["rtt_ms"]))
        lines = (data / _BANDWIDTHS).read_text(encoding="utf-8").splitlines()
        names = [str(json.loads(line)["name"]) for line in lines if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{data} holds no traces of links: {error}.") from error
    links = []
    for place in chosen.sample(sorted(found), min(count, len(found))) * (1 + count // max(1, len(found))):
        trace = Trace.read(data / _BANDWIDTHS, chosen.choice(names))
        links.append(Link(place, median(found[place]) / 1e3, trace))
    return links[:count]


def _azure(path: Path) -> list[_Row]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            (_seconds(row["TIMESTAMP"]), int(row["GeneratedTokens"]), int(row["ContextTokens"]))
            for row in csv.DictReader(file)
        ]
    return [_Row(at_s - rows[0][0], answer, prompt) for at_s, answer, prompt in rows]


def _seconds(stamp: str) -> float:
    # Seven digits of a second: one more than datetime reads.
    return datetime.fromisoformat(stamp[:26]).timestamp()


def _mooncake(path: Path) -> list[_Row]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        blocks = row["hash_ids"]
        # The first block is the same for nearly all requests: the second one tells conversations apart.
        prefix = int(blocks[min(1, len(blocks) - 1)]) if blocks else None
        rows.append(_Row(row["timestamp"] / 1e3, int(row["output_length"]), int(row["input_length"]), prefix))
    return rows


def _drawn() -> list[_Row]:
    chance, now, rows = random.Random(0), 0.0, []
    for _ in range(2000):
        now += chance.expovariate(1.0)
        rows.append(_Row(now, 1 + int(chance.expovariate(1 / 40)), 1 + int(chance.expovariate(1 / 100))))
    return rows
