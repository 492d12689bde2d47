"""The `Engine` protocol: one synchronous owner of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Engine", "FloatRows", "ModelInfo", "Output", "Run", "StageInfo", "StagedEngine", "Tokenizer"]

FloatRows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a tier says about its model; sizes are counts, weights are bytes."""

    name: str
    architecture: str
    layers: int
    width: int
    vocabulary: int
    context_length: int
    weight_bytes: int
    quantisation: str
    fingerprint: str  # hex digest of the weights file's header and tensors
    tokenizer_hash: str  # hex digest of vocabulary, merges, scores and special tokens
    end_tokens: frozenset[int]  # any of them ends an answer
    chat_template: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive tokens of one sequence to compute in one pass.

    Attributes:
        sequence: the sequence they belong to.
        position: position of the first token; must equal the sequence's cached length.
        tokens: 1 to `Engine.max_run` token ids; a `StagedEngine` takes none, too, to deepen earlier positions.
        rows: how many of the last tokens need a row of logits (0 to len(tokens)); without tokens of the positions that
            the run brings to its depth. Not every engine gives rows again.
        hidden: also return the last layer's normalised hidden state for these rows.
        depth: deepest stage to compute (`StagedEngine`); None for the whole model. Positions that stopped short of
            it are caught up in the same pass, so no position ever misses its keys and values.
        inputs: float32, shape (len(tokens), width): hidden states that enter at stage `entry` in place of the
            tokens' embeddings (`StagedEngine`).
        entry: the stage that `inputs` enter; one and the same for all runs of a sequence.
    """

    sequence: int
    position: int
    tokens: Sequence[int]
    rows: int = 0
    hidden: bool = False
    depth: int | None = None
    inputs: FloatRows | None = None
    entry: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """What a pass gives for one run: views that stay valid until the engine's next `forward`.

    Attributes:
        logits: float32, shape (rows, vocabulary).
        hidden: float32, shape (rows, width), when asked for.
    """

    logits: FloatRows
    hidden: FloatRows | None = None


class Tokenizer(Protocol):
    """Text to token ids and back, as the model file defines it."""

    def encode(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        """Token ids of `text`; `special` reads control tokens in it, `start` adds the model's BOS if it wants one."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes that a token adds to a text; empty for control tokens."""
        ...

    def written(self, token: int) -> str:
        """The token as a prompt template writes it: control tokens by their name, such as <|im_end|>."""
        ...


@runtime_checkable
class Engine(Protocol):
    """One model, several sequences in one context. Not thread-safe: `EngineLoop` owns it from one thread.

    Sequences are small integers. Nothing here samples; nothing here waits for a network. Positions of one
    sequence are computed to the same bits whatever other runs share the pass and however they are cut
    into runs, as long as every run holds at most `max_run` tokens (`updraft doctor` checks this).
    """

    @property
    def info(self) -> ModelInfo: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def max_sequences(self) -> int:
        """How many sequences can be open at once."""
        ...

    @property
    def context(self) -> int:
        """How many tokens one sequence can hold."""
        ...

    @property
    def max_run(self) -> int:
        """The longest run of one sequence in one pass."""
        ...

    def open(self) -> int:
        """Reserve an empty sequence. Raises Overloaded when all are taken."""
        ...

    def length(self, sequence: int) -> int:
        """Tokens in the sequence's cache."""
        ...

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        """Compute the runs in one pass; at most one run a sequence. On failure no sequence has changed.

        Raises:
            InvalidRequest: a token, position, length or row count out of range; nothing was computed.
            EngineFailure: native code failed.
        """
        ...

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all positions from `length` on."""
        ...

    def fork(self, sequence: int) -> int:
        """A new sequence with the same cache. Raises Overloaded when all are taken."""
        ...

    def close(self, sequence: int) -> None:
        """Forget a sequence and free its number. Closing twice is an InvalidRequest."""
        ...

    def save(self, sequence: int) -> bytes:
        """The sequence's cache as bytes that `restore` of the same model and context reads."""
        ...

    def restore(self, state: bytes) -> int:
        """A new sequence from saved bytes. Raises InvalidRequest when they do not fit this model."""
        ...

    def embed(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Mean hidden state over `tokens`, unit length, shape (width,)."""
        ...

    def shutdown(self) -> None:
        """Free native memory; the engine cannot be used afterwards. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class StageInfo:
    """A range of layers after which a staged model can stop or be entered: `first` to `last` (exclusive).

    Layers are counted from the bottom.

    Attributes:
        blocks: layers of the exit at its end; 0 for the last stage, which ends in the model's own output.
    """

    first: int
    last: int
    blocks: int


@runtime_checkable
class StagedEngine(Engine, Protocol):
    """An engine that can stop after any stage and go on later (early exit, CE-CoLLM, arXiv 2411.02829).

    `Run.depth` says how deep a run goes. `length` counts the positions that have passed a sequence's first stage.
    A hidden state is the sum that goes from one layer to the next, before any norm. The ONNX engine keeps those after
    every stage of its folder, the torch engine, whose stages are the layers, those where it was told to.
    """

    @property
    def stages(self) -> Sequence[StageInfo]: ...

    def computed(self, sequence: int, stage: int) -> int:
        """Positions that have passed `stage`."""
        ...

    def boundary(self, sequence: int, stage: int, start: int, stop: int) -> FloatRows:
        """Hidden states between `stage` and the next, shape (stop - start, width); a view valid until `forward`.

        Raises InvalidRequest where they have not been computed or are not kept.
        """
        ...
