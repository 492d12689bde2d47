"""Branches: ways an answer may go. Each is a task of the engine loop, so all of them share passes, and prompts.

A branch's tokens depend on its prompt, the sampling parameters and its seed alone (`updraft.sampling`), whatever shares
its passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from updraft.engine.base import Engine, FloatRows
from updraft.engine.loop import EngineLoop
from updraft.errors import Cancelled, PromptTooLong
from updraft.noise import key_of
from updraft.sampling import Sampled, Sampler, SamplingParams
from updraft.strategies.branch_tasks import BranchTask, Job, Reading, Shop, Work, Writing
from updraft.strategies.places import Places

__all__ = ["Branch", "Forks", "Work", "seed_of"]


def seed_of(seed: int, number: int) -> int:
    """The seed of a branch: the request's own for the first, so that it is the answer that would be written without."""
    return seed if number == 0 else key_of(seed ^ key_of(number))


@dataclass(eq=False, slots=True)
class Branch:
    """One way an answer may go, as far as it is written.

    Attributes:
        number: from 0, in the order of making; its noise follows from it.
        origin: the branch that it was forked from, None for one from the prompt.
        written: the answer's tokens, an end token included.
        ended: the model ended it; else there may be more.
    """

    number: int
    prompt: tuple[int, ...]
    origin: int | None = None
    written: list[Sampled] = field(default_factory=list)
    ended: bool = False

    @property
    def tokens(self) -> list[int]:
        return [sampled.token for sampled in self.written]

    @property
    def logprob(self) -> float:
        """Mean log-probability of its tokens, nats; 0 for none."""
        return self._mean(lambda sampled: sampled.logprob) or 0.0

    @property
    def entropy(self) -> float | None:
        """Mean entropy of the distributions that its tokens were drawn from, nats; None for none."""
        return self._mean(lambda sampled: sampled.distribution.entropy)

    @property
    def energy(self) -> float | None:
        """Their mean log-sum-exp of the logits, nats; None for none."""
        return self._mean(lambda sampled: sampled.distribution.energy)

    def _mean(self, value: Callable[[Sampled], float]) -> float | None:
        return sum(map(value, self.written)) / len(self.written) if self.written else None


