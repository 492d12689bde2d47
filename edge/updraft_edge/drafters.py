"""Drafters: what could come next?"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from updraft.engine.base import Output, Run
from updraft.engine.loop import EngineLoop, Priority, Want, next_run
from updraft.errors import UpdraftError
from updraft.sampling import Sampled, Sampler
from updraft_edge.stopping.costs import Costs

__all__ = ["DraftTask", "ModelDrafter", "NoDrafter", "Proposal"]

PREFILL_CHUNK = 48


class NoDrafter:
    """Proposes nothing (mode `cloud`)."""

    async def propose(self) -> Sampled | None:
        raise RuntimeError("NoDrafter proposes nothing")

    def available(self) -> bool:
        return False

    def settle(self, tokens: Sequence[int]) -> None:
        pass

    def hold(self, held: bool) -> None:
        pass

    def alone(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the engine thread sends: a token, None to leave the next one to the cloud, or why it cannot go on."""

    epoch: int
    sampled: Sampled | UpdraftError | None


class ModelDrafter:
    """Drafts with the edge's own model, in the engine loop, ahead of what has been committed.

    The event loop's side and the engine thread's side each know the log; commands go over by `EngineLoop.post`,
    proposals come back tagged with an epoch. When committed tokens are not the proposed ones, the epoch changes:
    proposals of the old one are dropped, and the engine thread sends again what still follows.

    Args:
        prompt: token ids to continue; a copy is kept.
        sampler: the answer's sampler, with the same seed as the cloud's.
        ends: token ids after which nothing is drafted.
        ahead: how many uncommitted tokens it may be ahead, at most.
        most: length of prompt and answer, at most.
        linger_s: proposals may wait so long to be handed over together. Waking the event loop for every token costs
            a small model some per cent of its speed.
        hidden: proposals carry the hidden state that they were drawn from.
    """

    def __init__(
        self,
        loop: EngineLoop,
        prompt: Sequence[int],
        sampler: Sampler,
        *,
        ends: frozenset[int],
        ahead: int,
        most: int,
        costs: Costs,
        linger_s: float = 0.0,
        hidden: bool = False,
    ) -> None:
        self._loop = loop
        self._asyncio = asyncio.get_running_loop()
        self._ready: deque[Sampled | UpdraftError | None] = deque()
        self._taken: list[int] = []  # proposed tokens handed out since the last settle
        self._epoch = 0
        self._wakeup = asyncio.Event()
        self._closed = False
        options = {"ends": ends, "ahead": ahead, "most": most, "costs": costs, "linger_s": linger_s, "hidden": hidden}
        self._task = self._make_task(prompt, sampler, **options)
        loop.post(self._task.start)

    def _make_task(self, prompt: Sequence[int], sampler: Sampler, **options: Any) -> DraftTask:
        return DraftTask(self, prompt, sampler, **options)

    @property
    def loop(self) -> EngineLoop:
        return self._loop

    async def propose(self) -> Sampled | None:
        while not self._ready:
            self._wakeup.clear()
            await self._wakeup.wait()
        sampled = self._ready[0]
        if sampled is None:
            return None
        self._ready.popleft()
        if isinstance(sampled, UpdraftError):
            raise sampled
        self._taken.append(sampled.token)
        return sampled

    def available(self) -> bool:
        return bool(self._ready)

    def settle(self, tokens: Sequence[int]) -> None:
        if not self._still_fits(tokens):
            self._epoch += 1
            self._ready = deque(error for error in self._ready if isinstance(error, UpdraftError))
        self._taken.clear()
        command, settled, epoch = self._task.settle, list(tokens), self._epoch
        self._loop.post(lambda: command(settled, epoch))

    def hold(self, held: bool) -> None:
        self._loop.post(lambda: self._task.hold(held))

    def alone(self) -> None:
        pass

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.post(self._task.close)

    def deliver(self, proposals: list[Proposal]) -> None:
        """Called from the engine thread with what it has drafted."""
        self._asyncio.call_soon_threadsafe(self._receive, proposals)

    def _receive(self, proposals: list[Proposal]) -> None:
        for proposal in proposals:
            if proposal.epoch == self._epoch or isinstance(proposal.sampled, UpdraftError):
                self._ready.append(proposal.sampled)
        self._wakeup.set()

    def _still_fits(self, tokens: Sequence[int]) -> bool:
        """The committed tokens are the proposed ones in order, so that later proposals stand."""
        taken = self._taken
        if len(tokens) < len(taken) or list(tokens[: len(taken)]) != taken:
            return False
        for token in tokens[len(taken) :]:
            if not self._ready or not isinstance(self._ready[0], Sampled) or self._ready[0].token != token:
                return False
            self._ready.popleft()
        return True


