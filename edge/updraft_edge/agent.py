"""The edge agent: draft → decide → (escalate) → commit, for every answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Self

from updraft.config import EdgeSettings
from updraft.engine import Engine, open_engine
from updraft.engine.loop import EngineLoop
from updraft.generation import Completion, GenerationEvent, GenerationRequest, TokenEvent
from updraft.modes import ModeSettings
from updraft.sampling import Sampled
from updraft.solution import ProgressEvent
from updraft.tracing import Tracer, open_tracer
from updraft_edge.answer import Answer
from updraft_edge.auto.chooser import Chooser
from updraft_edge.composition import Composition
from updraft_edge.describe import MODEL, describe_agent, describe_outside, describe_tokenizer
from updraft_edge.endpoint.link import open_endpoint
from updraft_edge.intake import Intake
from updraft_edge.link import CloudLink
from updraft_edge.metrics import EdgeMetrics
from updraft_edge.policies.escalation import Escalation
from updraft_edge.profiles import Profiles
from updraft_edge.rules.guard import Rules
from updraft_edge.scoring import Judge
from updraft_edge.stopping.costs import Costs
from updraft_edge.trace_recorder import TraceRecorder
from updraft_edge.watch import Watch
from updraft_edge.workshop import Workshop
from updraft_edge.writing import write

__all__ = ["Agent"]

log = logging.getLogger(__name__)


class Agent:
    """Writes answers with the edge model and, where the mode asks for it, the cloud.

    Use it as an async context manager in scripts; `updraft serve edge` puts HTTP and gRPC in front of it.

    Args:
        settings: the edge tier's settings.
        engine: an engine to use in place of `settings.model`; the agent shuts it down.
        tracer: what traces its answers, in place of one of these settings; the agent closes it.
    """

    def __init__(self, settings: EdgeSettings, *, engine: Engine | None = None, tracer: Tracer | None = None) -> None:
        self.settings = settings
        self._tracer = open_tracer(settings.tracing, "updraft-edge") if tracer is None else tracer
        self.metrics = EdgeMetrics()
        self.rules = Rules(settings, self.piece)
        self.endpoint = open_endpoint(settings, self.rules)
        self._given_engine = engine
        self._link: CloudLink | None = None
        self._ready = False

    async def __aenter__(self) -> Self:
        engine = self._given_engine
        if engine is None:
            engine = await asyncio.to_thread(_load_engine, self.settings)
        self._engine: Engine = engine
        self._loop = EngineLoop(engine, pass_tokens=self.settings.batch_tokens)
        self._loop.start()
        try:
            self._compose(engine)
        except BaseException:  # nobody will leave an agent that was never entered
            if self._link is not None:
                await self._link.close()
            await asyncio.to_thread(self._loop.stop)
            raise
        self._ready = True
        return self

    def _compose(self, engine: Engine) -> None:
        """Everything that an answer needs besides the engine's loop."""
        self._profiles = Profiles.of(engine, self.settings.mode.profile)
        self._intake = Intake(engine, most=self.settings.max_tokens)
        if self.settings.has_cloud and not self.settings.local_only:
            self._link = CloudLink(
                self.settings.cloud, self.rules, on_state=lambda state: self.metrics.link(state.value)
            )
            self._link.greet()
        escalation = Escalation(self.settings, engine.info, self._link)
        self._workshop = Workshop(
            self._loop,
            self._link,
            escalation,
            endpoint=self.endpoint,
            acceptance_head=self.settings.acceptance_head,
            lookup_tokens=self.settings.lookup_tokens,
        )
        self._chooser = Chooser.of(
            self.settings, self._workshop, edge=engine.info.name, link=self._link, endpoint=self.endpoint
        )
        self._places = asyncio.Semaphore(engine.max_sequences)

    async def __aexit__(self, *exception: object) -> None:
        self._ready = False
        await self._chooser.close()
        for link in (self._link, self.endpoint):
            if link is not None:
                await link.close()
        self._workshop.escalation.close()
        await asyncio.to_thread(self._loop.stop)
        await asyncio.to_thread(self._tracer.close)

    @property
    def model(self) -> str:
        return MODEL

    @property
    def context(self) -> int:
        return self._engine.context

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def costs(self) -> Costs:
        """What drafting and asking cost, as measured while it answers."""
        return self._workshop.costs

    @property
    def escalation(self) -> Escalation:
        """Budgets, router and log of verdicts, shared by its answers."""
        return self._workshop.escalation

    @property
    def chooser(self) -> Chooser:
        """What the mode `auto` chooses with."""
        return self._chooser

    @property
    def link(self) -> CloudLink | None:
        """The link to the cloud; None if the agent is local only."""
        return self._link

    def encode(self, text: str, *, start: bool = True, special: bool = False) -> list[int]:
        return self._engine.tokenizer.encode(text, start=start, special=special)

    def tokenizer_info(self) -> dict[str, object]:
        return describe_tokenizer(self._engine)

    def piece(self, token: int) -> bytes:
        return self._engine.tokenizer.piece(token)

    def info(self) -> dict[str, object]:
        described = describe_agent(self.settings, self._engine, self._link, self._workshop.exits)
        return described | describe_outside(self._link, self.endpoint, self.rules)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TokenEvent | Completion, None]:
        """Token events, then one Completion. Raises as `follow` does."""
        async with contextlib.aclosing(self.follow(request)) as events:
            async for event in events:
                if not isinstance(event, ProgressEvent):
                    yield event

    async def follow(self, request: GenerationRequest) -> AsyncGenerator[GenerationEvent, None]:
        """Token events, and what happens before them if the request asks for that, then one Completion.

        Raises:
            InvalidRequest: the request cannot be answered as it is.
            Withheld: a rule keeps it here, and the configuration says that it fails then.
            TokenizerMismatch, TrunkMismatch, Unauthenticated: the cloud refuses to work with this edge.
            Overloaded, EngineFailure: the edge model cannot go on.
        """
        started = time.perf_counter()
        answer = self._intake.begin(request, started)
        answer.watch = Watch(self.metrics, self._tracer)
        with answer.watch:
            async with self._places, self._composed(request, answer) as composition:
                recorder = self._recorder(answer, composition) if request.trace else None
                try:
                    last = 0.0
                    async for event in write(answer, composition):
                        if isinstance(event, TokenEvent):
                            self.metrics.token(event, event.seconds - last)
                            last = event.seconds
                        yield event
                finally:
                    completion = answer.completion(mode=composition.mode, model=self.model, seed=composition.seed)
                    if recorder is not None:
                        completion.trace = recorder.finish()
                    self._chooser.learn(answer, completion)
            answer.watch.finished(completion)
        yield completion

    async def score(
        self, tokens: Sequence[int], *, settings: ModeSettings | None = None, top_logprobs: int = 0
    ) -> list[Sampled]:
        """As `AgentView.score`: how probable each token but the first is after those before it."""
        return (await self.score_branches(tokens[:1], [tokens[1:]], settings=settings, top_logprobs=top_logprobs))[0]

    async def score_branches(
        self,
        prompt: Sequence[int],
        branches: Sequence[Sequence[int]],
        *,
        settings: ModeSettings | None = None,
        top_logprobs: int = 0,
    ) -> list[list[Sampled]]:
        """Scores of several texts after one prompt, which is computed once. See `Judge.score`."""
        async with self._places:
            judge = Judge(self._loop, self._link, endpoint=self.endpoint is not None)
            return await judge.score(prompt, branches, settings or self.settings.mode, top_logprobs=top_logprobs)

    def _recorder(self, answer: Answer, composition: Composition) -> TraceRecorder:
        cloud = self._link.cloud if self._link is not None else None
        return TraceRecorder(answer, composition, edge=self._engine.info.name, cloud=cloud.model if cloud else None)

    @contextlib.asynccontextmanager
    async def _composed(self, request: GenerationRequest, answer: Answer) -> AsyncIterator[Composition]:
        """What the request's mode is made of; freed whatever happens."""
        settings = await self._profiles.resolve(request.settings or self.settings.mode, self._link)
        settings = self._chooser.resolve(settings, request, answer)
        composition = self._workshop.compose(settings, request, answer)
        try:
            composition.begin(answer)
            yield composition
        finally:
            await composition.close()


def _load_engine(settings: EdgeSettings) -> Engine:
    return open_engine(settings.model, **settings.engine_options())
