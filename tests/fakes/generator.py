"""An agent without a model: it plays a script. For tests of servers and clients, ours and yours."""

from __future__ import annotations

import asyncio
import codecs
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import cast

from updraft.errors import InvalidRequest
from updraft.generation import (
    Completion,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Statistics,
    TokenEvent,
)
from updraft.modes import Mode, ModeSettings, Origin
from updraft.sampling import Distribution, Sampled
from updraft.solution import ProgressEvent, Solution
from updraft.traces.steps import Trace, TraceStep

__all__ = ["FakeAgent", "Script"]

Script = Sequence[str | bytes] | Callable[[GenerationRequest], Sequence[str | bytes]]
"""The pieces of an answer's tokens, or a function that gives them for a request."""


class FakeAgent:
    """Implements `updraft.generation.AgentView` (and `piece`) with scripted answers.

    Tokens of the script get ids from 256 on, in order of first appearance; ids below stand for single bytes, and
    `encode` uses these. Every other token is the cloud's. Stop strings and `max_tokens` are obeyed as the contract
    says, `finish_reason` is "stop" at the end of the script, and seeds that are left out are 1. Traces have a
    decision for each token.

    Args:
        script: pieces of the answer.
        delay: seconds before each token.
        failure: raised after `fail_after` tokens instead of going on.
        fail_after: see `failure`.
        degraded_reason: mark answers as degraded for this reason.
        cancel_after: end the answer as cancelled after so many tokens.
        progress: what happens before the first token, for requests that ask for it.
        solution: what completions say of how they came about.

    Attributes:
        requests: every request so far.
        running: generations open now.
        most_running: the most that were ever open at once.
        closed_early: generations that the caller closed before their completion.
    """

    def __init__(
        self,
        script: Script = ("Hello", ",", " world", "!"),
        *,
        delay: float = 0.0,
        failure: Exception | None = None,
        fail_after: int = 0,
        degraded_reason: str | None = None,
        cancel_after: int | None = None,
        model: str = "fake-pair",
        context: int = 2048,
        ready: bool = True,
        progress: Sequence[ProgressEvent] = (),
        solution: Solution | None = None,
    ) -> None:
        self.script = script
        self.delay = delay
        self.failure = failure
        self.fail_after = fail_after
        self.degraded_reason = degraded_reason
        self.cancel_after = cancel_after
        self.model = model
        self.context = context
        self.ready = ready
        self.progress = progress
        self.solution = solution
        self.requests: list[GenerationRequest] = []
        self.running = 0
        self.most_running = 0
        self.closed_early = 0
        self._ids: dict[bytes, int] = {}
        self._pieces = {number: bytes([number]) for number in range(256)}

    def info(self) -> dict[str, object]:
        tiers: dict[str, object] = {"edge": {"model": self.model}, "cloud": None}
        return {"version": "0.0.0", "device": "fake", "modes": list(Mode), "default_mode": Mode.DRAFT, **tiers}

    def encode(self, text: str, *, start: bool = True, special: bool = False) -> list[int]:
        return list(text.encode())

    def tokenizer_info(self) -> dict[str, object]:
        return {"eos_token": "<end>", "bos_token": None, "pad_token": None, "chat_template": None}

    async def score(
        self, tokens: Sequence[int], *, settings: ModeSettings | None = None, top_logprobs: int = 0
    ) -> list[Sampled]:
        """Token number i (from 1) has log-probability -i / 10."""
        known = Distribution(3.0, 1.25, 0.5)
        alternatives = [(ord("a") + i, -2.0 - i) for i in range(top_logprobs)]
        return [Sampled(token, -i / 10, known, tuple(alternatives)) for i, token in enumerate(tokens[1:], 1)]

    def piece(self, token: int) -> bytes:
        if token not in self._pieces:
            raise InvalidRequest(f"There is no token {token}.")
        return self._pieces[token]

    def token_id(self, piece: bytes) -> int:
        """The id of a scripted piece."""
        if piece not in self._ids:
            self._ids[piece] = 256 + len(self._ids)
            self._pieces[self._ids[piece]] = piece
        return self._ids[piece]

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TokenEvent | Completion]:
        self.requests.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        done = False
        try:
            answer = _Answer(self, request)
            async for event in self._play(request, answer):
                yield event
            done = True
            yield answer.completion()
        except GeneratorExit:
            self.closed_early += not done
            raise
        except asyncio.CancelledError:
            self.closed_early += 1
            raise
        finally:
            self.running -= 1

    async def follow(self, request: GenerationRequest) -> AsyncIterator[GenerationEvent]:
        if request.progress:
            for event in self.progress:
                yield event
        events = cast("AsyncGenerator[TokenEvent | Completion, None]", self.generate(request))
        async with aclosing(events):
            async for item in events:
                if isinstance(item, Completion):
                    item.solution = self.solution
                yield item

    async def _play(self, request: GenerationRequest, answer: _Answer) -> AsyncIterator[TokenEvent]:
        pieces = self.script(request) if callable(self.script) else self.script
        for number, piece in enumerate(pieces):
            if self.failure is not None and number == self.fail_after:
                raise self.failure
            if number == self.cancel_after:
                answer.finish = "cancelled"
                return
            await asyncio.sleep(self.delay)
            yield answer.commit(piece.encode() if isinstance(piece, str) else piece, last=number == len(pieces) - 1)
            if answer.finish is not None:
                return
        if self.failure is not None:
            raise self.failure