class Forks:
    """Makes branches, writes them on, and reads what the model thinks of given tokens. Used from one event loop.

    Args:
        loop: the engine's loop; it runs.
        places: who lends sequences.
        sampling: how tokens are drawn.
        ends: token ids that end an answer, besides the model's own.
        tenant: on whose account passes are computed.
        top_logprobs: how many alternatives are kept with each token.

    Attributes:
        allowance: tokens in all, from which on `writes` draws none; branches are held to the budget by who makes them.
    """

    def __init__(
        self,
        loop: EngineLoop,
        places: Places,
        sampling: SamplingParams,
        *,
        ends: frozenset[int] = frozenset(),
        tenant: str = "",
        top_logprobs: int = 0,
    ) -> None:
        self.ends = loop.engine.info.end_tokens | ends
        self._shop = Shop(loop, places, tenant)
        self._sampling = sampling.with_seed()
        self._top_logprobs = top_logprobs
        self.allowance: int | None = None
        self._made = 0
        self._tasks: dict[Branch, BranchTask] = {}

    @property
    def engine(self) -> Engine:
        return self._shop.engine

    @property
    def seed(self) -> int:
        """The request's seed, also where one had to be drawn for it."""
        return self._sampling.seed or 0

    @property
    def work(self) -> Work:
        """What was computed so far."""
        return self._shop.work

    def start(self, prompt: Sequence[int], sampling: SamplingParams | None = None) -> Branch:
        """A branch from a prompt. `sampling` takes the place of the parameters given before, but for the seed.

        Raises:
            PromptTooLong: the engine's context has no room for an answer.
        """
        self._check(prompt, self.engine.context - 1)
        return self._add(Branch(self._made, tuple(prompt)), sampling or self._sampling)

    def fork(self, branch: Branch, sampling: SamplingParams | None = None, *, keep: int | None = None) -> Branch:
        """A branch that has the same beginning and goes its own way from here on.

        Args:
            sampling: as for `start`; the branch's own when left out.
            keep: tokens of the branch that the copy begins with; all when left out.
        """
        written = branch.written[:keep]
        ended = branch.ended and len(written) == len(branch.written)
        copy = Branch(self._made, branch.prompt, branch.number, written, ended)
        return self._add(copy, sampling or self._tasks[branch].sampler.params)

    def drop(self, branch: Branch) -> None:
        """Free what a branch holds; it is written no more. Safe to call twice."""
        task = self._tasks.pop(branch, None)
        if task is not None:
            self._shop.loop.post(task.leave)

    async def extend(
        self, branches: Mapping[Branch, int], *, step: str | None = None, until: float | None = None
    ) -> None:
        """Write branches on, all together; those that have ended stay as they are.

        Args:
            branches: with how many tokens more each may get; less where the context ends.
            step: each stops, too, with the token that completes this text.
            until: when all stop where they are, `asyncio` loop time.

        Raises:
            EngineFailure, Overloaded: the engine cannot go on. After this, and after a cancellation, branches can only
                be dropped.
        """
        jobs: list[tuple[BranchTask, Writing]] = []
        written: list[Branch] = []
        for branch, most in branches.items():
            room = min(most, self.engine.context - len(branch.prompt) - len(branch.written))
            if not branch.ended and room > 0:
                jobs.append((self._tasks[branch], Writing(room, (step or "").encode(), self.ends)))
                written.append(branch)
        for branch, tokens in zip(written, await self._finish(jobs, until), strict=True):
            branch.written += tokens
            branch.ended = bool(tokens) and tokens[-1].token in self.ends
            self.work.tokens += len(tokens)

    async def choices(self, texts: Sequence[Sequence[int]], choices: Sequence[int]) -> FloatRows:
        """Log-probabilities of tokens as the next one after each text, shape (texts, choices), nats.

        Texts that begin alike, and like branches, share what is computed.

        Raises:
            PromptTooLong: a text that the engine's context has no room for.
        """
        for text in texts:
            self._check(text, self.engine.context)
        readers = [BranchTask(self._shop, list(text), Sampler(self._sampling)) for text in texts]
        try:
            for reader in readers:
                self._shop.loop.post(reader.join)
            rows = await self._finish([(reader, Reading(choices)) for reader in readers], None)
            return np.stack(rows) if rows else np.empty((0, len(choices)), np.float32)
        finally:
            for reader in readers:
                self._shop.loop.post(reader.leave)

    async def writes(self, prompts: Sequence[Sequence[int]], most: int, sampling: SamplingParams) -> list[list[int]]:
        """What is drawn after each prompt, at most so many tokens, without end tokens; less, or nothing, where the
        allowance does not reach for it.

        Raises what `start` and `extend` raise.
        """
        if self.allowance is not None and prompts:
            most = min(most, max(0, self.allowance - self.work.tokens) // len(prompts))
        if most == 0:
            return [[] for _ in prompts]
        branches = [self.start(prompt, sampling) for prompt in prompts]
        try:
            await self.extend(dict.fromkeys(branches, most))
            return [[token for token in branch.tokens if token not in self.ends] for branch in branches]
        finally:
            for branch in branches:
                self.drop(branch)

    async def close(self) -> None:
        """Free all branches; comes back when their sequences are free. Safe to call twice."""
        for branch in list(self._tasks):
            self.drop(branch)
        await asyncio.shield(asyncio.wrap_future(self._shop.loop.call(lambda: None)))

    def _add(self, branch: Branch, sampling: SamplingParams) -> Branch:
        self._made += 1
        seed = seed_of(self.seed, branch.number)
        sampler = Sampler(replace(sampling, seed=seed), branch.prompt, top_logprobs=self._top_logprobs)
        sampler.commit(branch.tokens)
        task = BranchTask(self._shop, [*branch.prompt, *branch.tokens], sampler)
        self._tasks[branch] = task
        self._shop.loop.post(task.join)
        return branch

    async def _finish(self, jobs: Sequence[tuple[BranchTask, Job]], until: float | None) -> list[Any]:
        """Give all jobs in one turn of the engine's loop and wait for all. None goes on after a failure."""
        if not jobs:
            return []
        results = [job.result for _, job in jobs]
        self._shop.loop.post(lambda: _hand_out(jobs))
        left = None if until is None else max(0.0, until - asyncio.get_running_loop().time())
        try:
            await asyncio.wait(results, timeout=left, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            if not all(result.done() for result in results):
                self._shop.loop.post(lambda: _stop(jobs))
                await asyncio.gather(*results, return_exceptions=True)
        return [result.result() for result in results]

    def _check(self, text: Sequence[int], most: int) -> None:
        if not 0 < len(text) <= most:
            raise PromptTooLong(f"A text of {len(text)} tokens; the context has room for 1 to {most}.")


def _hand_out(jobs: Sequence[tuple[BranchTask, Job]]) -> None:
    for task, job in jobs:
        task.take(job)


def _stop(jobs: Sequence[tuple[BranchTask, Job]]) -> None:
    for task, _ in jobs:
        task.stop(Cancelled("The branch was given up."))
