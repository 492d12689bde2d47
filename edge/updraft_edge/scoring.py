"""How probable the tokens of given text are: prompt log-probabilities by the tier that has a mode's last word.

Rows of an exact engine do not depend on how a text was cut into runs, so options after one prompt share its cache and
have the same scores as each of them has in a text of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from updraft.engine.base import Engine, Output, Run
from updraft.engine.loop import EngineLoop, Priority, Want
from updraft.errors import InvalidRequest, PromptTooLong, UpdraftError
from updraft.generation import Statistics
from updraft.modes import Mode, ModeSettings
from updraft.sampling import Sampled, Sampler, SamplingParams
from updraft.token_log import TokenLog
from updraft_edge import wire
from updraft_edge.cloud_session import CloudSession
from updraft_edge.drafters import PREFILL_CHUNK
from updraft_edge.link import CloudLink

__all__ = ["Judge", "check_tokens", "score_branches"]

Branches = Sequence[Sequence[int]]
_SAMPLING = SamplingParams(seed=0)
_LEAST = -1e4  # of a token that the model rules out, as the cloud reports it


class Judge:
    """Scores given text on either tier.

    Args:
        link: the way to the cloud; None lets the edge judge always,
        endpoint: unless the cloud is an endpoint, which gives no such scores.
    """

    def __init__(self, loop: EngineLoop, link: CloudLink | None, *, endpoint: bool = False) -> None:
        self._loop = loop
        self._link = link
        self._endpoint = endpoint

    async def score(
        self, prompt: Sequence[int], branches: Branches, settings: ModeSettings, *, top_logprobs: int = 0
    ) -> list[list[Sampled]]:
        """Scores of every branch as it would follow the prompt: one for each of its tokens, log-probabilities in nats.

        The edge judges in mode `edge`, else the cloud.

        Raises:
            InvalidRequest, PromptTooLong: tokens that the model or its context cannot hold, or an empty prompt.
            InvalidRequest: the cloud is an endpoint.
            LinkError, Overloaded: the cloud is away.
            Withheld: a rule keeps the text on the device.
        """
        for branch in branches:
            check_tokens(self._loop.engine, [*prompt, *branch])
        if not prompt:
            raise InvalidRequest("The prompt is empty: its first token has nothing to be judged by.", param="prompt")
        if settings.local_only or settings.mode is Mode.EDGE or (self._link is None and not self._endpoint):
            return await score_branches(self._loop, prompt, branches, top_logprobs=top_logprobs)
        if self._link is None:
            raise InvalidRequest(
                "The cloud is an endpoint, which gives no log-probabilities of given text.",
                remedy="Ask in mode edge, or name a cloud service in edge.cloud.address.",
                param="updraft.mode",
            )
        return await self._by_cloud(self._link, prompt, branches, top_logprobs)

    async def _by_cloud(
        self, link: CloudLink, prompt: Sequence[int], branches: Branches, top_logprobs: int
    ) -> list[list[Sampled]]:
        opening = wire.Opening(
            tokenizer_hash=self._loop.engine.info.tokenizer_hash,
            sampling=_SAMPLING,
            max_tokens=1,
            stop_tokens=[],
            report=True,
            top_logprobs=0,
            ignore_end=True,
        )
        session = CloudSession(link, opening, TokenLog(list(prompt)), Statistics())
        try:
            return [await _ask(session, branch, top_logprobs) for branch in branches]
        finally:
            await session.close()


async def _ask(session: CloudSession, branch: Sequence[int], top_logprobs: int) -> list[Sampled]:
    if not branch:
        return []
    return list((await session.score(branch, each=True, top_logprobs=top_logprobs)).reports)


def check_tokens(engine: Engine, tokens: Sequence[int]) -> None:
    """Raises InvalidRequest or PromptTooLong unless the engine can hold the tokens."""
    bad = next((token for token in tokens if not 0 <= token < engine.info.vocabulary), None)
    if bad is not None:
        raise InvalidRequest(f"The text holds token {bad}; the vocabulary has {engine.info.vocabulary}.")
    if len(tokens) > engine.context:
        raise PromptTooLong(f"The text has {len(tokens)} tokens; the edge's context holds {engine.context}.")


async def score_branches(
    loop: EngineLoop, prompt: Sequence[int], branches: Branches, *, top_logprobs: int = 0
) -> list[list[Sampled]]:
    """As `Judge.score`, by the edge's engine. Raises EngineFailure or Overloaded if it cannot."""
    task = _Scoring(loop, asyncio.get_running_loop(), prompt, branches, top_logprobs)
    loop.post(task.start)
    try:
        return await task.done
    finally:
        loop.post(task.close)


class _Scoring:
    """The engine thread's side: the prompt once, then branch after branch, each cut away when it is read."""

    def __init__(
        self,
        loop: EngineLoop,
        waiting: asyncio.AbstractEventLoop,
        prompt: Sequence[int],
        branches: Branches,
        top_logprobs: int,
    ) -> None:
        self.done: asyncio.Future[list[list[Sampled]]] = waiting.create_future()
        self._loop = loop
        self._engine = loop.engine
        self._waiting = waiting
        self._prompt = list(prompt)
        self._base = len(prompt) - 1  # the place whose row judges a branch's first token
        self._branches = [list(branch) for branch in branches]
        self._scores: list[list[Sampled]] = []
        self._measuring = Sampler(_SAMPLING, top_logprobs=top_logprobs, shape=True)
        self._sequence = -1

    def start(self) -> None:
        try:
            self._sequence = self._engine.open()
        except UpdraftError as error:
            self.fail(error)
            return
        self._next_branch()
        self._loop.add(self)

    def plan(self) -> Want | None:
        if len(self._scores) > len(self._branches):
            return None
        inputs = [*self._prompt, *self._branches[len(self._scores) - 1][:-1]]
        start = self._engine.length(self._sequence)
        last = len(inputs) - start <= self._engine.max_run
        stop = len(inputs) if last else start + min(PREFILL_CHUNK, self._engine.max_run)
        run = Run(self._sequence, start, inputs[start:stop], max(0, stop - max(start, self._base)))
        return Want(Priority.SCORE if run.rows else Priority.PREFILL, run)

    def consume(self, run: Run, output: Output) -> None:
        scores, branch = self._scores[-1], self._branches[len(self._scores) - 1]
        for row in output.logits if run.rows else ():
            token = branch[len(scores)]
            drawn = self._measuring.draw(row, 0)
            logprob = max(_LEAST, float(row[token]) - drawn.distribution.energy)
            scores.append(replace(drawn, token=token, logprob=logprob))
        if len(scores) == len(branch):
            self._engine.truncate(self._sequence, self._base)
            self._next_branch()

    def fail(self, error: UpdraftError) -> None:
        self._settle(error)

    def close(self) -> None:
        self._loop.remove(self)
        if self._sequence >= 0:
            self._engine.close(self._sequence)
            self._sequence = -1

    def _next_branch(self) -> None:
        """Begin the next branch that has tokens; the scores are complete when there is none."""
        self._scores.append([])
        while len(self._scores) <= len(self._branches) and not self._branches[len(self._scores) - 1]:
            self._scores.append([])
        if len(self._scores) > len(self._branches):
            self._settle(self._scores[: len(self._branches)])

    def _settle(self, result: list[list[Sampled]] | UpdraftError) -> None:
        def settle() -> None:
            if self.done.done():
                return
            if isinstance(result, UpdraftError):
                self.done.set_exception(result)
            else:
                self.done.set_result(result)

        self._waiting.call_soon_threadsafe(settle)
