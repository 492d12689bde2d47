"""Lets a model answer prompts and records its routes: prompts in chunks, then drafts and verdicts as in the cloud."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from updraft.engine.base import Engine, Run
from updraft.engine.experts import Experts, ExpertSource, MakeExperts
from updraft.errors import ConfigError
from updraft_cloud.experts.recorder import RecordedRun, RouteRecorder
from updraft_cloud.experts.trace import RouteTrace, RowKind

__all__ = ["RecordingJob", "record"]

_CHUNK: Final = 48


@dataclass(frozen=True)
class RecordingJob:
    """What is recorded.

    Attributes:
        tokens: of each answer, at most; greedy.
        draft: tokens of a run: the last committed one and drafted ones; 1 writes token by token.
        acceptance: chance that a drafted token is the answer's; else it is the most probable other one, which is what a
            good drafter gets wrong. So the drafts are made up; the routes of their tokens are real.
        together: answers that are written at once.
        ahead: also record what looking one layer ahead says.
        follow: each prompt's own end is the answer, in place of what the model writes: a model that repeats itself
            chooses the same experts again and again.
    """

    prompts: Sequence[str] = field(repr=False)
    tokens: int = 64
    draft: int = 4
    acceptance: float = 0.75
    together: int = 4
    ahead: bool = True
    seed: int = 0
    follow: bool = False

    def __post_init__(self) -> None:
        if not self.prompts or self.tokens < 1 or self.draft < 1 or not 1 <= self.together <= 64:
            raise ConfigError("a recording needs prompts, and at least one token, one drafted and one answer at once")
        if not 0.0 <= self.acceptance <= 1.0:
            raise ConfigError(f"acceptance is {self.acceptance}; it must be from 0 to 1")


def record(
    model: str | Path,
    job: RecordingJob,
    *,
    holder: MakeExperts | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: Any,
) -> RouteTrace:
    """Answer the prompts with a torch engine and give its trace.

    Args:
        holder: of the experts meanwhile; all stay on the device when left out.
        progress: told how many answers of how many are recorded.
        options: of the engine.

    Raises:
        ConfigError: the model has no experts.
        ModelError, MissingExtra: as opening it does.
    """
    from updraft.engine import open_engine
    from updraft.engine.torch_experts import ResidentExperts

    made: list[tuple[RouteRecorder, str]] = []

    def make(source: ExpertSource) -> Experts:
        own = RouteRecorder((holder or ResidentExperts)(source), source.shape, source if job.ahead else None)
        made.append((own, source.fingerprint))
        return own

    engine = open_engine(model, backend="torch", experts=make, sequences=job.together, **options)
    try:
        if not made:
            raise ConfigError(f"{engine.info.name} has no routed experts.", remedy="Name a mixture-of-experts model.")
        recorder, fingerprint = made[0]
        texts = _texts(engine, job)
        for start in range(0, len(texts), job.together):
            _Group(engine, recorder, job, texts[start : start + job.together], start).answer()
            progress(min(start + job.together, len(texts)), len(texts))
        note = {name: getattr(job, name) for name in ("tokens", "draft", "acceptance", "together", "seed", "follow")}
        return recorder.trace(model=engine.info.name, fingerprint=fingerprint, note=note)
    finally:
        engine.shutdown()


def _texts(engine: Engine, job: RecordingJob) -> list[tuple[list[int], list[int]]]:
    """Prompts, and the answers that are given. Raises ConfigError where no text is long enough to be followed."""
    room = job.tokens + job.draft
    encoded = [engine.tokenizer.encode(prompt, special=True, start=True) for prompt in job.prompts]
    if not job.follow:
        return [(tokens[: max(1, engine.context - room)], []) for tokens in encoded]
    encoded = [tokens[: engine.context] for tokens in encoded if len(tokens) > room]
    if not encoded:
        raise ConfigError(f"No text has more than {room} tokens.", remedy="Give longer texts, or fewer tokens.")
    return [(tokens[:-room], tokens[-room:]) for tokens in encoded]


class _Group:
    """Answers that are written at once. Their sequences have numbers of their own in the trace."""

    def __init__(
        self,
        engine: Engine,
        recorder: RouteRecorder,
        job: RecordingJob,
        texts: Sequence[tuple[list[int], list[int]]],
        first: int,
    ) -> None:
        self._engine, self._recorder, self._job = engine, recorder, job
        self._prompts = [prompt for prompt, _ in texts]
        self._given = [given for _, given in texts]
        self._first = first
        self._random = random.Random(f"{job.seed} {first}")

    def answer(self) -> None:
        self._recorder.paused = True
        answers, seconds = self._written()
        self._recorder.paused = False
        sequences = [self._engine.open() for _ in self._prompts]
        self._read_prompts(sequences)
        if self._job.tokens > 1:
            self._verify(sequences, answers, seconds)
        for sequence in sequences:
            self._engine.close(sequence)

    def _written(self) -> tuple[list[list[int]], list[list[int]]]:
        """Answers, greedy ones where none are given, and for every place of them the most probable other token."""
        sequences = [self._engine.open() for _ in self._prompts]
        rows = self._read_prompts(sequences)
        answers: list[list[int]] = [[] for _ in self._prompts]
        seconds: list[list[int]] = [[] for _ in self._prompts]
        for step in range(self._job.tokens + self._job.draft):
            for place, row in enumerate(rows):
                second, best = np.argsort(row)[-2:].tolist()
                token = self._given[place][step] if self._given[place] else best
                answers[place].append(token)
                seconds[place].append(second if token == best else best)
            runs = [
                Run(sequence, len(prompt) + step, [answer[-1]], 1)
                for sequence, prompt, answer in zip(sequences, self._prompts, answers, strict=True)
            ]
            rows = [out.logits[0].copy() for out in self._engine.forward(runs)]
        for sequence in sequences:
            self._engine.close(sequence)
        return answers, seconds

    def _read_prompts(self, sequences: list[int]) -> list[Any]:
        """Prompts in chunks, those of all sequences in shared passes; the last rows of logits."""
        rows: list[Any] = [None] * len(sequences)
        for start in range(0, max(map(len, self._prompts)), _CHUNK):
            places = [place for place, prompt in enumerate(self._prompts) if len(prompt) > start]
            parts = [self._prompts[place][start : start + _CHUNK] for place in places]
            runs = [Run(sequences[place], start, part, 1) for place, part in zip(places, parts, strict=True)]
            kinds = [[RowKind.PROMPT] * len(part) for part in parts]
            for place, out in zip(places, self._forward(runs, places, kinds), strict=True):
                rows[place] = out.logits[-1].copy()
        return rows

    def _verify(self, sequences: list[int], answers: list[list[int]], seconds: list[list[int]]) -> None:
        """Runs of the last token and a draft, of which the part stands that is the model's own text."""
        done = [0] * len(sequences)  # tokens of the answer that are in the cache
        while places := [place for place, count in enumerate(done) if count < self._job.tokens - 1]:
            runs, stood = [], []
            for place in places:
                own, start = answers[place], done[place]
                length = min(self._job.draft, self._job.tokens - start)
                right = [self._random.random() < self._job.acceptance for _ in range(length - 1)]
                count = right.index(False) if False in right else length - 1
                tokens = own[start : start + length]
                if count < length - 1:
                    tokens[count + 1] = seconds[place][start + count + 1]
                runs.append(Run(sequences[place], len(self._prompts[place]) + start, tokens, len(tokens)))
                stood.append(count)
            kinds = [[RowKind.WRITTEN, *[RowKind.DRAFTED] * (len(run.tokens) - 1)] for run in runs]
            self._forward(runs, places, kinds)
            for place, run, count in zip(places, runs, stood, strict=True):
                self._recorder.judged(self._first + place, count)
                done[place] += count + 1
                self._engine.truncate(run.sequence, len(self._prompts[place]) + done[place])

    def _forward(self, runs: list[Run], places: list[int], kinds: list[list[RowKind]]) -> list[Any]:
        self._recorder.describe(
            [
                RecordedRun(self._first + place, run.position, kind)
                for place, run, kind in zip(places, runs, kinds, strict=True)
            ]
        )
        return list(self._engine.forward(runs))
