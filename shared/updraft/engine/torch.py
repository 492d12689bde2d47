"""The torch engine: Hugging Face models, dense and mixture-of-experts, several sequences in one pass."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from updraft.engine.base import FloatRows, ModelInfo, Output, Run, Tokenizer
from updraft.engine.checks import ContextOptions, checked_tokens
from updraft.engine.experts import Experts, MakeExperts
from updraft.engine.llama_batch import grouped
from updraft.engine.saved_state import pack_state, unpack_state
from updraft.engine.torch_cache import SequenceCache
from updraft.engine.torch_model import Span
from updraft.engine.torch_open import TorchModel, TorchOptions, open_model
from updraft.engine.torch_quantised import ExpertBits
from updraft.errors import EngineFailure, InvalidRequest, Overloaded, PromptTooLong, UpdraftError

__all__ = ["TorchEngine"]

_MAX_RUN = 128  # as of the other engines


class TorchEngine:
    """An `updraft.engine.base.Engine` on torch. A model is computed whole: runs have no depth, inputs or entry.

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
    ) -> None:
        self._model: TorchModel | None = None
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        shared = ContextOptions(context, sequences, cores if threads is None else threads, batch_tokens, gpu_layers)
        model = open_model(Path(folder), shared, TorchOptions(device, dtype, expert_bits, exact, head), name, experts)
        self._info, self._tokenizer = model.info, model.tokenizer
        self._context, self._capacity = context, batch_tokens
        self._max_run = min(_MAX_RUN, batch_tokens, context)
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
        return self._context

    @property
    def max_run(self) -> int:
        return self._max_run

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

    def expect(self, tokens: Sequence[int]) -> None:
        """These token ids wait for one of the next passes; whoever holds the experts may fetch some ahead."""
        model = self._loaded()
        if model.experts is not None:
            model.experts.expect(tokens)

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        """See `Engine.forward`. Rows are read-only, in the order of `runs`.

        Raises:
            PromptTooLong: a run reaches past the context.
            EngineFailure: torch failed, an expert could not be brought, or a router's scores are not finite.
        """
        model = self._loaded()
        tokens = [self._check(run) for run in runs]
        if len({run.sequence for run in runs}) != len(runs):
            raise InvalidRequest("a pass takes at most one run of a sequence")
        groups = list(grouped(range(len(runs)), [len(ids) for ids in tokens], self._capacity))
        outputs: list[Output] = []
        for number, group in enumerate(groups):
            if number == 0 and len(groups) > 1:
                self.expect(np.concatenate([tokens[index] for later in groups[1:] for index in later]).tolist())
            states = self._states(model, [(runs[index].sequence, tokens[index]) for index in group])
            outputs.extend(_outputs(model, [runs[index] for index in group], states))
        for run in runs:
            self._caches[run.sequence].length += len(run.tokens)
        return outputs

    def truncate(self, sequence: int, length: int) -> None:
        current = self.length(sequence)
        if not 0 <= length <= current:
            raise InvalidRequest(f"cannot truncate sequence {sequence} of {current} tokens to {length}")
        self._caches[sequence].length = length

    def fork(self, sequence: int) -> int:
        origin = self._cache(sequence)
        copy = self.open()
        origin.copy_to(self._caches[copy])
        return copy

    def close(self, sequence: int) -> None:
        self._cache(sequence).length = 0
        self._free[sequence] = True

    def save(self, sequence: int) -> bytes:
        held = self._cache(sequence)
        return pack_state(held.to_bytes(), fingerprint=self._info.fingerprint, sequences=0, length=held.length)

    def restore(self, state: bytes) -> int:
        length, payload = unpack_state(state, fingerprint=self._info.fingerprint, sequences=0, context=self._context)
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
        if len(tokens) > self._context:
            raise PromptTooLong(f"cannot embed {len(tokens)} tokens in a context of {self._context}")
        sequence, total = self.open(), np.zeros(self._info.width, np.float64)
        try:
            for start in range(0, len(tokens), self._max_run):
                run = Run(sequence, start, tokens[start : start + self._max_run])
                states = self._states(self._loaded(), [(sequence, self._check(run))])
                self._caches[sequence].length += len(run.tokens)
                total += _rows(states).sum(axis=0, dtype=np.float64)
        finally:
            self.close(sequence)
        unit: NDArray[np.float32] = (total / max(float(np.linalg.norm(total)), 1e-30)).astype(np.float32)
        return unit

    def shutdown(self) -> None:
        if self._model is not None:
            self._model.shutdown()
        self._model = None
        self._free, self._caches = [True] * len(self._free), []

    def _check(self, run: Run) -> NDArray[np.int32]:
        if run.depth is not None or run.inputs is not None or run.entry:
            raise InvalidRequest("the torch engine computes a model whole: a run can have no depth, inputs or entry")
        return checked_tokens(
            run,
            length=self.length(run.sequence),
            context=self._context,
            max_run=self._max_run,
            vocabulary=self._info.vocabulary,
        )

    @torch.inference_mode()
    def _states(self, model: TorchModel, work: Sequence[tuple[int, NDArray[np.int32]]]) -> Tensor:
        """Hidden states of all tokens of one pass; the caches' lengths stay as they are."""
        spans = [Span(cache, cache.length, len(ids)) for cache, ids in ((self._caches[s], ids) for s, ids in work)]
        tokens = torch.from_numpy(np.concatenate([ids for _, ids in work]).astype(np.int64)).to(
            model.cache_shape.device
        )
        experts = model.experts
        try:
            if experts is None:
                return model.decoder.states(tokens, spans, None)
            try:
                experts.begin(tokens)
                return model.decoder.states(tokens, spans, experts)
            finally:
                experts.end()
        except UpdraftError:
            raise
        except Exception as error:  # torch raises RuntimeError for all that can go wrong in it
            raise EngineFailure(f"torch failed, and the pass was rolled back: {error}") from error

    def _cache(self, sequence: int) -> SequenceCache:
        self._loaded()
        if not 0 <= sequence < len(self._free) or self._free[sequence]:
            raise InvalidRequest(f"sequence {sequence} is not open")
        return self._caches[sequence]

    def _loaded(self) -> TorchModel:
        if self._model is None:
            raise EngineFailure("the engine is shut down")
        return self._model


@torch.inference_mode()
def _outputs(model: TorchModel, runs: Sequence[Run], states: Tensor) -> list[Output]:
    """The rows that were asked for, of a pass over these runs."""
    ends = np.cumsum([len(run.tokens) for run in runs])
    wanted = [row for run, end in zip(runs, ends, strict=True) for row in range(end - run.rows, end)]
    chosen = states[torch.tensor(wanted, dtype=torch.int64, device=states.device)]
    logits = _rows(model.decoder.logits(chosen)) if wanted else np.empty((0, model.info.vocabulary), np.float32)
    hidden = _rows(chosen) if any(run.hidden for run in runs) else None
    outputs, end = [], 0
    for run in runs:
        rows = slice(end, end := end + run.rows)
        outputs.append(Output(logits[rows], hidden[rows] if hidden is not None and run.hidden else None))
    return outputs


def _rows(values: Tensor) -> FloatRows:
    rows: FloatRows = values.float().cpu().numpy()
    rows.flags.writeable = False
    return rows
