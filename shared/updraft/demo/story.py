"""The demonstration's course: start both tiers, show answers, compare the modes, kill the cloud, come back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.text import Text

from updraft.cloud_process import CloudProcess
from updraft.config import CloudLinkSettings, CloudSettings, EdgeSettings, ListenSettings
from updraft.demo.cores import CoreSplit, pinned, split_cores, usable_cores
from updraft.demo.measure import SEED, WAYS, completed, measure, request_for
from updraft.demo.origins import Legend
from updraft.demo.outage import Interrupted, interrupted_answer, recovery
from updraft.demo.prompts import OUTAGE_PROMPT, PROMPTS, SPAN_PROMPT, WARM_UP_PROMPT
from updraft.demo.report import DemoReport, Outage, Tier, Way, WayFigures
from updraft.demo.screen import Screen
from updraft.demo.tables import findings, next_steps, outage_lines, pair_sentence, place_table, ways_table
from updraft.engine.base import ModelInfo
from updraft.generation import Completion, GenerationRequest
from updraft.models import model_info, resolve
from updraft.modes import Mode

if TYPE_CHECKING:
    from updraft_edge.agent import Agent

__all__ = ["DemoOptions", "run_demo"]

_CONTEXT: Final = 1024
_WARM_UP_TOKENS: Final = 8
_GREEDY_DRAFT: Final = Way(Mode.DRAFT, 0.0)
_GREEDY_SPAN: Final = Way(Mode.SPAN, 0.0)


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How much the demonstration does.

    Attributes:
        prompts: prompts that the modes are compared on, 1 to `len(PROMPTS)`.
        tokens: longest answer.
        shown: answers streamed in mode `draft` before the comparison.
    """

    prompts: int = 6
    tokens: int = 48
    shown: int = 3
    edge_model: str = "smollm2-student"
    cloud_model: str = "smollm2"


@dataclass(frozen=True, slots=True)
class _Stage:
    """Both tiers, running."""

    agent: Agent
    cloud: CloudProcess
    edge_tier: Tier
    cloud_tier: Tier
    split: CoreSplit


async def run_demo(options: DemoOptions, screen: Screen) -> DemoReport:
    """Run the whole demonstration; nothing of it is left behind, whatever happens.

    Raises:
        CloudUnavailable: the cloud process did not start; the message holds the end of its log.
        ModelError, MissingExtra: a model cannot be used.
    """
    async with _stage(options, screen) as stage:
        _show_places(stage, options, screen)
        await _show_answers(stage, options, screen)
        ways = await _compare(stage, options, screen)
        outage = await _show_outage(stage, options, screen)
    report = DemoReport(
        edge=stage.edge_tier,
        cloud=stage.cloud_tier,
        cores_apart=stage.split.apart,
        tokens=options.tokens,
        seed=SEED,
        ways=ways,
        outage=outage,
    )
    screen.show("", next_steps())
    return report


@contextlib.asynccontextmanager
async def _stage(options: DemoOptions, screen: Screen) -> AsyncIterator[_Stage]:
    """The cloud as a process of its own, the edge agent in this one, each on its cores."""
    from updraft_edge.agent import Agent

    split = split_cores(usable_cores())
    async with contextlib.AsyncExitStack() as stack:
        with screen.waiting("Looking for the models") as say:
            edge_info, cloud_info = (
                model_info(resolve(model, progress=say)) for model in (options.edge_model, options.cloud_model)
            )
        stack.enter_context(pinned(split.edge))  # before any thread of the engine starts
        with screen.waiting("Starting the cloud process"):
            cloud = await stack.enter_async_context(CloudProcess(_cloud_settings(options, split)))
        with screen.waiting("Loading the edge model"):
            agent = await stack.enter_async_context(Agent(_edge_settings(options, split, cloud.address)))
            await completed(agent, request_for(_GREEDY_DRAFT, WARM_UP_PROMPT, _WARM_UP_TOKENS))
        yield _Stage(
            agent,
            cloud,
            _tier(options.edge_model, edge_info, os.getpid(), split.edge, split.threads),
            _tier(options.cloud_model, cloud_info, cloud.pid or 0, split.cloud, split.threads, cloud.address),
            split,
        )


