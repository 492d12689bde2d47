"""The torch engine: Hugging Face models, dense and mixture-of-experts, several sequences in one pass."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from updraft.engine.base import FloatRows, ModelInfo, Output, Run, StageInfo, Tokenizer
from updraft.engine.checks import ContextOptions
from updraft.engine.experts import Experts, MakeExperts
from updraft.engine.saved_state import pack_state, unpack_state
from updraft.engine.staged_checks import RunLimits, checked_run
from updraft.engine.torch_cache import SequenceCache
from updraft.engine.torch_open import TorchModel, TorchOptions, open_model
from updraft.engine.torch_pass import TorchRun, commit, compute, float_rows, outputs_of
from updraft.engine.torch_quantised import ExpertBits
from updraft.errors import EngineFailure, InvalidRequest, Overloaded, PromptTooLong, UpdraftError
from updraft.exits.carry import Carry

__all__ = ["TorchEngine"]

_MAX_RUN = 128  # as of the other engines


class TorchEngine:
    """An `updraft.engine.base.StagedEngine` on torch, whose stages are the model's layers.

    Hidden states, the sums that go from one layer to the next before any norm, can enter after every layer. They are
    kept, so that runs can stop and states can leave, after the stages with an exit and after `split`.

    Args:
        folder: a Hugging Face folder of a supported family, see `updraft.models.hf`.
        context: tokens that one sequence can hold.
        sequences: sequences that can be open at once; address space for all is taken now, on a GPU memory.
        threads: CPU threads; the cores this process may use when left out. torch has one number for the whole process.
        batch_tokens: tokens in one pass; larger `forward` calls are cut into several.
        gpu_layers: must be 0; here so that all backends take the same options.
        name: what `info.name` says; the folder's when left out.
        device: "cpu", "cuda" or "cuda:N".
        dtype: type to compute in, "float32", "bfloat16" or "float16"; the files' own when left out.
        expert_bits: hold routed experts in 8 or 4 bits.
        exact: a position's bits do not depend on the other runs of a pass; on the CPU unless told otherwise. Cannot be
            had on a GPU.
        experts: who holds the routed experts; `ResidentExperts` when left out.
        head: the folder is a model with a score head: rows hold the scores of its labels, at least two, in place of
            logits of tokens.
        rungs: files of exits that were trained on this folder (`updraft train exits`).
        last_stage: the deepest layer to load, which must end in an exit; all layers when left out.
        split: the layer after which hidden states are kept, and rounded to `carry` before anything reads them, so that
            this engine and a pair that is split there compute the same function.
        carry: precision at the split.

    Attributes:
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
        device: str = "cpu",
        dtype: str | None = None,
        expert_bits: ExpertBits | None = None,
        exact: bool | None = None,
        experts: MakeExperts | None = None,
        head: bool = False,
        rungs: Sequence[Path] = (),
        last_stage: int | None = None,
        split: int | None = None,
        carry: Carry = "float32",
    ) -> None:
        self.split, self.carry = split, carry
        self._model: TorchModel | None = None
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        shared = ContextOptions(context, sequences, cores if threads is None else threads, batch_tokens, gpu_layers)
        own = TorchOptions(device, dtype, expert_bits, exact, head, rungs, last_stage, split, carry)
        model = open_model(Path(folder), shared, own, name, experts)
        self._info, self._tokenizer, self._stages = model.info, model.tokenizer, model.stages
        self._capacity = batch_tokens
        longest = min(_MAX_RUN, batch_tokens, context)
        self._limits = RunLimits(context, longest, model.stages, model.info.vocabulary, model.info.width)
        kept = model.cache_shape.kept
        layout = f" {len(model.stages)} {kept} {split} {carry}" if kept else ""
        self._owner = f"{model.info.fingerprint}{layout}"
        self._free = [True] * sequences
        try:
            self._caches = [SequenceCache(model.cache_shape) for _ in range(sequences)]
        except (RuntimeError, MemoryError):  # torch has no class of its own for the CPU
            model.shutdown()
            raise EngineFailure(
                f"no room for {sequences} sequences of {context} tokens",
                remedy="Start with a smaller --context or fewer --sequences; memory grows with their product.",
            ) from None
        self._model = model

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def exact(self) -> bool:
        """Whether it was asked to give the same bits however the work is cut."""
        return self._loaded().decoder.arithmetic.exact

    @property
    def experts(self) -> Experts | None:
        """Who holds the routed experts, if the model has any."""
        return self._loaded().experts

    @property
    def max_sequences(self) -> int:
        return len(self._free)

    @property
    def context(self) -> int:
        return self._limits.context

    @property
    def max_run(self) -> int:
        return self._limits.max_run

    @property
    def stages(self) -> Sequence[StageInfo]:
        return self._stages

    def open(self) -> int:
        self._loaded()
        try:
            sequence = self._free.index(True)
        except ValueError:
            raise Overloaded(f"all {len(self._free)} sequences of the engine are taken") from None
        self._free[sequence] = False
        return sequence

    def length(self, sequence: int) -> int:
        return self._cache(sequence).length

    def computed(self, sequence: int, stage: int) -> int:
        self._check_stage(stage)
        return self._cache(sequence).computed(stage)

    def boundary(self, sequence: int, stage: int, start: int, stop: int) -> FloatRows:
        """See `StagedEngine.boundary`. At the split the states are those that travel: rounded to `carry`."""
        cache = self._cache(sequence)
        self._check_stage(stage)
        states, computed = cache.states(stage), cache.computed(stage)
        if states is None:
            raise InvalidRequest(
                f"no hidden states are kept after stage {stage}", remedy=f"Open the engine with split={stage}."
            )
        if not 0 <= start <= stop <= computed:
            raise InvalidRequest(f"states {start} to {stop} after stage {stage}; {computed} have been computed")
        return float_rows(states[start:stop])

    def expect(self, tokens: Sequence[int]) -> None:
        """These token ids wait for one of the next passes; whoever holds the experts may fetch some ahead."""
        model = self._loaded()
        if model.experts is not None:
            model.experts.expect(tokens)

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        """See `Engine.forward`. Rows are read-only, in the order of `runs`.

        Rows can be asked of positions that the run brings to its depth, and runs can stop where hidden states are kept.

        Raises:
            PromptTooLong: a run reaches past the context.
            EngineFailure: torch failed, an expert could not be brought, or a router's scores are not finite.
        """
        model = self._loaded()
        checked = [self._check(run) for run in runs]
        if len({run.sequence for run in runs}) != len(runs):
            raise InvalidRequest("a pass takes at most one run of a sequence")
        with _engine_failures():
            outputs = outputs_of(model, runs, self._features(checked))
        commit(model.decoder, checked)
        return outputs

    def truncate(self, sequence: int, length: int) -> None:
        current = self.length(sequence)
        if not 0 <= length <= current:
            raise InvalidRequest(f"cannot truncate sequence {sequence} of {current} tokens to {length}")
        self._caches[sequence].truncate(length)

    def fork(self, sequence: int) -> int:
        origin = self._cache(sequence)
        copy = self.open()
        origin.copy_to(self._caches[copy])
        return copy

    def close(self, sequence: int) -> None:
        self._cache(sequence).truncate(0)
        self._free[sequence] = True

    def save(self, sequence: int) -> bytes:
        held = self._cache(sequence)
        return pack_state(held.to_bytes(), fingerprint=self._owner, sequences=0, length=held.length)

    def restore(self, state: bytes) -> int:
        length, payload = unpack_state(state, fingerprint=self._owner, sequences=0, context=self.context)
        sequence = self.open()
        try:
            self._caches[sequence].load(payload, length)
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
        sequence, total = self.open(), np.zeros(self._info.width, np.float64)
        try:
            for start in range(0, len(tokens), self.max_run):
                part = tokens[start : start + self.max_run]
                run = self._check(Run(sequence, start, part, rows=len(part)))
                with _engine_failures():
                    (features,) = self._features([run])
                commit(self._loaded().decoder, [run])
                total += float_rows(features).sum(axis=0, dtype=np.float64)
        finally:
            self.close(sequence)
        unit: NDArray[np.float32] = (total / max(float(np.linalg.norm(total)), 1e-30)).astype(np.float32)
        return unit

    def shutdown(self) -> None:
        if self._model is not None:
            self._model.shutdown()
        self._model = None
        self._free, self._caches = [True] * len(self._free), []

    def _check(self, run: Run) -> TorchRun:
        """The run, once nothing in it is out of range, and what it needs has been kept."""
        cache = self._cache(run.sequence)
        checked, decoder = checked_run(run, cache, self._limits), self._loaded().decoder
        if checked.depth < len(self._stages) - 1 and cache.states(checked.depth) is None:
            raise InvalidRequest(
                f"a run cannot stop after stage {checked.depth}, where no hidden states are kept",
                remedy=f"Open the engine with split={checked.depth}, or with an exit there.",
            )
        new = checked.stop - cache.computed(decoder.result(checked.depth))
        if checked.rows > new:
            raise InvalidRequest(f"{checked.rows} rows asked of a run that brings {new} positions to its depth")
        if checked.inputs is not None:
            entering = torch.from_numpy(np.array(checked.inputs)).to(self._loaded().cache_shape.dtype)
            if not bool(torch.isfinite(entering).all()):
                raise InvalidRequest(f"hidden states hold values that are not finite in {entering.dtype}")
        return checked

    def _features(self, runs: Sequence[TorchRun]) -> list[Tensor]:
        return compute(self._loaded(), runs, self._capacity, self.expect)

    def _check_stage(self, stage: int) -> None:
        if not 0 <= stage < len(self._stages):
            raise InvalidRequest(f"there is no stage {stage}; the engine has {len(self._stages)}")

    def _cache(self, sequence: int) -> SequenceCache:
        self._loaded()
        if not 0 <= sequence < len(self._free) or self._free[sequence]:
            raise InvalidRequest(f"sequence {sequence} is not open")
        return self._caches[sequence]

    def _loaded(self) -> TorchModel:
        if self._model is None:
            raise EngineFailure("the engine is shut down")
        return self._model


@contextlib.contextmanager
def _engine_failures() -> Iterator[None]:
    """What goes wrong in torch, which raises RuntimeError for all that can, is one of our errors."""
    try:
        yield
    except UpdraftError:
        raise
    except Exception as error:
        raise EngineFailure(f"torch failed, and the pass was rolled back: {error}") from error
