"""`echo` with `logprobs` on `/v1/completions`: a prompt's own tokens, scored, before the answer's.

lm-evaluation-harness asks for both to score options; `max_tokens: 0` asks for no answer at all, as in OpenAI's API.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from updraft.generation import AgentView, Completion, GenerationEvent, GenerationRequest, Statistics, TokenEvent
from updraft.modes import Origin
from updraft.sampling import Distribution, Sampled

__all__ = ["PromptScores"]

_UNKNOWN = Distribution(math.nan, math.nan, math.nan)


class PromptScores:
    """A generator whose answers begin with events of the prompt's tokens, at negative places and without text.

    The choices of one prompt share its scores. The first token has none: its log-probability is NaN.

    Args:
        write: let the agent answer after the prompt; without it the answer is empty.
    """

    def __init__(self, agent: AgentView, *, write: bool) -> None:
        self._agent = agent
        self._write = write
        self._scored: dict[tuple[int, ...], asyncio.Task[list[Sampled]]] = {}

    async def follow(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """The prompt's events, the answer's events, one Completion. Raises as `AgentView.score` and `follow` do."""
        tokens = self._tokens(request)
        for event in self._events(tokens, await self._scores(tokens, request)):
            yield event
        if not self._write:
            yield self._empty(tokens, request)
            return
        async for item in _closing(self._agent.follow(request)):
            yield item

    def close(self) -> None:
        """Stop scoring what nobody waits for any more."""
        for task in self._scored.values():
            task.cancel()

    def _tokens(self, request: GenerationRequest) -> list[int]:
        return self._agent.encode(request.prompt) if request.prompt is not None else list(request.prompt_tokens or ())

    async def _scores(self, tokens: list[int], request: GenerationRequest) -> list[Sampled]:
        key = tuple(tokens)
        if key not in self._scored:
            score = self._agent.score(tokens, settings=request.settings, top_logprobs=request.top_logprobs)
            self._scored[key] = asyncio.ensure_future(score)
        return await asyncio.shield(self._scored[key])

    def _events(self, tokens: Sequence[int], scores: Sequence[Sampled]) -> list[TokenEvent]:
        unscored = Sampled(tokens[0], math.nan, _UNKNOWN)
        return [
            TokenEvent(
                index=place - len(tokens),
                token=sampled.token,
                text="",
                logprob=sampled.logprob,
                entropy=sampled.distribution.entropy,
                energy=sampled.distribution.energy,
                origin=Origin.EDGE,
                verified=False,
                seconds=0.0,
                top=sampled.top,
                piece=self._agent.piece(sampled.token),
            )
            for place, sampled in enumerate([unscored, *scores])
        ]

    def _empty(self, tokens: Sequence[int], request: GenerationRequest) -> Completion:
        return Completion(
            text="",
            token_ids=[],
            finish_reason="length",
            mode=request.settings.mode if request.settings is not None else str(self._agent.info()["default_mode"]),
            model=self._agent.model,
            seed=request.sampling.seed or 0,
            statistics=Statistics(prompt_tokens=len(tokens)),
        )


async def _closing(items: AsyncIterator[GenerationEvent]) -> AsyncIterator[GenerationEvent]:
    """The items of an agent; its generator is closed with this one."""
    try:
        async for item in items:
            yield item
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()
