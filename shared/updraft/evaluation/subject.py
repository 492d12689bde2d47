"""What is judged: an agent under one variant's settings, that writes answers and scores given text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from updraft.chat_template import ChatTemplate
from updraft.errors import InvalidRequest, UpdraftError
from updraft.evaluation.signals import Signals
from updraft.generation import ChatMessage, Completion, GenerationRequest, TokenEvent
from updraft.modes import Mode, ModeSettings
from updraft.sampling import Sampled, SamplingParams

__all__ = ["AgentSubject", "Ask", "Judged", "Replay", "ScoreMemory", "ScoringAgent", "Subject", "Written", "gather"]


@dataclass(frozen=True, slots=True)
class Ask:
    """An answer to write: to chat messages, or going on from a text."""

    messages: Sequence[ChatMessage] | None = None
    prompt: str | None = None
    max_tokens: int = 64
    stop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """An answer with what it took and how sure the writing tier was of it."""

    completion: Completion
    signals: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores of given text: for each option the scores of its tokens, and which of them the cloud gave."""

    options: list[list[Sampled]]
    cloud: list[list[bool]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def share(self) -> float:
        flags = [flag for option in self.cloud for flag in option]
        return sum(flags) / len(flags) if flags else 0.0


class Subject(Protocol):
    """A variant under test. All methods raise what the agent raises."""

    async def write(self, ask: Ask) -> Written:
        """An answer."""
        ...

    async def score(self, context: str, options: Sequence[str], *, top_logprobs: int = 0) -> Judged:
        """How probable each option is as what follows the context.

        The pair is cut into tokens as lm-evaluation-harness does it: context and option together, less the tokens of
        the context alone; spaces at the context's end belong to the option.
        """
        ...

    async def score_tokens(self, prompt: Sequence[int], branch: Sequence[int], *, top_logprobs: int = 0) -> Judged:
        """As `score`, of token ids."""
        ...

    async def cloud_scores(
        self, prompt: Sequence[int], branch: Sequence[int], *, top_logprobs: int = 0
    ) -> list[Sampled]:
        """The cloud's own scores, whatever the variant."""
        ...

    def prompt_tokens(self, ask: Ask) -> list[int]:
        """Token ids of what an answer would follow."""
        ...


class ScoringAgent(Protocol):
    """What an agent in this process offers besides writing."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[TokenEvent | Completion]: ...

    def encode(self, text: str, *, start: bool = True, special: bool = False) -> list[int]: ...

    def tokenizer_info(self) -> dict[str, object]: ...

    async def score_branches(
        self,
        prompt: Sequence[int],
        branches: Sequence[Sequence[int]],
        *,
        settings: ModeSettings | None = None,
        top_logprobs: int = 0,
    ) -> list[list[Sampled]]: ...


Replay = Callable[[ModeSettings, Sequence[int], Sequence[Sampled], Sequence[Sampled]], Awaitable[list[bool]]]
"""Follows a policy through text after a prompt, from the scores of edge and cloud: which tokens are the cloud's."""


class ScoreMemory:
    """Scores of given text that several variants ask for, while they are at the same item; the oldest go first.

    Args:
        most: texts that are remembered.
    """

    def __init__(self, agent: ScoringAgent, *, most: int = 64) -> None:
        self._agent = agent
        self._most = most
        self._known: dict[object, asyncio.Task[list[list[Sampled]]]] = {}

    async def scores(
        self, mode: Mode, prompt: Sequence[int], branches: Sequence[Sequence[int]], top_logprobs: int
    ) -> list[list[Sampled]]:
        """What a tier says of the branches; raises what the agent raises."""
        key = (mode, tuple(prompt), tuple(map(tuple, branches)), top_logprobs)
        if key not in self._known:
            settings = ModeSettings(mode=mode)
            asked = self._agent.score_branches(prompt, branches, settings=settings, top_logprobs=top_logprobs)
            self._known[key] = asyncio.ensure_future(asked)
            while len(self._known) > self._most:
                del self._known[next(iter(self._known))]
        try:
            return await asyncio.shield(self._known[key])
        except UpdraftError:
            self._known.pop(key, None)
            raise


class AgentSubject:
    """An agent in this process under a variant's settings.

    Args:
        memory: shared by the variants of one agent.
        sampling: how answers are drawn; the seed makes them repeatable.
        replay: how a policy that looks at tokens is followed through given text; without it `span` is refused there.
    """

    def __init__(
        self,
        agent: ScoringAgent,
        settings: ModeSettings,
        sampling: SamplingParams,
        memory: ScoreMemory,
        replay: Replay | None = None,
    ) -> None:
        self._agent = agent
        self._memory = memory
        self._settings = settings
        self._sampling = sampling
        self._replay = replay

    async def write(self, ask: Ask) -> Written:
        request = GenerationRequest(
            messages=ask.messages,
            prompt=ask.prompt,
            sampling=self._sampling,
            max_tokens=ask.max_tokens,
            stop=tuple(ask.stop),
            settings=self._settings,
        )
        return await gather(self._agent.generate(request))

    async def score(self, context: str, options: Sequence[str], *, top_logprobs: int = 0) -> Judged:
        kept = context.rstrip(" ")
        moved = context[len(kept) :]
        prompt = self._agent.encode(kept)
        wholes = [self._agent.encode(kept + moved + option) for option in options]
        # Tokens may merge across the border; the option then begins at the context's length all the same.
        groups = {tuple(whole[: len(prompt)]) for whole in wholes}
        if len(groups) == 1:
            return await self._score(next(iter(groups)), [whole[len(prompt) :] for whole in wholes], top_logprobs)
        parts = [await self._score(whole[: len(prompt)], [whole[len(prompt) :]], top_logprobs) for whole in wholes]
        return Judged(
            [part.options[0] for part in parts], [part.cloud[0] for part in parts], sum(part.seconds for part in parts)
        )

    async def score_tokens(self, prompt: Sequence[int], branch: Sequence[int], *, top_logprobs: int = 0) -> Judged:
        return await self._score(prompt, [branch], top_logprobs)

    async def cloud_scores(
        self, prompt: Sequence[int], branch: Sequence[int], *, top_logprobs: int = 0
    ) -> list[Sampled]:
        return (await self._memory.scores(Mode.CLOUD, prompt, [branch], top_logprobs))[0]

    def prompt_tokens(self, ask: Ask) -> list[int]:
        if ask.messages is None:
            return self._agent.encode(ask.prompt or "")
        template = self._agent.tokenizer_info()["chat_template"]
        messages = [{"role": message.role, "content": message.content} for message in ask.messages]
        text = ChatTemplate(None if template is None else str(template), bos="", eos="").render(messages)
        return self._agent.encode(text, start=False, special=True)

    async def _score(self, prompt: Sequence[int], branches: Sequence[Sequence[int]], top_logprobs: int) -> Judged:
        started = time.perf_counter()
        mode = self._settings.mode
        if mode is Mode.EDGE or mode is Mode.CLOUD:
            options = await self._memory.scores(mode, prompt, branches, top_logprobs)
            flags = [[mode is Mode.CLOUD] * len(option) for option in options]
            return Judged(options, flags, time.perf_counter() - started)
        if self._replay is None or mode is not Mode.SPAN:
            raise InvalidRequest(
                f"The mode {mode} writes; it cannot be judged on given text.",
                remedy="Take the modes edge, cloud and span, or a task that writes.",
                param="mode",
            )
        edge = await self._memory.scores(Mode.EDGE, prompt, branches, top_logprobs)
        cloud = await self._memory.scores(Mode.CLOUD, prompt, branches, top_logprobs)
        pairs = zip(edge, cloud, strict=True)
        flags = [await self._replay(self._settings, prompt, ours, theirs) for ours, theirs in pairs]
        options = [
            [b if flag else a for a, b, flag in zip(ours, theirs, marks, strict=True)]
            for ours, theirs, marks in zip(edge, cloud, flags, strict=True)
        ]
        return Judged(options, flags, time.perf_counter() - started)


async def gather(items: AsyncIterator[TokenEvent | Completion]) -> Written:
    """Read an answer to its end."""
    started, signals = time.perf_counter(), Signals()
    async for item in items:
        if isinstance(item, Completion):
            return Written(item, signals.values(), time.perf_counter() - started)
        signals.add(item.logprob, item.entropy, item.energy)
    raise InvalidRequest("The agent ended an answer without its completion.")
