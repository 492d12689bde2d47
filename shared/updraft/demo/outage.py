"""The cloud is killed in mid-answer; the edge goes on alone; the cloud comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from updraft.cloud_process import CloudProcess
from updraft.demo.measure import completed
from updraft.demo.origins import Source
from updraft.demo.report import Outage
from updraft.errors import ProtocolViolation
from updraft.generation import Completion, GenerationRequest, Generator, TokenEvent

__all__ = ["Interrupted", "interrupted_answer", "recovery"]


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An answer in whose middle the cloud was killed; see `Outage` for the counts."""

    completion: Completion
    killed_after: int
    alone: int
    longest_pause_seconds: float


async def interrupted_answer(
    agent: Generator,
    request: GenerationRequest,
    cloud: CloudProcess,
    *,
    kill_after: int,
    on_token: Callable[[TokenEvent], None],
    on_kill: Callable[[], None],
) -> Interrupted:
    """Let the agent answer, and kill the cloud process (SIGKILL) once `kill_after` tokens are there."""
    seen = killed_after = alone = 0
    last = pause = 0.0
    async for item in agent.generate(request):
        if isinstance(item, Completion):
            return Interrupted(item, killed_after, alone, pause)
        seen += 1
        on_token(item)
        if killed_after:
            pause = max(pause, item.seconds - last)
            alone += Source.of(item) is Source.ALONE
        last = item.seconds
        if seen == kill_after:
            await cloud.kill()
            killed_after = seen
            on_kill()
    raise ProtocolViolation("The answer ended without its completion.")


async def recovery(
    agent: Generator,
    request: GenerationRequest,
    cloud: CloudProcess,
    interrupted: Interrupted,
) -> Outage:
    """Start the cloud again, ask the next thing at once, and say what both answers were."""
    started = time.perf_counter()
    await cloud.start()
    restarted = time.perf_counter() - started
    again = await completed(agent, request)
    cut = interrupted.completion
    return Outage(
        killed_after=interrupted.killed_after,
        tokens=cut.statistics.tokens,
        alone=interrupted.alone,
        completed=cut.finish_reason != "cancelled",
        degraded=cut.degraded,
        reason=cut.degraded_reason,
        longest_pause_seconds=interrupted.longest_pause_seconds,
        restart_seconds=restarted,
        next_tokens=again.statistics.tokens,
        next_cloud_passes=again.statistics.cloud_passes,
        next_degraded=again.degraded,
    )
