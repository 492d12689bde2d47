"""The ONNX Runtime engine: a staged model that can stop after any stage, go on later, or begin in the middle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from updraft.engine.base import FloatRows, ModelInfo, Output, Run, StageInfo, Tokenizer
from updraft.engine.checks import ContextOptions
from updraft.engine.onnx_model import StagedModel, load_model
from updraft.engine.onnx_part import Part
from updraft.engine.onnx_sequence import Layout, StagedSequence
from updraft.engine.saved_state import pack_state, unpack_state
from updraft.engine.staged_checks import CheckedRun, RunLimits, checked_run
from updraft.errors import EngineFailure, InvalidRequest, Overloaded, PromptTooLong
from updraft.exits.carry import Carry
from updraft.models.staged import Manifest

__all__ = ["OnnxEngine"]

_MAX_RUN = 128  # as of the llama.cpp engine: longer runs hold up the other sequences


class OnnxEngine:
    """An `updraft.engine.base.StagedEngine` on ONNX Runtime, on the CPU.

    Every run is computed by itself. Where the manifest says `exact`, rows are the same to the last bit however the work
    is cut into runs, stages and depths.

    Args:
        folder: a staged model folder.
        context: tokens that one sequence can hold.
        sequences: sequences that can be open at once; address space for all is taken now, memory as they grow.
        threads: CPU threads; the cores this process may use when left out.
        batch_tokens: positions in one native pass; longer catch-ups are cut into several.
        gpu_layers: must be 0; here so that all backends take the same options.
        name: what `info.name` says; the manifest's name when left out.
        last_stage: the deepest stage to load, which must end in an exit; all stages when left out.
        split: the stage whose boundary states are rounded to `carry` before anything reads them, so that this engine
            and a pair that is split there compute the same function.
        carry: precision at the split.

    Attributes:
        folder: where the model lies.
        manifest: what the folder says of itself.
        split, carry: as given.

    Raises:
        ModelError, ConfigError, MissingExtra, EngineFailure.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        context: int = 2048,
        sequences: int = 8,
        threads: int | None = None,
        batch_tokens: int = 512,
        gpu_layers: int = 0,
        name: str | None = None,
        last_stage: int | None = None,
        split: int | None = None,
        carry: Carry = "float32",
    ) -> None:
        self.folder = Path(folder)
        self.split, self.carry = split, carry
        self._free: list[bool] = []
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        options = ContextOptions(context, sequences, cores if threads is None else threads, batch_tokens, gpu_layers)
        model = load_model(self.folder, options, last_stage=last_stage, split=split, carry=carry)
        self._model: StagedModel | None = model
        self.manifest: Manifest = model.manifest
        self._info = model.info(name)
        self._tokenizer = model.tokenizer
        self._stages = model.stages
        self._limits = RunLimits(
            context, min(_MAX_RUN, batch_tokens, context), model.stages, self._info.vocabulary, self._info.width
        )
        layout = Layout(model.graphs, model.exits, self._info.width, context, batch_tokens, split, carry)
        self._owner = f"{self._info.fingerprint} {split} {carry}" if carry != "float32" else self._info.fingerprint
        try:
            self._sequences = [StagedSequence(layout) for _ in range(sequences)]
        except MemoryError:
            raise EngineFailure(
                f"no room for {sequences} sequences of {context} tokens",
                remedy="Start with a smaller --context or fewer --sequences; memory grows with their product.",
            ) from None
        self._free = [True] * sequences

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def stages(self) -> Sequence[StageInfo]:
        return self._stages

    @property
    def max_sequences(self) -> int:
        return len(self._free)

    @property
    def context(self) -> int:
        return self._limits.context

    @property
    def max_run(self) -> int:
        return self._limits.max_run

    def open(self) -> int:
        self._loaded()
        try:
            sequence = self._free.index(True)
        except ValueError:
            raise Overloaded(f"all {len(self._free)} sequences of the engine are taken") from None
        self._free[sequence] = False
        return sequence

    def length(self, sequence: int) -> int:
        return self._get(sequence).length

    def computed(self, sequence: int, stage: int) -> int:
        self._check_stage(stage)
        return self._get(sequence).computed(stage)

    def boundary(self, sequence: int, stage: int, start: int, stop: int) -> FloatRows:
        """See `StagedEngine.boundary`. At the split the states are those that travel: rounded to `carry`.

        The model's last stage has no boundary, and neither has a stage below the one at which the sequence entered.
        """
        self._check_stage(stage)
        computed = self._get(sequence).computed(stage)
        if not self._stages[stage].blocks and stage == len(self._stages) - 1:
            raise InvalidRequest(f"stage {stage} ends in the model's output; there is no boundary after it")
        if not 0 <= start <= stop <= computed:
            raise InvalidRequest(f"states {start} to {stop} after stage {stage}; {computed} have been computed")
        return _read_only(self._get(sequence).boundary(stage)[start:stop])

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        """See `Engine.forward`. Rows are read-only views, in the order of `runs`.

        Raises:
            PromptTooLong: a run reaches past the context.
        """
        model = self._loaded()
        checked = [checked_run(run, self._get(run.sequence), self._limits) for run in runs]
        if len(runs) > 1 and len({run.sequence for run in runs}) != len(runs):
            raise InvalidRequest("a pass takes at most one run of a sequence")
        try:
            work = [_compute(run) for run in checked]
            features = [_features(run) for run in checked]
            logits = model.head.logits(features)
        except Exception as error:
            raise EngineFailure(f"ONNX Runtime failed, and the pass was rolled back: {error}") from error
        for run, parts in zip(checked, work, strict=True):
            run.sequence.commit(run.entry, parts)
        return [
            Output(rows, _read_only(states) if run.hidden else None)
            for run, rows, states in zip(runs, logits, features, strict=True)
        ]

    def truncate(self, sequence: int, length: int) -> None:
        current = self.length(sequence)
        if not 0 <= length <= current:
            raise InvalidRequest(f"cannot truncate sequence {sequence} of {current} tokens to {length}")
        self._sequences[sequence].truncate(length)

    def fork(self, sequence: int) -> int:
        origin = self._get(sequence)
        copy = self.open()
        origin.copy_to(self._sequences[copy])
        return copy

    def close(self, sequence: int) -> None:
        self._get(sequence).truncate(0)
        self._free[sequence] = True

    def save(self, sequence: int) -> bytes:
        held = self._get(sequence)
        return pack_state(held.to_bytes(), fingerprint=self._owner, sequences=0, length=held.length)

    def restore(self, state: bytes) -> int:
        length, payload = unpack_state(state, fingerprint=self._owner, sequences=0, context=self.context)
        sequence = self.open()
        try:
            self._sequences[sequence].load(payload, length)
        except InvalidRequest:
            self.close(sequence)
            raise
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
        if len(tokens) > self.context:
            raise PromptTooLong(f"cannot embed {len(tokens)} tokens in a context of {self.context}")
        sequence = self.open()
        try:
            for start in range(0, len(tokens), self.max_run):
                self.forward([Run(sequence, start, tokens[start : start + self.max_run])])
            self.forward([Run(sequence, len(tokens), (), rows=1)])  # an exit at the end comes along for its rows only
            features = self._get(sequence).features(len(self._stages) - 1)
            total = features[: len(tokens)].sum(axis=0, dtype=np.float64)
        finally:
            self.close(sequence)
        unit: NDArray[np.float32] = (total / max(float(np.linalg.norm(total)), 1e-30)).astype(np.float32)
        return unit

    def shutdown(self) -> None:
        if self._model is not None:
            self._model.shutdown()
        self._model = None
        self._free, self._sequences = [True] * len(self._free), []

    def _get(self, sequence: int) -> StagedSequence:
        self._loaded()
        if not 0 <= sequence < len(self._free) or self._free[sequence]:
            raise InvalidRequest(f"sequence {sequence} is not open")
        return self._sequences[sequence]

    def _check_stage(self, stage: int) -> None:
        if not 0 <= stage < len(self._stages):
            raise InvalidRequest(f"there is no stage {stage}; the engine has {len(self._stages)}")

    def _loaded(self) -> StagedModel:
        if self._model is None:
            raise EngineFailure("the engine is shut down")
        return self._model


def _compute(run: CheckedRun[StagedSequence]) -> list[tuple[Part, int]]:
    stop = run.sequence.fill(run.entry, run.tokens, run.inputs)
    return run.sequence.compute(run.entry, run.depth, stop, rows=run.rows > 0)


def _features(run: CheckedRun[StagedSequence]) -> FloatRows:
    return run.sequence.features(run.depth)[run.stop - run.rows : run.stop]


def _read_only(rows: FloatRows) -> FloatRows:
    view = rows.view()
    view.flags.writeable = False
    return view