def _cloud_settings(options: DemoOptions, split: CoreSplit) -> CloudSettings:
    return CloudSettings(
        model=options.cloud_model,
        context=_CONTEXT,
        sequences=4,
        threads=split.threads,
        cores=split.cloud,
        listen=ListenSettings(port=0),
        drain_s=0.2,
        log_level="warning",
    )


def _edge_settings(options: DemoOptions, split: CoreSplit, address: str) -> EdgeSettings:
    return EdgeSettings(
        model=options.edge_model,
        context=_CONTEXT,
        sequences=2,
        threads=split.threads,
        cores=split.edge,
        cloud=CloudLinkSettings(address=address),
    )


def _tier(
    model: str, info: ModelInfo, pid: int, cores: tuple[int, ...] | None, threads: int, address: str | None = None
) -> Tier:
    name = Path(model).name
    return Tier(name, info.quantisation, info.layers, info.weight_bytes, pid, cores, threads, address)


def _show_places(stage: _Stage, options: DemoOptions, screen: Screen) -> None:
    screen.show("", Text("Updraft: a small model on the edge and a large one in the cloud write one answer.", "bold"))
    screen.section("What runs where")
    screen.show(place_table(stage.edge_tier, stage.cloud_tier))
    screen.show(Text(pair_sentence(stage.edge_tier, stage.cloud_tier), "italic"))
    screen.show(
        Text(f"{stage.split.sentence()} Speed is not the point: watch the passes and the shares.", "italic"),
    )


async def _show_answers(stage: _Stage, options: DemoOptions, screen: Screen) -> None:
    """Answers of mode `draft`, and one of `span`."""
    if screen.quiet:
        return
    screen.section("Mode draft: the edge drafts, the cloud verifies. The text is the cloud's own.")
    screen.show(Legend(), "")
    for prompt in PROMPTS[: options.shown]:
        await _show_answer(stage.agent, screen, prompt, request_for(_GREEDY_DRAFT, prompt, options.tokens))
    screen.section("Mode span: the edge writes, and hands over to the cloud where it is unsure.")
    await _show_answer(stage.agent, screen, SPAN_PROMPT, request_for(_GREEDY_SPAN, SPAN_PROMPT, options.tokens))


async def _show_answer(agent: Agent, screen: Screen, prompt: str, request: GenerationRequest) -> None:
    with screen.answer(prompt, request.settings.mode.value if request.settings else "") as view:
        async for item in agent.generate(request):
            if isinstance(item, Completion):
                view.finish(item)
            else:
                view.text.add(item)


async def _compare(stage: _Stage, options: DemoOptions, screen: Screen) -> tuple[WayFigures, ...]:
    prompts = PROMPTS[: options.prompts]
    screen.section(f"The modes compared: {len(prompts)} prompts, up to {options.tokens} tokens each")
    with screen.progress(len(WAYS) * len(prompts)) as step:
        ways = await measure(
            stage.agent, prompts, options.tokens, on_answer=lambda way: step(f"{way.mode} T={way.temperature:g}")
        )
    screen.show(ways_table(ways), *findings(ways))
    return ways


async def _show_outage(stage: _Stage, options: DemoOptions, screen: Screen) -> Outage:
    screen.section("The cloud process is killed in mid-answer; then it comes back")
    interrupted = await _interrupted(stage, options, screen)
    with screen.waiting("Starting the cloud again"):
        request = request_for(_GREEDY_DRAFT, PROMPTS[0], options.tokens)
        outage = await recovery(stage.agent, request, stage.cloud, interrupted)
    screen.show(outage_lines(outage))
    return outage


async def _interrupted(stage: _Stage, options: DemoOptions, screen: Screen) -> Interrupted:
    request = request_for(_GREEDY_DRAFT, OUTAGE_PROMPT, options.tokens, ignore_end=True)
    with screen.answer(OUTAGE_PROMPT, Mode.DRAFT.value) as view:
        interrupted = await interrupted_answer(
            stage.agent,
            request,
            stage.cloud,
            kill_after=max(1, options.tokens // 3),
            on_token=view.text.add,
            on_kill=view.text.note_killed,
        )
        view.finish(interrupted.completion)
    return interrupted
