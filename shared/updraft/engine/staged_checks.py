"""What staged engines refuse before anything is computed: options and runs out of range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from updraft.engine.base import FloatRows, Run, StageInfo
from updraft.engine.checks import checked_tokens
from updraft.errors import ConfigError, InvalidRequest
from updraft.exits.carry import CARRIES

__all__ = ["CheckedRun", "RunLimits", "StagedCache", "check_split", "checked_run", "loaded_stages"]

_NO_TOKENS: NDArray[np.int32] = np.empty(0, np.int32)


class StagedCache(Protocol):
    """What an engine keeps of a sequence: the positions that have passed the stage at which it begins."""

    entry: int

    @property
    def length(self) -> int: ...


CacheT = TypeVar("CacheT", bound=StagedCache)


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What an engine's runs must keep to; counts of tokens, and hidden states of `width` values."""

    context: int
    max_run: int
    stages: Sequence[StageInfo]
    vocabulary: int
    width: int


@dataclass(frozen=True, slots=True)
class CheckedRun(Generic[CacheT]):
    """A run that can be computed as it stands."""

    sequence: CacheT
    position: int
    tokens: NDArray[np.int32]
    inputs: FloatRows | None
    entry: int
    depth: int
    rows: int

    @property
    def stop(self) -> int:
        """The sequence's length afterwards."""
        return self.position + len(self.tokens)


def checked_run(run: Run, sequence: CacheT, limits: RunLimits) -> CheckedRun[CacheT]:
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


def loaded_stages(count: int, last_stage: int | None, exits: Mapping[int, int]) -> int:
    """How many of a model's `count` stages to load, the last of which must end in one of the exits, or the model.

    Raises ConfigError.
    """
    if last_stage is None:
        return count
    if isinstance(last_stage, bool) or not isinstance(last_stage, int) or not 0 <= last_stage < count:
        raise ConfigError(f"last_stage is {last_stage!r}; this model has the stages 0 to {count - 1}")
    if last_stage < count - 1 and last_stage not in exits:
        places = ", ".join(map(str, sorted(exits))) or "none"
        raise ConfigError(f"the model cannot end in stage {last_stage}, which has no exit (stages with one: {places})")
    return last_stage + 1


def check_split(loaded: int, stages: int, split: int | None, carry: str) -> None:
    """Raises ConfigError where states cannot be rounded to `carry` after stage `split` of a model's loaded `stages`."""
    if carry not in CARRIES:
        raise ConfigError(f"carry is {carry!r}; it must be one of {', '.join(CARRIES)}")
    if split is None:
        if carry != "float32":
            raise ConfigError(f"carry {carry} needs a split, the stage whose states travel")
        return
    last = min(loaded, stages - 1) - 1
    if isinstance(split, bool) or not isinstance(split, int) or not 0 <= split <= last:
        raise ConfigError(f"split is {split!r}; states can travel after the loaded stages 0 to {last}")
