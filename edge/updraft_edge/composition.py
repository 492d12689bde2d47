"""Modes: each is one choice for every seam, put together for one answer."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from updraft.engine.loop import EngineLoop
from updraft.errors import UpdraftError
from updraft.generation import GenerationRequest
from updraft.modes import Mode, ModeSettings
from updraft.sampling import Sampler, SamplingParams
from updraft_edge import wire
from updraft_edge.answer import Answer
from updraft_edge.cloud_session import CloudSession
from updraft_edge.drafters import ModelDrafter, NoDrafter
from updraft_edge.link import CloudLink
from updraft_edge.policies import Always, EntropyWindow, HandOverAll, Never
from updraft_edge.seams import Drafter, EscalationPolicy, StopRule
from updraft_edge.stop_rules import AcceptanceEstimate, Costs, FixedLength, WhileReady, make_stop_rule

__all__ = ["Composition", "Workshop"]

log = logging.getLogger(__name__)

AHEAD_ALONE = 32  # keeps the engine busy while a slow reader takes events
LINGER_ALONE_S = 0.045  # over 20 updates a second: text still flows
AHEAD_SPAN = 4  # whatever is drafted beyond a hand-over is lost


@dataclass(slots=True)
class Composition:
    """Drafter, stop rule, policy and session of one answer."""

    mode: Mode
    seed: int
    drafter: Drafter
    stop: StopRule
    policy: EscalationPolicy
    costs: Costs
    session: CloudSession | None
    workshop: Workshop
    request: GenerationRequest
    sampling: SamplingParams

    @property
    def cloud(self) -> CloudSession:
        """The session that a decision to escalate needs."""
        if self.session is None:
            raise RuntimeError(f"mode {self.mode} escalates without a session")
        return self.session

    def degrade(self, answer: Answer, error: UpdraftError) -> None:
        """From here on the edge writes alone, and the answer says so."""
        answer.degraded = error.code
        if self.session is not None:
            self.session.abandon()
        if isinstance(self.drafter, NoDrafter):
            self.drafter = self.workshop.drafter(self.request, self.sampling, answer, AHEAD_ALONE, LINGER_ALONE_S)
        self.policy, self.stop = Never(), WhileReady(self.drafter.available)
        self.drafter.hold(False)

    async def close(self) -> None:
        self.drafter.close()
        if self.session is not None:
            await self.session.close()


class Workshop:
    """Builds compositions; keeps what answers of one agent learn from each other."""

    def __init__(self, loop: EngineLoop, link: CloudLink | None) -> None:
        self._loop = loop
        self._link = link
        self._estimate = AcceptanceEstimate()
        self._costs = Costs()

    def compose(self, settings: ModeSettings, request: GenerationRequest, answer: Answer) -> Composition:
        local = settings.local_only or self._link is None
        mode = Mode.EDGE if local else settings.mode
        sampling = request.sampling.with_seed()
        drafter: Drafter
        stop: StopRule = FixedLength(1)
        policy: EscalationPolicy
        match mode:
            case Mode.EDGE:
                drafter, policy = self.drafter(request, sampling, answer, AHEAD_ALONE, LINGER_ALONE_S), Never()
                stop = WhileReady(drafter.available)
            case Mode.CLOUD:
                drafter, policy = NoDrafter(), HandOverAll()
            case Mode.SPAN:
                drafter, policy = self.drafter(request, sampling, answer, AHEAD_SPAN), EntropyWindow(settings.span)
            case Mode.DRAFT:
                drafter, policy = self.drafter(request, sampling, answer, 2 * settings.stop.longest), Always()
                stop = make_stop_rule(settings.stop, self._estimate, self._costs)
        session = None if mode is Mode.EDGE else self._session(request, sampling, answer)
        return Composition(
            mode, sampling.seed or 0, drafter, stop, policy, self._costs, session, self, request, sampling
        )

    def drafter(
        self,
        request: GenerationRequest,
        sampling: SamplingParams,
        answer: Answer,
        ahead: int,
        linger_s: float = 0.0,
    ) -> ModelDrafter:
        """A drafter that continues the answer's log."""
        log = answer.log
        sampler = Sampler(sampling, log.tokens[: log.prompt_length], top_logprobs=request.top_logprobs)
        sampler.commit(log.generated)
        return ModelDrafter(
            self._loop,
            log.tokens,
            sampler,
            ends=answer.ends,
            ahead=ahead,
            most=log.prompt_length + answer.most,
            costs=self._costs,
            linger_s=linger_s,
        )

    def _session(self, request: GenerationRequest, sampling: SamplingParams, answer: Answer) -> CloudSession:
        if self._link is None:
            raise RuntimeError("a session needs a link")
        opening = wire.Opening(
            tokenizer_hash=self._loop.engine.info.tokenizer_hash,
            sampling=sampling,
            max_tokens=answer.most,
            stop_tokens=sorted(answer.ends),
            report=request.logprobs,
            top_logprobs=request.top_logprobs if request.logprobs else 0,
            ignore_end=request.ignore_end,
        )
        return CloudSession(self._link, opening, answer.log, answer.statistics)
