"""Drafts of a real pair, recorded so that an edge can be replayed with its real timing and without computing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, Final

from updraft.engine import open_engine
from updraft.errors import ConfigError
from updraft.sampling import Distribution, Sampled

from .stopping_record import Asked, Done, choose, record, write_cloud_texts
from .stopping_replay import Recording

__all__ = ["Script", "Scripts", "read_scripts", "record_scripts", "write_scripts"]

_FORMAT: Final = 1
_DIGITS: Final = 6


@dataclass(frozen=True)
class Script:
    """One answer: its prompt, and what the edge drafts along the cloud's own greedy text.

    Attributes:
        read_s: seconds that the edge took to read the prompt.
        draft_s: seconds that each drafted token took, in the order in which they were drafted.
    """

    task: str
    prompt: tuple[int, ...]
    recording: Recording
    read_s: float
    draft_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """Median seconds of a drafted token."""
        return median(self.draft_s)

    def pace(self, start: int) -> Iterator[float]:
        """Seconds of one drafted token after the other, from some place in the record on, for ever."""
        return (self.draft_s[place % len(self.draft_s)] for place in count(start))


@dataclass(frozen=True)
class Scripts:
    """What a pair of models was recorded with.

    Attributes:
        tail: tokens that were drafted on where the edge leaves the cloud's text.
    """

    edge: str
    cloud: str
    tokenizer_hash: str
    tail: int
    scripts: tuple[Script, ...]

    @property
    def agreement(self) -> float:
        """Share of positions at which the edge drafts the cloud's token."""
        return sum(one.recording.share for one in self.scripts) / len(self.scripts)

    @property
    def draft_s(self) -> float:
        """Median seconds of a drafted token."""
        return median(seconds for one in self.scripts for seconds in one.draft_s)

    @property
    def longest(self) -> int:
        """Tokens of the longest answer."""
        return max(len(one.recording.text) for one in self.scripts)

    def paced(self, draft_s: float) -> Scripts:
        """The same drafts by edges that take so long for a token, and as much longer or shorter to read a prompt."""
        factor = draft_s / self.draft_s
        scripts = (replace(one, draft_s=(draft_s,), read_s=factor * one.read_s) for one in self.scripts)
        return replace(self, scripts=tuple(scripts))


def record_scripts(
    edge_model: str,
    cloud_model: str,
    questions: Sequence[Asked],
    *,
    each: int,
    longest_prompt: int,
    tokens: int,
    tail: int,
    context: int,
    threads: int | None,
    done: Done,
) -> Scripts:
    """Have the cloud's model write `each` prompts of every task, and the edge's draft from every place of the texts.

    Raises InvalidRequest where no prompt is short enough.
    """
    options: dict[str, Any] = {} if threads is None else {"threads": threads}
    cloud = open_engine(cloud_model, context=context, sequences=8, **options)
    try:
        asked = choose(questions, cloud, each, longest_prompt)
        texts = write_cloud_texts(cloud, asked, tokens, done)
    finally:
        cloud.shutdown()
    scripts = []
    edge = open_engine(edge_model, context=context, sequences=1, **options)
    try:
        for one, text in zip(asked, texts, strict=True):
            started = time.perf_counter()
            recording, times = record(edge, text, tail=tail)
            read_s = max(0.0, time.perf_counter() - started - sum(times))
            scripts.append(Script(one.task, tuple(text.prompt), recording, read_s, tuple(times)))
            done(f"drafts, {one.task}")
        return Scripts(edge_model, cloud_model, edge.info.tokenizer_hash, tail, tuple(scripts))
    finally:
        edge.shutdown()


def write_scripts(scripts: Scripts, path: Path) -> None:
    """As JSON; a token is [id, log-probability, energy, entropy, top probability]."""
    entries = [
        {
            "task": one.task,
            "prompt": one.prompt,
            "text": one.recording.text,
            "drafts": [_row(sampled) for sampled in one.recording.drafts],
            "tails": {place: [_row(sampled) for sampled in tail] for place, tail in one.recording.tails.items()},
            "read_s": round(one.read_s, _DIGITS),
            "draft_s": [round(seconds, _DIGITS) for seconds in one.draft_s],
        }
        for one in scripts.scripts
    ]
    head = {"edge": scripts.edge, "cloud": scripts.cloud, "tokenizer_hash": scripts.tokenizer_hash}
    document = {"format": _FORMAT, **head, "tail": scripts.tail, "scripts": entries}
    path.write_text(json.dumps(document) + "\n", encoding="utf-8")


def read_scripts(path: Path) -> Scripts:
    """Raises ConfigError where the file is none that `write_scripts` wrote."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT or not document["scripts"]:
            raise ValueError(f"format {document['format']} with {len(document['scripts'])} answers")
        scripts = tuple(_script(entry) for entry in document["scripts"])
        edge, cloud, tokenizer = (str(document[name]) for name in ("edge", "cloud", "tokenizer_hash"))
        return Scripts(edge, cloud, tokenizer, int(document["tail"]), scripts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} holds no recorded drafts: {error}.",
            remedy="`updraft bench capacity` records them and writes drafts.json.",
        ) from error


def _script(entry: dict[str, Any]) -> Script:
    text = tuple(int(token) for token in entry["text"])
    drafts = tuple(_sampled(row) for row in entry["drafts"])
    if not text or len(drafts) != len(text) or not entry["prompt"] or not entry["draft_s"]:
        raise ValueError("an answer is not complete")
    tails = {int(place): tuple(map(_sampled, rows)) for place, rows in entry["tails"].items()}
    missing = [place for place, drawn in enumerate(drafts) if drawn.token != text[place] and place not in tails]
    if missing:
        raise ValueError(f"nothing was drafted after place {missing[0]}")
    prompt = tuple(int(token) for token in entry["prompt"])
    draft_s = tuple(float(seconds) for seconds in entry["draft_s"])
    return Script(str(entry["task"]), prompt, Recording(text, drafts, tails), float(entry["read_s"]), draft_s)


def _row(sampled: Sampled) -> list[float]:
    distribution = sampled.distribution
    numbers = (sampled.logprob, distribution.energy, distribution.entropy, distribution.top_probability)
    return [sampled.token, *(round(number, _DIGITS) for number in numbers)]


def _sampled(row: Sequence[float]) -> Sampled:
    token, logprob, energy, entropy, top = row
    return Sampled(int(token), float(logprob), Distribution(float(energy), float(entropy), float(top)))
