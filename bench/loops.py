"""Three ways to write a text with one model file: the agent, a bare llama.cpp loop, llama-cpp-python's own loop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from updraft.engine.llama_batch import LlamaBatch, RowViews
from updraft.engine.llama_native import ContextOptions, library, load_model, make_context
from updraft.errors import EngineFailure
from updraft.generation import GenerationRequest
from updraft.modes import Mode, ModeSettings, Origin
from updraft_edge.agent import Agent

__all__ = ["AgentLoop", "BareLoop", "HighLevelLoop", "Loop", "Written"]


@dataclass(frozen=True, slots=True)
class Written:
    """Tokens and when each was there, in seconds since the start."""

    tokens: tuple[int, ...]
    arrivals: tuple[float, ...]


class Loop(Protocol):
    """Writes greedily, past end tokens."""

    name: str

    async def write(self, prompt: Sequence[int], count: int) -> Written:
        """`count` tokens after the prompt."""
        ...

    def close(self) -> None: ...


class AgentLoop:
    """The agent in mode `edge`, every event of it consumed: text, entropy, log-probability and origin computed."""

    name = "agent, mode edge"

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def write(self, prompt: Sequence[int], count: int) -> Written:
        """Raises RuntimeError if a token comes without its entropy or from elsewhere."""
        request = GenerationRequest(
            prompt_tokens=prompt, max_tokens=count, settings=ModeSettings(mode=Mode.EDGE), ignore_end=True
        )
        started = time.perf_counter()
        tokens: list[int] = []
        arrivals: list[float] = []
        async for event in self._agent.generate(request):
            if hasattr(event, "token_ids"):
                break
            arrivals.append(time.perf_counter() - started)
            tokens.append(event.token)
            if event.origin is not Origin.EDGE or not math.isfinite(event.entropy + event.logprob):
                raise RuntimeError(f"token {event.index} has origin {event.origin} and entropy {event.entropy}")
        return Written(tuple(tokens), tuple(arrivals))

    def close(self) -> None:
        """The agent belongs to its owner."""


class BareLoop:
    """`llama_decode` and the largest logit, nothing else; context flags and batch as the engine's."""

    name = "bare llama.cpp loop"

    def __init__(self, path: Path, options: ContextOptions, vocabulary: int) -> None:
        self._lib: Any = library()
        self._model = load_model(path, options.gpu_layers)
        self._context = make_context(self._model, options)
        self._memory = self._lib.llama_get_memory(self._context)
        self._batch = LlamaBatch(self._lib, options.batch_tokens)
        self._rows = RowViews(vocabulary)

    async def write(self, prompt: Sequence[int], count: int) -> Written:
        """Blocks the event loop, so that nothing else runs meanwhile."""
        lib, context, batch, rows = self._lib, self._context, self._batch, self._rows
        lib.llama_memory_clear(self._memory, True)
        started = time.perf_counter()
        tokens: list[int] = []
        arrivals: list[float] = []
        self._prefill(prompt)
        for position in range(len(prompt), len(prompt) + count):
            if position > len(prompt):
                batch.fill_one(0, position - 1, tokens[-1], 1)
                self._decode()
            row = rows.view(lib.llama_get_logits(context), 1)[0]
            tokens.append(int(np.argmax(row)))
            arrivals.append(time.perf_counter() - started)
        return Written(tuple(tokens), tuple(arrivals))

    def _prefill(self, prompt: Sequence[int]) -> None:
        size = len(self._batch.token)
        for start in range(0, len(prompt), size):
            part = prompt[start : start + size]
            end = start + len(part)
            self._batch.token[: len(part)] = part
            self._batch.position[: len(part)] = range(start, end)
            self._batch.sequence[: len(part)] = 0
            self._batch.output[: len(part)] = 0
            self._batch.output[len(part) - 1] = end == len(prompt)
            self._batch.native.n_tokens = len(part)
            self._decode()

    def _decode(self) -> None:
        status = self._lib.llama_decode(self._context, self._batch.native)
        if status:
            raise EngineFailure(f"llama_decode answered {status}.")

    def close(self) -> None:
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)


class HighLevelLoop:
    """`llama_cpp.Llama(...).generate(tokens, temp=0)`, as a program that uses llama-cpp-python would."""

    name = "llama-cpp-python generate"

    def __init__(self, path: Path, options: ContextOptions) -> None:
        import llama_cpp

        self._llama = llama_cpp.Llama(
            str(path),
            n_ctx=options.context,
            n_batch=options.batch_tokens,
            n_ubatch=options.batch_tokens,
            n_threads=options.threads,
            n_threads_batch=options.threads,
            flash_attn=True,
            logits_all=False,
            verbose=False,
        )

    async def write(self, prompt: Sequence[int], count: int) -> Written:
        """Blocks the event loop, so that nothing else runs meanwhile."""
        self._llama.reset()  # type: ignore[no-untyped-call]
        started = time.perf_counter()
        tokens: list[int] = []
        arrivals: list[float] = []
        for token in self._llama.generate(list(prompt), temp=0.0):
            tokens.append(int(token))
            arrivals.append(time.perf_counter() - started)
            if len(tokens) == count:
                break
        return Written(tuple(tokens), tuple(arrivals))

    def close(self) -> None:
        self._llama.close()
