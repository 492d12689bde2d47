"""What every engine refuses before native code sees it: options and runs out of range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from updraft.engine.base import Run
from updraft.errors import ConfigError, InvalidRequest, PromptTooLong

__all__ = ["ContextOptions", "checked_tokens"]


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """What an engine is opened with; counts of tokens, sequences and threads."""

    context: int
    sequences: int
    threads: int
    batch_tokens: int
    gpu_layers: int

    def check(self, model_context: int) -> None:
        """Refuse values that native code would not survive or would silently change.

        Raises:
            ConfigError: a value out of range.
        """
        for name, value, low, high in (
            ("context", self.context, 1, model_context),
            ("sequences", self.sequences, 1, 256),
            ("threads", self.threads, 1, 512),
            ("batch_tokens", self.batch_tokens, 1, 8192),
            ("gpu_layers", self.gpu_layers, -1, 10_000),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(
                    f"{name} is {value!r}, and must be a whole number from {low} to {high} for this model",
                    remedy=f"Set {name} to a value from {low} to {high}.",
                )


def checked_tokens(run: Run, *, length: int, context: int, max_run: int, vocabulary: int) -> NDArray[np.int32]:
    """The run's token ids, once nothing in the run is out of range; `length` is what its sequence holds.

    Raises:
        InvalidRequest: with the value that was given and the limit.
    """
    count = len(run.tokens)
    if not 1 <= count <= max_run:
        raise InvalidRequest(f"a run holds {count} tokens; it must be 1 to {max_run}")
    if run.position != length:
        raise InvalidRequest(f"a run starts at {run.position}, but sequence {run.sequence} holds {length} tokens")
    if length + count > context:
        raise PromptTooLong(f"{length} + {count} tokens do not fit a context of {context}")
    if not 0 <= run.rows <= count:
        raise InvalidRequest(f"{run.rows} rows asked of a run of {count} tokens")
    if count == 1 and type(run.tokens[0]) is int and 0 <= run.tokens[0] < vocabulary:
        return np.array(run.tokens, np.int32)  # a single step: the path of plain generation
    tokens = np.asarray(run.tokens)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise InvalidRequest("token ids must be whole numbers")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= vocabulary:
        wrong = low if low < 0 else high
        raise InvalidRequest(f"token {wrong} is not in the vocabulary of {vocabulary} tokens")
    return tokens.astype(np.int32)