class DraftTask:
    """The engine thread's side of a ModelDrafter; it never touches what the event loop's side owns."""

    def __init__(
        self,
        owner: ModelDrafter,
        prompt: Sequence[int],
        sampler: Sampler,
        *,
        ends: frozenset[int],
        ahead: int,
        most: int,
        costs: Costs,
        linger_s: float,
        hidden: bool,
    ) -> None:
        self._owner = owner
        self._engine = owner.loop.engine
        self._sampler = sampler
        self._ends = ends
        self._ahead = ahead
        self._most = most
        self._costs = costs
        self._linger_s = linger_s
        self._hidden = hidden
        self._outbox: list[Proposal] = []
        self._delivered_at = 0.0
        self._tokens = list(prompt)  # committed and drafted
        self._drafts: list[Sampled] = []  # the drafted tail of it
        self._epoch = 0
        self._held = False
        self._sequence = -1
        self._last_draft = 0.0

    def start(self) -> None:
        try:
            self._sequence = self._engine.open()
        except UpdraftError as error:
            self.fail(error)
            return
        self._owner.loop.add(self)

    def settle(self, tokens: list[int], epoch: int) -> None:
        """Move committed tokens from the drafts to the log; drop drafts that contradict them."""
        agreed = 0
        while agreed < min(len(tokens), len(self._drafts)) and self._drafts[agreed].token == tokens[agreed]:
            agreed += 1
        self._sampler.commit(tokens)
        if agreed == len(tokens):
            del self._drafts[:agreed]
        else:
            committed = len(self._tokens) - len(self._drafts) + agreed
            del self._tokens[committed:]
            self._tokens.extend(tokens[agreed:])
            self._drafts.clear()
            if self._sequence >= 0 and self._engine.length(self._sequence) > committed:
                self._engine.truncate(self._sequence, committed)
            self._log_changed(committed)
        if epoch != self._epoch:
            self._epoch = epoch
            self._outbox = [Proposal(epoch, sampled) for sampled in self._outstanding()]
            self._deliver()

    def hold(self, held: bool) -> None:
        self._held = held

    def close(self) -> None:
        self._owner.loop.remove(self)
        if self._sequence >= 0:
            self._engine.close(self._sequence)
            self._sequence = -1

    def plan(self) -> Want | None:
        drafts = self._drafts
        ended = bool(drafts) and drafts[-1].token in self._ends
        if self._held or ended or self._full or len(drafts) >= self._ahead:
            self._last_draft = 0.0
            self._deliver()
            if drafts or self._engine.length(self._sequence) >= len(self._tokens) - 1:
                return None
            # Nothing to propose now: compute what the cloud wrote, but leave the last token for its row.
            return Want(Priority.PREFILL, next_run(self._engine, self._sequence, self._tokens[:-1], 0, PREFILL_CHUNK))
        run = next_run(self._engine, self._sequence, self._tokens, 1, PREFILL_CHUNK)
        if run.rows and self._hidden:
            run = replace(run, hidden=True)
        return Want(Priority.WRITE if run.rows else Priority.PREFILL, run)

    @property
    def _full(self) -> bool:
        return len(self._tokens) >= self._most

    def consume(self, run: Run, output: Output) -> None:
        if run.rows:
            self._propose(self._draw(output), decoded=len(run.tokens) == 1)

    def _draw(self, output: Output) -> Sampled:
        """The token after the log that an output's row gives."""
        pending = [sampled.token for sampled in self._drafts] if self._sampler.params.has_penalties else ()
        sampled = self._sampler.draw(output.logits[0], len(self._tokens), pending=pending)
        # The engine's rows are valid until its next pass only.
        return sampled if output.hidden is None else replace(sampled, hidden=output.hidden[0].copy())

    def _propose(self, sampled: Sampled, *, decoded: bool) -> None:
        """Send a token; `decoded` if one token was computed for it, so that its time says what a draft costs."""
        self._tokens.append(sampled.token)
        self._drafts.append(sampled)
        self._outbox.append(Proposal(self._epoch, sampled))
        now = time.perf_counter()
        if now - self._delivered_at >= self._linger_s:
            self._deliver()
            self._delivered_at = now
        if self._last_draft and decoded:
            self._costs.note_draft(now - self._last_draft)
        self._last_draft = now

    def _log_changed(self, kept: int) -> None:
        """Settled tokens took another way than the drafts after `kept` tokens of the log."""

    def _outstanding(self) -> Sequence[Sampled | None]:
        """What has been proposed after the log's committed part."""
        return self._drafts

    def fail(self, error: UpdraftError) -> None:
        self._outbox.append(Proposal(self._epoch, error))
        self._deliver()

    def _deliver(self) -> None:
        if self._outbox:
            self._owner.deliver(self._outbox)
            self._outbox = []