class _Answer:
    """One answer's text: whole characters only, nothing from a stop string on."""

    def __init__(self, agent: FakeAgent, request: GenerationRequest) -> None:
        self.finish: FinishReason | None = None
        self._agent = agent
        self._request = request
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._started = time.perf_counter()
        self._first_token_seconds = 0.0

    def commit(self, piece: bytes, *, last: bool) -> TokenEvent:
        index = len(self._tokens)
        token = self._agent.token_id(piece)
        self._tokens.append(token)
        ended = last or len(self._tokens) == self._request.max_tokens
        text = self._released(self._decoder.decode(piece, final=ended), ended)
        if ended and self.finish is None:
            self.finish = "stop" if last else "length"
        self._text.append(text)
        seconds = time.perf_counter() - self._started
        if index == 0:
            self._first_token_seconds = seconds
        return TokenEvent(
            index=index,
            token=token,
            text=text,
            logprob=-0.5,
            entropy=1.25,
            energy=3.0,
            origin=Origin.CLOUD if index % 2 else Origin.EDGE,
            verified=bool(index % 2),
            seconds=seconds,
            top=self._alternatives(token),
            piece=piece,
        )

    def _released(self, text: str, ended: bool) -> str:
        self._held += text
        found = [self._held.find(stop) for stop in self._request.stop if stop in self._held]
        if found:
            self.finish = "stop"
            return self._held[: min(found)]
        # The longest tail that may be the start of a stop string waits.
        waiting = 0 if ended else max((_overlap(self._held, stop) for stop in self._request.stop), default=0)
        released, self._held = self._held[: len(self._held) - waiting], self._held[len(self._held) - waiting :]
        return released

    def _alternatives(self, token: int) -> tuple[tuple[int, float], ...]:
        """The token itself, then the bytes 0xFF (of probability 0) and "a", "b", ..."""
        ranked = [(token, -0.5), (0xFF, -math.inf), *((ord("a") + i, -2.0 - i) for i in range(20))]
        return tuple(ranked[: self._request.top_logprobs])

    def completion(self) -> Completion:
        request = self._request
        if request.prompt_tokens is not None:
            prompt = len(request.prompt_tokens)
        else:
            texts = [request.prompt or ""] if request.messages is None else [m.content for m in request.messages]
            prompt = sum(len(self._agent.encode(text)) for text in texts)
        count = len(self._tokens)
        statistics = Statistics(prompt_tokens=prompt, tokens=count, edge_tokens=count - count // 2)
        statistics.cloud_tokens = count // 2
        statistics.first_token_seconds = self._first_token_seconds
        statistics.seconds = time.perf_counter() - self._started
        return Completion(
            text="".join(self._text),
            token_ids=self._tokens,
            finish_reason=self.finish or "stop",
            mode=request.settings.mode if request.settings is not None else Mode.DRAFT,
            model=self._agent.model,
            seed=1 if request.sampling.seed is None else request.sampling.seed,
            degraded=self._agent.degraded_reason is not None,
            degraded_reason=self._agent.degraded_reason,
            statistics=statistics,
            trace=self._trace() if request.trace else None,
        )

    def _trace(self) -> Trace:
        """A decision a token."""
        count = len(self._tokens)
        steps = [TraceStep(place, "hand_over" if place % 2 else "commit", [], 0, 1, 0.0, 0.0) for place in range(count)]
        return Trace(self._agent.model, None, {}, steps)


def _overlap(text: str, stop: str) -> int:
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
