"""Runs of a staged model, checked before any of them is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from updraft.engine.base import FloatRows, Run, StageInfo
from updraft.engine.checks import checked_tokens
from updraft.engine.onnx_sequence import StagedSequence
from updraft.errors import InvalidRequest

__all__ = ["CheckedRun", "RunLimits", "checked_run"]

_NO_TOKENS: NDArray[np.int32] = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What an engine's runs must keep to; counts of tokens, and hidden states of `width` values."""

    context: int
    max_run: int
    stages: Sequence[StageInfo]
    vocabulary: int
    width: int


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """A run that can be computed as it stands."""

    sequence: StagedSequence
    position: int
    tokens: NDArray[np.int32]
    inputs: FloatRows | None
    entry: int
    depth: int
    rows: int


def checked_run(run: Run, sequence: StagedSequence, limits: RunLimits) -> CheckedRun:
    """The run, once nothing in it is out of range.

    Raises:
        InvalidRequest: with the value that was given and the limit.
        PromptTooLong: it reaches past the context.
    """
    length = sequence.length
    if len(run.tokens):
        tokens = checked_tokens(
            run, length=length, context=limits.context, max_run=limits.max_run, vocabulary=limits.vocabulary
        )
    else:
        tokens = _NO_TOKENS
        if run.position != length:
            raise InvalidRequest(f"a run starts at {run.position}, but sequence {run.sequence} holds {length} tokens")
        if length == 0 or not 0 <= run.rows <= length:
            raise InvalidRequest(f"{run.rows} rows asked of the {length} positions of sequence {run.sequence}")
    depth = _checked_depth(run, limits.stages)
    if length and run.entry != sequence.entry:
        raise InvalidRequest(f"a run enters at stage {run.entry}; its sequence began at stage {sequence.entry}")
    return CheckedRun(sequence, run.position, tokens, _checked_inputs(run, limits), run.entry, depth, run.rows)


def _checked_depth(run: Run, stages: Sequence[StageInfo]) -> int:
    last = len(stages) - 1
    depth = last if run.depth is None else run.depth
    for name, value, low in (("entry", run.entry, 0), ("depth", depth, run.entry)):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= last:
            raise InvalidRequest(f"{name} is {value!r}; it must be a stage from {low} to {last}")
    if depth < last and not stages[depth].blocks and (run.rows or run.hidden):
        raise InvalidRequest(f"stage {depth} has no exit; logits and hidden rows can be asked of stages that have one")
    return depth


def _checked_inputs(run: Run, limits: RunLimits) -> FloatRows | None:
    """Hidden states from elsewhere: native code would read past wrong shapes and spread what is not finite."""
    inputs = run.inputs
    if inputs is None:
        if run.entry and len(run.tokens):
            raise InvalidRequest(f"a run that enters at stage {run.entry} needs the hidden states that enter there")
        return None
    if not run.entry:
        raise InvalidRequest("hidden states cannot enter at stage 0, which begins with token ids")
    shape = (len(run.tokens), limits.width)
    if not isinstance(inputs, np.ndarray) or inputs.dtype != np.float32 or inputs.shape != shape:
        given = f"{inputs.dtype} {inputs.shape}" if isinstance(inputs, np.ndarray) else type(inputs).__name__
        raise InvalidRequest(f"hidden states are {given}; they must be float32 {shape}")
    if not np.isfinite(inputs).all():
        raise InvalidRequest("hidden states hold values that are not finite")
    return inputs
