"""The passes of the torch engine: which positions go through which layers together, and the rows that come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from updraft.engine.base import FloatRows, Output, Run
from updraft.engine.llama_batch import grouped
from updraft.engine.staged_checks import CheckedRun
from updraft.engine.torch_cache import SequenceCache
from updraft.engine.torch_model import Decoder, Span
from updraft.engine.torch_open import TorchModel

__all__ = ["TorchRun", "commit", "compute", "float_rows", "outputs_of"]

TorchRun = CheckedRun[SequenceCache]


@dataclass(frozen=True, slots=True)
class _Segment:
    """Positions `start` to `stop` of a run's sequence that go through the layers `first` to `last`, both included.

    Attributes:
        run: its number in the call.
        inputs: hidden states that enter here, float32, shape (stop - start, width).
    """

    run: int
    cache: SequenceCache
    first: int
    last: int
    start: int
    stop: int
    inputs: FloatRows | None

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def tokens(self) -> NDArray[np.int64]:
        return self.cache.tokens[self.start : self.stop]


@torch.inference_mode()
def compute(
    model: TorchModel, runs: Sequence[TorchRun], capacity: int, expect: Callable[[Sequence[int]], None]
) -> list[Tensor]:
    """Normalised states of the rows that each run asks for, shape (rows, width). Nothing counts before `commit`.

    Runs that go through the same layers share passes. A position that stopped short of a run's depth is caught up from
    the states that were kept there.

    Args:
        capacity: positions in one pass; longer work is cut.
        expect: told the token ids that wait for the second pass and later ones, when the first is computed.
    """
    decoder = model.decoder
    for run in runs:
        run.sequence.tokens[run.position : run.stop] = run.tokens
    work = [segment for number, run in enumerate(runs) for segment in _segments(number, run, decoder, capacity)]
    passes = list(_passes(work, capacity))
    if len(passes) > 1:
        expect(np.concatenate([segment.tokens for later in passes[1:] for segment in later]).tolist())
    found: list[list[Tensor]] = [[] for _ in runs]
    for segments in passes:
        states = _advance(model, segments)
        for segment, own in zip(segments, torch.split(states, [segment.rows for segment in segments]), strict=True):
            run = runs[segment.run]
            begin = max(segment.start, run.stop - run.rows)
            if segment.last == decoder.result(run.depth) and begin < segment.stop:
                found[segment.run].append(decoder.features(own[begin - segment.start :], segment.last))
    none = torch.empty((0, model.info.width), dtype=model.cache_shape.dtype, device=model.cache_shape.device)
    return [torch.cat(rows) if rows else none for rows in found]


def commit(decoder: Decoder, runs: Sequence[TorchRun]) -> None:
    """What the runs have computed counts."""
    for run in runs:
        done = dict.fromkeys(range(run.entry, run.depth + 1), run.stop)
        if run.rows:
            done[decoder.result(run.depth)] = run.stop
        run.sequence.commit(run.entry, done)


@torch.inference_mode()
def outputs_of(model: TorchModel, runs: Sequence[Run], features: Sequence[Tensor]) -> list[Output]:
    """The rows that were asked for; the output matrix is read once for all of them."""
    wanted = any(len(own) for own in features)
    rows = torch.cat(list(features)) if wanted else None
    logits = (
        float_rows(model.decoder.logits(rows)) if rows is not None else np.empty((0, model.info.vocabulary), np.float32)
    )
    outputs, end = [], 0
    for run, own in zip(runs, features, strict=True):
        place = slice(end, end := end + len(own))
        outputs.append(Output(logits[place], float_rows(own) if run.hidden else None))
    return outputs


def float_rows(values: Tensor) -> FloatRows:
    """In host memory, and read-only."""
    rows: FloatRows = values.float().cpu().numpy()
    rows.flags.writeable = False
    return rows


def _segments(number: int, run: TorchRun, decoder: Decoder, capacity: int) -> Iterator[_Segment]:
    """Layers that lack the same positions go together; an exit follows its stage only when its rows are asked for."""
    cache = run.sequence
    layers = [*range(run.entry, run.depth + 1)]
    ranges = [list(own) for _, own in groupby(layers, cache.computed)]
    if run.rows and (result := decoder.result(run.depth)) != run.depth:
        ranges.append([result])
    for own in ranges:
        entering = run.inputs if own[0] == run.entry else None
        for start in range(cache.computed(own[0]), run.stop, capacity):
            stop = min(start + capacity, run.stop)
            inputs = None if entering is None else entering[start - run.position : stop - run.position]
            yield _Segment(number, cache, own[0], own[-1], start, stop, inputs)


def _passes(work: list[_Segment], capacity: int) -> Iterator[list[_Segment]]:
    """From the bottom, since a run's later segments read what its earlier ones leave."""
    ordered = sorted(work, key=_layers)  # stable: the parts of a long segment stay in order, and each fills a pass
    for _, together in groupby(ordered, key=_layers):
        own = list(together)
        for places in grouped(range(len(own)), [segment.rows for segment in own], capacity):
            yield [own[place] for place in places]


def _layers(segment: _Segment) -> tuple[int, int]:
    return segment.first, segment.last


def _advance(model: TorchModel, segments: Sequence[_Segment]) -> Tensor:
    """Hidden states of all positions of one pass after its last layer."""
    decoder, (first, last) = model.decoder, _layers(segments[0])
    spans = [Span(segment.cache, segment.start, segment.rows) for segment in segments]
    tokens = torch.from_numpy(np.concatenate([segment.tokens for segment in segments])).to(model.cache_shape.device)
    entering = decoder.embedding[tokens] if first == 0 else torch.cat([_entering(model, own) for own in segments])
    below = decoder.sparse_below(first)
    if model.experts is None or decoder.sparse_below(last + 1) == below:
        return decoder.advance(entering, spans, first, last)
    try:
        model.experts.begin(tokens, below)
        return decoder.advance(entering, spans, first, last, model.experts)
    finally:
        model.experts.end()


def _entering(model: TorchModel, segment: _Segment) -> Tensor:
    shape = model.cache_shape
    if segment.inputs is not None:
        return torch.from_numpy(np.array(segment.inputs)).to(shape.device, shape.dtype)
    held = segment.cache.states(model.decoder.source(segment.first))
    assert held is not None  # noqa: S101  # runs stop only where states are kept
    return held[segment.start : segment.stop].to(shape.dtype)
