"""Makes a log of verdicts: the pair answers prompts in mode `draft`, and the edge writes down what stood."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from updraft.cloud_process import CloudProcess
from updraft.config import CloudLinkSettings, CloudSettings, EdgeSettings, ListenSettings
from updraft.errors import CloudUnavailable, InvalidRequest, PromptTooLong
from updraft.generation import ChatMessage, Completion, GenerationRequest
from updraft.mode_settings import StopSettings
from updraft.modes import Mode, ModeSettings
from updraft.sampling import SamplingParams
from updraft.train.write import read_prompts

if TYPE_CHECKING:
    from updraft_edge.agent import Agent

__all__ = ["TRAINING_PROMPTS", "VerdictJob", "collect_verdicts", "training_prompts"]

TRAINING_PROMPTS = (
    "gsm8k/train.jsonl",
    "instruct_dolly2000/dolly_train.json",
    "self_instruct/user_oriented_instructions.jsonl",
)
"""Files of a data folder that are trained on; everything else is for measuring only."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class VerdictJob:
    """What is answered, by which pair.

    Attributes:
        edge, cloud: catalogue names or files of the two models.
        log: the file to append to.
        longest: tokens of an answer, at most.
        at_once: answers written at once.
    """

    edge: str
    cloud: str
    log: Path
    prompts: Sequence[str]
    longest: int = 128
    at_once: int = 4
    context: int = 1024
    seed: int = 0
    threads: int = 1


def training_prompts(data: Path, count: int) -> list[str]:
    """The first `count` prompts of a data folder's training files, taken from them in turn.

    Raises InvalidRequest where none of the files is there.
    """
    files = [data / name for name in TRAINING_PROMPTS if (data / name).is_file()]
    if not files:
        raise InvalidRequest(f"{data} holds none of {', '.join(TRAINING_PROMPTS)}", param="data")
    lists = [read_prompts(path) for path in files]
    longest = max(map(len, lists))
    mixed = [prompts[place] for place in range(longest) for prompts in lists if place < len(prompts)]
    return mixed[:count]


async def collect_verdicts(job: VerdictJob, progress: Progress | None = None) -> int:
    """Answer the prompts greedily; prompts that are too long are left out.

    Returns:
        How many were answered.

    Raises:
        CloudUnavailable: the cloud went away.
        UpdraftError: a model cannot be loaded, or the pair does not fit together.
    """
    from updraft_edge.agent import Agent

    cloud = CloudSettings(
        model=job.cloud,
        context=job.context,
        sequences=job.at_once + 1,
        threads=job.threads,
        listen=ListenSettings(port=0),
    )
    async with CloudProcess(cloud) as service:
        settings = EdgeSettings(
            model=job.edge,
            context=job.context,
            sequences=job.at_once,
            threads=job.threads,
            verdict_log=job.log,
            # Nobody waits for these answers: a busy machine may take its time.
            cloud=CloudLinkSettings(address=service.address, connect_timeout_s=60, reply_timeout_s=300),
            mode=ModeSettings(mode=Mode.DRAFT, stop=StopSettings(rule="fixed", length=6)),
        )
        async with Agent(settings) as agent:
            if agent.link is not None:
                await agent.link.describe()
            return await _answer_all(agent, job, progress)


async def _answer_all(agent: Agent, job: VerdictJob, progress: Progress | None) -> int:
    waiting = list(enumerate(job.prompts))[::-1]
    done = answered = 0

    async def work() -> None:
        nonlocal done, answered
        while waiting:
            number, prompt = waiting.pop()
            answered += await _answer(agent, job, number, prompt)
            done += 1
            if progress is not None:
                progress(done, len(job.prompts))

    workers = [asyncio.create_task(work()) for _ in range(job.at_once)]
    try:
        await asyncio.gather(*workers)
    finally:  # the first error is the one to see
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return answered


async def _answer(agent: Agent, job: VerdictJob, number: int, prompt: str) -> bool:
    request = GenerationRequest(
        messages=[ChatMessage("user", prompt)],
        sampling=SamplingParams(seed=job.seed + number),
        max_tokens=job.longest,
    )
    try:
        async for item in agent.generate(request):
            if isinstance(item, Completion) and item.degraded:
                raise CloudUnavailable(f"The cloud went away: {item.degraded_reason}.")
    except PromptTooLong:
        return False
    return True
