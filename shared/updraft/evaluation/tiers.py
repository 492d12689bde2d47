"""The pair under evaluation: an agent in this process with the cloud as a process of its own, or a running agent."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from updraft.cloud_process import CloudProcess
from updraft.config import CloudLinkSettings, CloudSettings, EdgeSettings, ListenSettings, RulesSettings
from updraft.demo.cores import pinned, split_cores, usable_cores
from updraft.errors import CloudUnavailable, InvalidRequest
from updraft.evaluation.subject import AgentSubject, Ask, Judged, ScoreMemory, Subject, Written, gather
from updraft.evaluation.variants import Variant
from updraft.models import model_info, resolve
from updraft.modes import ModeSettings
from updraft.sampling import Sampled, SamplingParams

__all__ = ["Pair", "PairOptions", "open_pair", "running_pair"]


_PATIENCE_S: Final = 300.0  # nobody waits for an answer here, and a late one would be judged as the edge's


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Which models, and how large.

    Attributes:
        cloud: address of a running cloud service, in place of a process with `cloud_model`.
        together: answers at once.
        router: name or file of a router; the pair's own when None.
    """

    model: str = "smollm2-q4_0"
    cloud_model: str = "smollm2"
    cloud: str | None = None
    context: int = 1024
    together: int = 2
    router: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Something to judge.

    Attributes:
        identity: what results of this pair are kept under.
        title: for people.
        subject: the pair under one variant's settings.
    """

    identity: dict[str, str]
    title: str
    subject: Callable[[Variant], Subject]


@contextlib.asynccontextmanager
async def open_pair(options: PairOptions, sampling: SamplingParams, say: Callable[[str], None]) -> AsyncIterator[Pair]:
    """Both tiers, each on its own half of the cores; nothing of them is left behind.

    Raises:
        ModelError, MissingExtra: a model cannot be used.
        CloudUnavailable: the cloud did not start, or does not answer.
    """
    from updraft_edge.agent import Agent
    from updraft_edge.policies.replay import replay_span

    edge_info = model_info(resolve(options.model, progress=say))
    split = split_cores(usable_cores())
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(pinned(split.edge))  # before any thread of the engine starts
        address = options.cloud
        if address is None:
            resolve(options.cloud_model, progress=say)
            say("starting the cloud process")
            settings = _cloud_settings(options, split.threads, split.cloud)
            address = (await stack.enter_async_context(CloudProcess(settings))).address
        say("loading the edge model")
        agent = await stack.enter_async_context(Agent(_edge_settings(options, split.threads, split.edge, address)))
        if agent.link is None:
            raise CloudUnavailable("The agent has no link to a cloud.")
        cloud = await agent.link.describe()
        identity = {
            "edge": edge_info.fingerprint,
            "cloud": cloud.fingerprint,
            "edge_model": Path(options.model).name,
            "cloud_model": cloud.model,
        }
        memory = ScoreMemory(agent)
        replay = partial(replay_span, seed=sampling.seed or 0, router=agent.escalation.router)
        yield Pair(
            identity,
            f"{identity['edge_model']} and {identity['cloud_model']}",
            lambda variant: AgentSubject(agent, variant.settings, sampling, memory, replay),
        )


@contextlib.asynccontextmanager
async def running_pair(address: str, sampling: SamplingParams) -> AsyncIterator[Pair]:
    """A running agent over gRPC; it writes, but scores no given text.

    Raises:
        AgentUnavailable: it does not answer.
    """
    from updraft.client import AsyncClient

    async with AsyncClient(address) as client:
        info = await client.info()
        tiers = {name: tier if isinstance(tier := info.get(name), dict) else {} for name in ("edge", "cloud")}
        identity = {
            "edge": f"{tiers['edge'].get('tokenizer_hash')}-{tiers['edge'].get('weight_bytes')}",
            "edge_model": str(tiers["edge"].get("model")),
            "cloud_model": str(tiers["cloud"].get("model")),
        }
        title = f"{identity['edge_model']} and {identity['cloud_model']} behind {address}"
        yield Pair(identity, title, lambda variant: _RemoteSubject(client, variant.settings, sampling))


class _RemoteSubject:
    """A running agent under a variant's settings."""

    def __init__(self, client: object, settings: ModeSettings, sampling: SamplingParams) -> None:
        from updraft.client import AsyncClient

        if not isinstance(client, AsyncClient):
            raise TypeError("a remote subject needs an AsyncClient")
        self._client = client
        self._settings = settings
        self._sampling = sampling

    async def write(self, ask: Ask) -> Written:
        sampling = self._sampling
        stream = self._client.stream(
            ask.prompt,
            messages=ask.messages,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            seed=sampling.seed,
            max_tokens=ask.max_tokens,
            stop=ask.stop,
            settings=self._settings.model_dump(mode="json", exclude_defaults=True) | {"mode": self._settings.mode},
        )

        async def items() -> AsyncIterator[object]:
            async with stream:
                async for event in stream:
                    yield event
                yield stream.completion

        return await gather(items())  # type: ignore[arg-type]

    async def score(self, context: str, options: Sequence[str], *, top_logprobs: int = 0) -> Judged:
        raise _no_scores()

    async def score_tokens(self, prompt: Sequence[int], branch: Sequence[int], *, top_logprobs: int = 0) -> Judged:
        raise _no_scores()

    async def cloud_scores(
        self, prompt: Sequence[int], branch: Sequence[int], *, top_logprobs: int = 0
    ) -> list[Sampled]:
        raise _no_scores()

    def prompt_tokens(self, ask: Ask) -> list[int]:
        raise _no_scores()


def _no_scores() -> InvalidRequest:
    return InvalidRequest(
        "A running agent writes answers, but gives this verb no scores of given text.",
        remedy="Leave out --agent and name the models with --model and --cloud-model.",
        param="agent",
    )


def _cloud_settings(options: PairOptions, threads: int, cores: tuple[int, ...] | None) -> CloudSettings:
    return CloudSettings(
        model=options.cloud_model,
        context=options.context,
        sequences=2 * options.together + 2,
        threads=threads,
        cores=cores,
        listen=ListenSettings(port=0),
        drain_s=0.2,
        log_level="warning",
    )


def _edge_settings(
    options: PairOptions, threads: int, cores: tuple[int, ...] | None, address: str | None
) -> EdgeSettings:
    return EdgeSettings(
        model=options.model,
        context=options.context,
        sequences=options.together,
        threads=threads,
        cores=cores,
        cloud=CloudLinkSettings(address=address, reply_timeout_s=_PATIENCE_S),
        router=options.router,
        # Nothing leaves the machine where the cloud is a process here, and a rule would change what is measured.
        rules=RulesSettings() if options.cloud else RulesSettings(keep_local=()),
    )
