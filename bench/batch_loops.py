"""The same batches computed twice: by tasks of an engine loop, and by a bare loop around `llama_decode`."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from updraft.engine import open_engine
from updraft.engine.base import Engine, FloatRows, Output, Run
from updraft.engine.checks import ContextOptions
from updraft.engine.llama_batch import LlamaBatch, RowViews
from updraft.engine.llama_native import library, load_model, make_context
from updraft.engine.loop import EngineLoop, PassRecord, Priority, Want
from updraft.errors import EngineFailure, UpdraftError
from updraft.models import resolve

__all__ = ["BareBatches", "Block", "LoopBatches", "Shape"]

_SEEN: Final = 64  # logits of a last row that are compared


@dataclass(frozen=True, slots=True)
class Shape:
    """What every pass of a block holds.

    Attributes:
        name: for people.
        runs: tokens of each sequence's run, a row of logits for every one; sequences 0, 1, ...
        kept: tokens of each that stay in the cache: all of them where one is written, the accepted ones of a draft.
        depth: tokens in each cache when a block begins.
    """

    name: str
    runs: tuple[int, ...]
    kept: tuple[int, ...]
    depth: int

    @property
    def positions(self) -> int:
        return sum(self.runs)

    def tokens(self, sequence: int) -> list[int]:
        """Ids that every vocabulary has."""
        return [3 + (7 * sequence + number) % 61 for number in range(self.runs[sequence])]

    def prompt(self, sequence: int) -> list[int]:
        return [3 + (5 * sequence + number) % 59 for number in range(self.depth)]


@dataclass(frozen=True, slots=True)
class Block:
    """Some passes of one shape: their time, and the beginning of each sequence's last row, (sequences, 64)."""

    seconds: float
    last: FloatRows


class BareBatches:
    """`llama_decode` on arrays that stay filled: positions move on, drafts are cut off again. Nothing is checked."""

    name = "bare llama.cpp batch loop"

    def __init__(self, model: str, options: ContextOptions) -> None:
        self._lib: Any = library()
        self._model = load_model(resolve(model), options.gpu_layers)
        self._context = make_context(self._model, options)
        self._memory = self._lib.llama_get_memory(self._context)
        self._batch = LlamaBatch(self._lib, options.batch_tokens)
        self._rows = RowViews(self._lib.llama_vocab_n_tokens(self._lib.llama_model_get_vocab(self._model)))

    def prepare(self, shape: Shape) -> None:
        self._lib.llama_memory_clear(self._memory, True)
        for sequence in range(len(shape.runs)):
            for start in range(0, shape.depth, 64):
                part = shape.prompt(sequence)[start : start + 64]
                self._fill([Run(sequence, start, part)])
                self._decode()

    def block(self, shape: Shape, passes: int) -> Block:
        starts = [shape.depth] * len(shape.runs)
        self._fill([Run(number, shape.depth, shape.tokens(number), size) for number, size in enumerate(shape.runs)])
        moves = np.repeat(np.array(shape.kept, np.int32), shape.runs)
        cut = shape.kept != shape.runs
        started = time.perf_counter()
        for number in range(passes):
            if number:
                self._batch.position[: shape.positions] += moves
            self._decode()
            rows = self._rows.view(self._lib.llama_get_logits(self._context), shape.positions)
            starts = [start + kept for start, kept in zip(starts, shape.kept, strict=True)]
            for sequence, start in enumerate(starts if cut else ()):
                self._lib.llama_memory_seq_rm(self._memory, sequence, start, -1)
        seconds = time.perf_counter() - started
        last = rows[np.cumsum(shape.runs) - 1, :_SEEN].copy()
        for sequence in range(len(shape.runs)):
            self._lib.llama_memory_seq_rm(self._memory, sequence, shape.depth, -1)
        return Block(seconds, last)

    def close(self) -> None:
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)

    def _fill(self, runs: Sequence[Run]) -> None:
        self._batch.fill(runs, [np.asarray(run.tokens, np.int32) for run in runs])

    def _decode(self) -> None:
        status = self._lib.llama_decode(self._context, self._batch.native)
        if status:
            raise EngineFailure(f"llama_decode answered {status}.")


class LoopBatches:
    """An `EngineLoop` in its thread, with one task a sequence."""

    name = "engine loop"

    def __init__(self, model: str, options: ContextOptions, pass_tokens: int) -> None:
        self.records: list[PassRecord] = []
        self._engine = open_engine(
            model,
            context=options.context,
            sequences=options.sequences,
            threads=options.threads,
            batch_tokens=options.batch_tokens,
        )
        self._loop = EngineLoop(self._engine, pass_tokens=pass_tokens, observe=self.records.append)
        self._loop.start()
        self._clients: list[_Client] = []

    def prepare(self, shape: Shape) -> None:
        self._loop.call(partial(self._prepare, shape)).result()

    def block(self, shape: Shape, passes: int) -> Block:
        for client in self._clients:
            client.done.clear()
        started = time.perf_counter()
        self._loop.post(partial(self._begin, passes))
        for client in self._clients:
            client.done.wait()
        seconds = time.perf_counter() - started
        self._loop.call(self._rewind).result()
        return Block(seconds, np.stack([client.last for client in self._clients]))

    def close(self) -> None:
        self._loop.stop()

    def _prepare(self, shape: Shape) -> None:
        for client in self._clients:
            self._loop.remove(client)
            self._engine.close(client.sequence)
        self._clients = [_Client(self._engine, shape) for _ in shape.runs]
        for client in self._clients:
            self._loop.add(client)

    def _begin(self, passes: int) -> None:
        for client in self._clients:
            client.begin(passes)

    def _rewind(self) -> None:
        for client in self._clients:
            client.rewind()


class _Client:
    """Asks for the same run again and again, and looks at the results as little as the bare loop does."""

    def __init__(self, engine: Engine, shape: Shape) -> None:
        self.sequence = engine.open()
        self.done = threading.Event()
        self.last: FloatRows = np.zeros(_SEEN, np.float32)
        self._engine = engine
        self._depth = self._position = shape.depth
        self._tokens = shape.tokens(self.sequence)
        self._kept = shape.kept[self.sequence]
        self._priority = Priority.VERIFY if self._kept < len(self._tokens) else Priority.WRITE
        self._left = 0
        for start in range(0, shape.depth, 64):
            engine.forward([Run(self.sequence, start, shape.prompt(self.sequence)[start : start + 64])])

    def begin(self, passes: int) -> None:
        self._left = passes

    def rewind(self) -> None:
        self._position = self._depth
        self._engine.truncate(self.sequence, self._depth)

    def plan(self) -> Want | None:
        if not self._left:
            return None
        return Want(self._priority, Run(self.sequence, self._position, self._tokens, len(self._tokens)))

    def consume(self, run: Run, output: Output) -> None:
        self._position += self._kept
        if self._kept < len(run.tokens):
            self._engine.truncate(self.sequence, self._position)
        self._left -= 1
        if not self._left:
            self.last = output.logits[-1, :_SEEN].copy()
            self.done.set()

    def fail(self, error: UpdraftError) -> None:
        self.done.set()
