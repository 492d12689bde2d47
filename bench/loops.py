"""Three ways to write a text with one model file: the agent, a bare llama.cpp loop, llama-cpp-python's own loop.

`python -m bench.loops KIND` is one of them as a process, see `LoopProcess`. It takes JSON lines on standard input, the
`LoopOptions` first, answers each on standard output, and ends when standard input closes, even while it writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from updraft.engine import open_engine
from updraft.engine.base import Engine
from updraft.engine.checks import ContextOptions
from updraft.engine.llama_batch import LlamaBatch, RowViews
from updraft.engine.llama_native import library, load_model, make_context
from updraft.errors import EngineFailure, UpdraftError
from updraft.generation import GenerationRequest
from updraft.logging_setup import configure_logging
from updraft.models import resolve
from updraft.modes import Mode, ModeSettings, Origin
from updraft_edge.agent import Agent

from .tiers import chat_tokens, edge_settings

__all__ = ["LOOP_NAMES", "AgentLoop", "BareLoop", "HighLevelLoop", "Loop", "LoopOptions", "Written"]


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """What every loop is started with.

    Attributes:
        model: catalogue name or file.
        context: tokens of each sequence.
        sequences: of the agent's engine; the other loops have one.
        threads: of the engine.
        batch_tokens: most tokens of one pass.
    """

    model: str
    context: int
    sequences: int
    threads: int
    batch_tokens: int

    @property
    def native(self) -> ContextOptions:
        """For a context with one sequence, on the CPU."""
        return ContextOptions(self.context, 1, self.threads, self.batch_tokens, 0)


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


class AgentLoop:
    """The agent in mode `edge`, every event of it consumed: text, entropy, log-probability and origin computed."""

    name = "agent, mode edge"

    def __init__(self, agent: Agent, engine: Engine) -> None:
        self._agent = agent
        self._engine = engine

    def encode(self, text: str) -> list[int]:
        """The tokens of a chat with this one message."""
        return chat_tokens(self._engine, text)

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


class BareLoop:
    """`llama_decode` and the largest logit, nothing else; context flags and batch as the engine's."""

    name = "bare llama.cpp loop"

    def __init__(self, options: LoopOptions) -> None:
        self._lib: Any = library()
        model = load_model(resolve(options.model), options.native.gpu_layers)
        self._context = make_context(model, options.native)
        self._memory = self._lib.llama_get_memory(self._context)
        self._batch = LlamaBatch(self._lib, options.batch_tokens)
        self._rows = RowViews(self._lib.llama_vocab_n_tokens(self._lib.llama_model_get_vocab(model)))

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


class HighLevelLoop:
    """`llama_cpp.Llama(...).generate(tokens, temp=0)`, as a program that uses llama-cpp-python would."""

    name = "llama-cpp-python generate"

    def __init__(self, options: LoopOptions) -> None:
        import llama_cpp

        self._llama = llama_cpp.Llama(
            str(resolve(options.model)),
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


LOOP_NAMES: Final = {"agent": AgentLoop.name, "bare": BareLoop.name, "high-level": HighLevelLoop.name}


@contextlib.asynccontextmanager
async def _loop(kind: str, options: LoopOptions) -> AsyncIterator[Loop]:
    """A loop with its model loaded. Native memory goes with the process, which is the loop's own."""
    if kind == "agent":
        sizes: dict[str, Any] = {"context": options.context, "sequences": options.sequences}
        sizes |= {"threads": options.threads, "batch_tokens": options.batch_tokens}
        engine = open_engine(options.model, **sizes)
        async with Agent(edge_settings(options.model, address=None, **sizes), engine=engine) as agent:
            yield AgentLoop(agent, engine)
    else:
        yield BareLoop(options) if kind == "bare" else HighLevelLoop(options)


async def _answer(loop: Loop, command: dict[str, Any]) -> dict[str, Any]:
    if "encode" in command and isinstance(loop, AgentLoop):
        return {"tokens": loop.encode(command["encode"])}
    written = await loop.write(command["prompt"], command["count"])
    return {"tokens": written.tokens, "arrivals": written.arrivals}


def _refusal(error: UpdraftError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "remedy": error.remedy}


async def _serve(kind: str, answers: int) -> None:
    """Answer commands; any error but an UpdraftError ends the process, its traceback on standard error."""
    commands: asyncio.Queue[bytes] = asyncio.Queue()
    here = asyncio.get_running_loop()

    def read() -> None:
        with open(0, "rb", closefd=False) as lines:
            for line in lines:
                here.call_soon_threadsafe(commands.put_nowait, line)
        os._exit(0)  # the parent is done with this process, or is no more; there is nothing to save

    def say(answer: dict[str, Any]) -> None:
        line = json.dumps(answer).encode() + b"\n"
        while line:
            line = line[os.write(answers, line) :]

    threading.Thread(target=read, daemon=True).start()
    try:
        async with _loop(kind, LoopOptions(**json.loads(await commands.get()))) as loop:
            say({"ready": loop.name})
            while True:
                command = json.loads(await commands.get())
                try:
                    say(await _answer(loop, command))
                except UpdraftError as error:
                    say(_refusal(error))
    except UpdraftError as error:
        say(_refusal(error))
        raise SystemExit(1) from None


def _main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # a native library that prints cannot garble an answer
    configure_logging("warning", "text")
    asyncio.run(_serve(sys.argv[1], answers))


if __name__ == "__main__":
    _main()
