"""The llama.cpp engine: several sequences, one context, one pass at a time, bit-exact however the work is cut."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.engine.base import FloatRows, ModelInfo, Output, Run
from updraft.engine.checks import ContextOptions, checked_tokens
from updraft.engine.llama_batch import LlamaBatch, RowViews, grouped
from updraft.engine.llama_native import library, load_model, make_context
from updraft.engine.llama_state import read_sequence, write_sequence
from updraft.engine.llama_tokenizer import LlamaTokenizer
from updraft.engine.saved_state import pack_state, unpack_state
from updraft.errors import EngineFailure, InvalidRequest, Overloaded, PromptTooLong
from updraft.models.gguf_info import read_model_info

__all__ = ["LlamaEngine"]

_CLOSED = -1
_MAX_RUN = 128  # longer prefill runs gain under 2 %, and hold up the other sequences
_NO_ROOM = 1  # llama_decode: no free cells


class LlamaEngine:
    """An `updraft.engine.base.Engine` on llama.cpp.

    Args:
        path: a .gguf file.
        context: tokens that one sequence can hold.
        sequences: sequences that can be open at once; memory for all is taken now.
        threads: CPU threads; the cores this process may use when left out.
        batch_tokens: tokens in one native pass; larger `forward` calls are cut into several.
        gpu_layers: layers computed by a GPU, -1 for all. Bit-exactness is promised for 0 only.
        name: what `info.name` says; the file's stem when left out.

    Raises:
        ModelError, ConfigError, MissingExtra, EngineFailure.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        context: int = 2048,
        sequences: int = 8,
        threads: int | None = None,
        batch_tokens: int = 512,
        gpu_layers: int = 0,
        name: str | None = None,
    ) -> None:
        path = Path(path)
        self._model: Any = None
        self._native: Any = None
        self._lengths: list[int] = []
        info = read_model_info(path)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        options = ContextOptions(context, sequences, cores if threads is None else threads, batch_tokens, gpu_layers)
        options.check(info.context_length)
        self._lib = library()
        self._lengths = [_CLOSED] * sequences
        self._context, self._capacity = context, batch_tokens
        self._max_run = min(_MAX_RUN, batch_tokens, context)
        self._vocabulary, self._width = info.vocabulary, info.width
        self._model = load_model(path, gpu_layers)
        try:
            self._native = make_context(self._model, options)
            self._memory = self._lib.llama_get_memory(self._native)
            self._tokenizer = LlamaTokenizer(self._lib.llama_model_get_vocab(self._model))
            if self._tokenizer.vocabulary != info.vocabulary:
                raise EngineFailure(f"llama.cpp reads {self._tokenizer.vocabulary} tokens, not {info.vocabulary}")
        except BaseException:
            self.shutdown()
            raise
        ends = info.end_tokens | self._tokenizer.end_tokens()
        self._info = replace(info, name=name or path.stem, end_tokens=ends)
        self._batch = LlamaBatch(self._lib, batch_tokens)
        self._rows, self._states = RowViews(self._vocabulary), RowViews(self._width)

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def tokenizer(self) -> LlamaTokenizer:
        return self._tokenizer

    @property
    def max_sequences(self) -> int:
        return len(self._lengths)

    @property
    def context(self) -> int:
        return self._context

    @property
    def max_run(self) -> int:
        return self._max_run

    def open(self) -> int:
        # The lowest number: llama.cpp puts only neighbouring sequences into one pass.
        self._require_open_engine()
        try:
            sequence = self._lengths.index(_CLOSED)
        except ValueError:
            raise Overloaded(f"all {len(self._lengths)} sequences of the engine are taken") from None
        self._lengths[sequence] = 0
        return sequence

    def length(self, sequence: int) -> int:
        if not 0 <= sequence < len(self._lengths) or self._lengths[sequence] == _CLOSED:
            self._require_open_engine()
            raise InvalidRequest(f"sequence {sequence} is not open")
        return self._lengths[sequence]

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        """See `Engine.forward`. Rows are views into llama.cpp's own buffer, read-only, in the order of `runs`.

        Raises:
            Overloaded: llama.cpp found no room in its cache for the tokens; nothing has changed.
            PromptTooLong: a run reaches past the context.
        """
        if len(runs) == 1 and len(runs[0].tokens) == 1 and not runs[0].hidden:
            return [self._step(runs[0])]
        return self._pass(runs)

    def truncate(self, sequence: int, length: int) -> None:
        current = self.length(sequence)
        if not 0 <= length <= current:
            raise InvalidRequest(f"cannot truncate sequence {sequence} of {current} tokens to {length}")
        if length < current:
            self._remove(sequence, length)
            self._lengths[sequence] = length

    def fork(self, sequence: int) -> int:
        # Not llama_memory_seq_cp: between streams it copies the whole context, and only at the next decode, so that
        # a save or restore before it would read or write the wrong cells.
        length = self.length(sequence)
        copy = self.open()
        if length:
            self._load(copy, length, write_sequence(self._lib, self._native, sequence))
        return copy

    def close(self, sequence: int) -> None:
        if self.length(sequence):
            self._remove(sequence, 0)
        self._lengths[sequence] = _CLOSED

    def save(self, sequence: int) -> bytes:
        length = self.length(sequence)
        payload = write_sequence(self._lib, self._native, sequence) if length else b""
        return pack_state(payload, fingerprint=self._info.fingerprint, sequences=len(self._lengths), length=length)

    def restore(self, state: bytes) -> int:
        length, payload = unpack_state(
            state, fingerprint=self._info.fingerprint, sequences=len(self._lengths), context=self._context
        )
        sequence = self.open()
        if length:
            self._load(sequence, length, payload)
        return sequence

    def embed(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """See `Engine.embed`. Takes a free sequence for the while.

        Raises:
            InvalidRequest: no tokens, or one outside the vocabulary.
            PromptTooLong: more tokens than the context.
            Overloaded: no sequence is free.
        """
        if len(tokens) == 0:
            raise InvalidRequest("cannot embed an empty text")
        if len(tokens) > self._context:
            raise PromptTooLong(f"cannot embed {len(tokens)} tokens in a context of {self._context}")
        sequence, total = self.open(), np.zeros(self._width, np.float64)
        try:
            for start in range(0, len(tokens), self._max_run):
                part = tokens[start : start + self._max_run]
                (output,) = self._pass([Run(sequence, start, part, rows=len(part), hidden=True)])
                assert output.hidden is not None  # noqa: S101  # asked for one line above
                total += output.hidden.sum(axis=0, dtype=np.float64)
        finally:
            self.close(sequence)
        return (total / max(float(np.linalg.norm(total)), 1e-30)).astype(np.float32)

    def shutdown(self) -> None:
        if self._native is not None:
            self._lib.llama_free(self._native)
        if self._model is not None:
            if hasattr(self, "_tokenizer"):
                self._tokenizer.shutdown()
            self._lib.llama_model_free(self._model)
        self._native = self._model = None
        self._lengths = [_CLOSED] * len(self._lengths)

    def _step(self, run: Run) -> Output:
        """One token of one sequence: what plain generation does all the time."""
        sequence, position, rows, token = run.sequence, run.position, run.rows, run.tokens[0]
        if not (
            0 <= sequence < len(self._lengths)
            and 0 <= position == self._lengths[sequence] < self._context
            and 0 <= rows <= 1
            and type(token) is int
            and 0 <= token < self._vocabulary
            and run.depth is None
            and run.inputs is None
            and run.entry == 0
        ):
            self._check(run)  # raises with the reason, or the token is an integer of another type
        self._batch.fill_one(sequence, position, token, rows)
        self._decode([run])
        self._lengths[sequence] = position + 1
        return Output(self._logits(rows))

    def _pass(self, runs: Sequence[Run]) -> list[Output]:
        tokens = [self._check(run) for run in runs]
        if len({run.sequence for run in runs}) != len(runs):
            raise InvalidRequest("a pass takes at most one run of a sequence")
        # llama.cpp computes sequences together only when their numbers follow on each other in the batch: no order
        # gives it fewer parts to compute than this (see test_llama_order).
        order = sorted(range(len(runs)), key=lambda index: runs[index].sequence)
        groups = list(grouped(order, [len(ids) for ids in tokens], self._capacity))
        outputs: dict[int, Output] = {}
        for group in groups:
            chosen = [runs[index] for index in group]
            self._batch.fill(chosen, [tokens[index] for index in group])
            results = self._compute(chosen, undo=runs, keep=len(groups) > 1)
            outputs.update(zip(group, results, strict=True))
        for run in runs:
            self._lengths[run.sequence] = run.position + len(run.tokens)
        return [outputs[index] for index in range(len(runs))]

    def _compute(self, runs: list[Run], *, undo: Sequence[Run], keep: bool) -> list[Output]:
        """Decode the filled batch and cut its rows into outputs; copies when `keep` (another decode follows)."""
        hidden = any(run.hidden for run in runs)
        if hidden:
            self._lib.llama_set_embeddings(self._native, True)
        try:
            self._decode(undo)
            # With embeddings on, llama.cpp gives a row for every token.
            counts = [len(run.tokens) if hidden else run.rows for run in runs]
            logits = self._logits(sum(counts))
            states = self._states.view(self._lib.llama_get_embeddings(self._native), sum(counts)) if hidden else None
        finally:
            if hidden:
                self._lib.llama_set_embeddings(self._native, False)
        if keep:
            logits, states = logits.copy(), None if states is None else states.copy()
        outputs, end = [], 0
        for run, count in zip(runs, counts, strict=True):
            end += count
            rows = slice(end - run.rows, end)
            outputs.append(Output(logits[rows], states[rows] if states is not None and run.hidden else None))
        return outputs

    def _decode(self, undo: Sequence[Run]) -> None:
        status = self._lib.llama_decode(self._native, self._batch.native)
        if status == 0:
            return
        for run in undo:
            self._remove(run.sequence, run.position)
        if status == _NO_ROOM:
            raise Overloaded(f"no room in the cache for {self._batch.native.n_tokens} more tokens")
        raise EngineFailure(f"llama_decode failed with status {status}; the pass was rolled back")

    def _logits(self, rows: int) -> FloatRows:
        """The last decode's rows in batch order: llama.cpp sorts them back when they are asked for."""
        return self._rows.view(self._lib.llama_get_logits(self._native), rows)

    def _check(self, run: Run) -> NDArray[np.int32]:
        if run.depth is not None or run.inputs is not None or run.entry:
            raise InvalidRequest("llama.cpp computes a model whole: a run can have no depth, inputs or entry")
        return checked_tokens(
            run,
            length=self.length(run.sequence),
            context=self._context,
            max_run=self._max_run,
            vocabulary=self._vocabulary,
        )

    def _require_open_engine(self) -> None:
        if self._native is None:
            raise EngineFailure("the engine is shut down")

    def _remove(self, sequence: int, start: int) -> None:
        if not self._lib.llama_memory_seq_rm(self._memory, sequence, start, -1):
            raise EngineFailure(f"llama.cpp could not remove positions from {start} of sequence {sequence}")

    def _load(self, sequence: int, length: int, payload: Any) -> None:
        """Fill the newly opened `sequence`; it is closed again when native code refuses the bytes."""
        read = read_sequence(self._lib, self._native, sequence, payload)
        last = self._lib.llama_memory_seq_pos_max(self._memory, sequence)
        if read != len(payload) or last != length - 1:
            self._remove(sequence, 0)
            self._lengths[sequence] = _CLOSED
            raise InvalidRequest(f"llama.cpp cannot restore a sequence of {length} tokens from {len(payload)} bytes")
        self._lengths[sequence] = length
