"""Runs a staged model over text and notes what its exits say, beside what the whole model says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from updraft.engine.base import Run, StagedEngine
from updraft.errors import ConfigError, InvalidRequest
from updraft.exits.heads import ExitHead
from updraft.exits.scores import SCORES, ExitView, Score, ScoreName, make_score
from updraft.sampling import Sampler, SamplingParams

__all__ = ["Observations", "Passage", "collect"]

_CHUNK = 32  # positions whose logits are held at once


@dataclass(frozen=True, slots=True)
class Passage:
    """Token ids; those from `first` on are positions to learn from, each by what comes after it."""

    tokens: tuple[int, ...]
    first: int = 0


@dataclass(frozen=True, slots=True)
class Observations:
    """What every exit said at n positions.

    Attributes:
        stages: of the exits, the shallowest first.
        layers: below each of them.
        scores: by name, for each exit, float64, shape (n,).
        agreed: for each exit, whether it would write the whole model's token, shape (n,).
    """

    stages: tuple[int, ...]
    layers: tuple[int, ...]
    scores: Mapping[ScoreName, Sequence[NDArray[np.float64]]]
    agreed: Sequence[NDArray[np.bool_]]

    def __len__(self) -> int:
        return len(self.agreed[0])


def collect(
    engine: StagedEngine,
    passages: Sequence[Passage],
    *,
    positions: int,
    heads: Mapping[int, ExitHead] | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Observations:
    """Go through the passages until there are enough positions.

    Args:
        heads: for the score `q`; without a head for every exit it is left out.
        temperature: 0 compares argmax with argmax, above it compares what each draws with the same noise.
        progress: called with the number of positions done so far.

    Raises:
        ConfigError: the engine has no exits, or not the whole model behind them.
        InvalidRequest: a passage is longer than the engine's context, or there is no position to learn from.
    """
    stages = tuple(number for number, stage in enumerate(engine.stages) if stage.blocks)
    if not stages or engine.stages[-1].blocks:
        raise ConfigError("Exits can be calibrated where there are some, and the whole model behind them.")
    longest = max((len(passage.tokens) for passage in passages), default=0)
    if longest > engine.context:
        raise InvalidRequest(f"A passage has {longest} tokens; the engine's context holds {engine.context}.")
    heads = heads if heads and heads.keys() >= set(stages) else None
    scores = [make_score(name, heads) for name in SCORES if name != "q" or heads]
    values: list[list[list[float]]] = [[[] for _ in stages] for _ in scores]
    agreed: list[list[bool]] = [[] for _ in stages]
    walker = _Walker(engine, stages, features=heads is not None, temperature=temperature, seed=seed)
    for passage in passages:
        for trace, token in walker.walk(passage):
            _note(scores, values, trace)
            for place, view in enumerate(trace):
                agreed[place].append(view.token == token)
            if len(agreed[0]) >= positions:
                break
        if progress is not None:
            progress(len(agreed[0]))
        if len(agreed[0]) >= positions:
            break
    if not agreed[0]:
        raise InvalidRequest("There is no text to go through.")
    return Observations(
        stages,
        tuple(engine.stages[stage].last for stage in stages),
        {score.name: [np.array(column) for column in columns] for score, columns in zip(scores, values, strict=True)},
        [np.array(column) for column in agreed],
    )


def _note(scores: Sequence[Score], values: list[list[list[float]]], trace: Sequence[ExitView]) -> None:
    for score, columns in zip(scores, values, strict=True):
        for place, column in enumerate(columns):
            column.append(score(trace[: place + 1]))


class _Walker:
    """Gives, for every position, what the exits say of the next token, and the whole model's token."""

    def __init__(
        self, engine: StagedEngine, stages: Sequence[int], *, features: bool, temperature: float, seed: int
    ) -> None:
        self._engine = engine
        self._stages = stages
        self._features = features
        self._params = SamplingParams(temperature=temperature, seed=seed)

    def walk(self, passage: Passage) -> Iterator[tuple[list[ExitView], int]]:
        engine, tokens = self._engine, passage.tokens
        chunk = min(_CHUNK, engine.max_run)
        sequence = engine.open()
        try:
            for start in range(0, passage.first, chunk):
                engine.forward([Run(sequence, start, tokens[start : min(start + chunk, passage.first)])])
            for start in range(passage.first, len(tokens), chunk):
                yield from self._chunk(sequence, start, tokens[start : start + chunk])
        finally:
            engine.close(sequence)

    def _chunk(self, sequence: int, start: int, tokens: Sequence[int]) -> Iterator[tuple[list[ExitView], int]]:
        """All depths, one after the other, for some positions."""
        traces: list[list[ExitView]] = [[] for _ in tokens]
        run = Run(sequence, start, tokens, len(tokens), hidden=self._features, depth=self._stages[0])
        sampler = Sampler(self._params)
        for stage in (*self._stages, None):
            if traces[0] or stage is None:  # the tokens are in: from now on only deeper
                run = Run(sequence, start + len(tokens), (), len(tokens), self._features and stage is not None, stage)
            output = self._engine.forward([run])[0]
            drawn = [sampler.draw(row, start + place + 1) for place, row in enumerate(output.logits)]
            if stage is None:
                yield from zip(traces, (sampled.token for sampled in drawn), strict=True)
                return
            for place, sampled in enumerate(drawn):
                features = None if output.hidden is None else output.hidden[place].copy()
                traces[place].append(ExitView(stage, sampled.token, sampled.distribution, features))
