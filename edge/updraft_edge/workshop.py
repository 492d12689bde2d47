"""Modes: one method for each puts the seams together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from updraft.engine.loop import EngineLoop
from updraft.errors import InvalidRequest
from updraft.generation import GenerationRequest
from updraft.mode_settings import ExitSettings
from updraft.modes import TEXT_MODES, Mode, ModeSettings
from updraft.sampling import Sampler, SamplingParams
from updraft.strategies.effort import plan_of
from updraft_edge import wire
from updraft_edge.answer import Answer
from updraft_edge.cloud_session import CloudSession
from updraft_edge.composition import Composition, Order, Parts, Session
from updraft_edge.drafters import ModelDrafter, NoDrafter
from updraft_edge.endpoint.link import EndpointLink
from updraft_edge.endpoint.session import EndpointSession, only_text
from updraft_edge.exits.drafter import EarlyExitDrafter
from updraft_edge.exits.plans import ExitModel
from updraft_edge.link import CloudLink
from updraft_edge.lookup.kit import LookupKit, looks_up
from updraft_edge.policies.escalation import LOGGED_PROMPT_ROWS, Escalation
from updraft_edge.policies.judges import step_judge
from updraft_edge.policies.load import WhileItCarries
from updraft_edge.policies.plain import Always, ConfidentOnly, HandOverAll, Never
from updraft_edge.policies.prompt_rows import PromptReadingDrafter
from updraft_edge.policies.reason import Reasoning
from updraft_edge.policies.route_parts import route_parts
from updraft_edge.policies.rubric import Questions
from updraft_edge.policies.scores import SHAPED
from updraft_edge.solving.parts import asking_of, solve_parts
from updraft_edge.solving.session import SolveSession
from updraft_edge.stopping.costs import Costs
from updraft_edge.stopping.predictors import Predictors
from updraft_edge.stopping.rules import FixedLength, WhileReady, at_most, make_stop_rule

__all__ = ["Workshop"]

AHEAD_ALONE = 32  # keeps the engine busy while a slow reader takes events
LINGER_ALONE_S = 0.045  # over 20 updates a second: text still flows
AHEAD_STEP = 16  # of the next step while the last one is graded
AHEAD_SPAN = 4  # whatever is drafted beyond a hand-over is lost


class Workshop:
    """Builds compositions; keeps what answers of one agent learn from each other.

    Raises BadModelFile where the calibration or the exit heads of a staged edge model are damaged, and as
    `read_acceptance_head` and `AcceptanceHead.check` do.
    """

    def __init__(
        self,
        loop: EngineLoop,
        link: CloudLink | None,
        escalation: Escalation,
        *,
        endpoint: EndpointLink | None = None,
        acceptance_head: Path | None = None,
        lookup_tokens: int,
    ) -> None:
        self._loop = loop
        self._link = link
        self._endpoint = endpoint
        self.escalation = escalation
        self._predictors = Predictors(loop.engine.info, acceptance_head)
        self._costs = Costs()
        if link is not None:
            link.on_price = self._costs.heed
        self.lookups = LookupKit(self._costs, lookup_tokens)
        self._questions = Questions(loop.engine.tokenizer, loop.engine.info.chat_template)
        self.exits = ExitModel.of(loop.engine)

    @property
    def costs(self) -> Costs:
        """What drafting and asking cost, as this agent has measured it."""
        return self._costs

    def compose(self, settings: ModeSettings, request: GenerationRequest, answer: Answer) -> Composition:
        """Raises InvalidRequest or ConfigError where the edge model cannot do what the settings ask for."""
        local = settings.local_only or (self._link is None and self._endpoint is None)
        mode = Mode.EDGE if local and settings.mode is not Mode.SOLVE else settings.mode
        sampling = request.sampling.with_seed()
        alone = local or mode is Mode.EDGE
        session = None if alone else self._session(mode, settings, request, sampling, answer)
        order = Order(settings, request, sampling, answer, session)
        drafter, stop, policy = self._makers()[mode](order)
        stop = self.escalation.logged(stop, answer, mode, drafter)
        seed = sampling.seed or 0
        parts = (drafter, stop, policy, self._costs, session, self.alone)
        return Composition(mode, settings, seed, *parts, request, sampling)

    def works(self, mode: Mode) -> bool:
        """Whether answers can be written in this mode; `auto` resolves to one of the others."""
        return mode in self._makers() and (mode is not Mode.EXIT or self.exits is not None)

    def _makers(self) -> dict[Mode, Callable[[Order], Parts]]:
        """One method for each mode."""
        return {
            Mode.EDGE: self._edge,
            Mode.CLOUD: self._cloud,
            Mode.DRAFT: self._draft,
            Mode.LOOKUP: self._lookup,
            Mode.CASCADE: self._draft,
            Mode.SPAN: self._span,
            Mode.ROUTE: self._route,
            Mode.REASON: self._reason,
            Mode.EXIT: self._exit,
            Mode.SOLVE: self._solve,
        }

    def alone(self, order: Order) -> ModelDrafter:
        """A drafter for an answer that the edge writes by itself."""
        return self.drafter(order, AHEAD_ALONE, LINGER_ALONE_S)

    def _edge(self, order: Order) -> Parts:
        drafter = self.alone(order)
        return drafter, WhileReady(drafter.available), Never()

    def _cloud(self, order: Order) -> Parts:
        return NoDrafter(), FixedLength(1), HandOverAll()

    def _draft(self, order: Order) -> Parts:
        cloud = None if self._link is None else self._link.cloud
        stop = at_most(order.settings.stop, 0 if cloud is None else cloud.max_draft)
        judging = order.settings.acceptance if order.settings.mode is Mode.CASCADE else None
        predictor = self._predictors.of(stop, (judging, order.sampling.temperature > 0.0))
        hidden, rows = self._predictors.reads_hidden(stop), self._logged_rows
        drafter = self.drafter(order, 2 * stop.longest, hidden=hidden, shape=rows > 0, prompt_rows=rows)
        rule = make_stop_rule(stop, predictor, self._costs, drafter.available)
        heeds = stop.heeds_load and order.settings.mode is Mode.DRAFT  # a span of `cascade` would be another text
        policy = WhileItCarries(self._costs, predictor, stop.longest) if heeds else Always()
        if order.settings.lookup.before_model:
            return *self.lookups.before(order.settings.lookup, order.answer, drafter, rule), policy
        return drafter, rule, policy

    def _lookup(self, order: Order) -> Parts:
        return self.lookups.alone(order.settings.lookup, order.answer)

    def _span(self, order: Order) -> Parts:
        escalation, answer = self.escalation, order.answer
        shape = order.settings.span.score in SHAPED or escalation.log is not None
        drafter = self.drafter(order, AHEAD_SPAN, shape=shape, prompt_rows=self._logged_rows)
        return drafter, FixedLength(1), escalation.span(order.settings, answer, order.sampling.seed or 0)

    def _route(self, order: Order) -> Parts:
        return route_parts(self, self.escalation, order, self._loop.engine.tokenizer)

    def _solve(self, order: Order) -> Parts:
        if order.request.ignore_end:
            raise InvalidRequest("ignore_end does not go with the mode solve.", param="ignore_end")
        plan = plan_of(order.settings, order.answer.most)
        return solve_parts(self, order, plan, self._loop.engine.tokenizer)

    @property
    def _logged_rows(self) -> int:
        """Rows of the prompt that the log of verdicts wants measured."""
        return LOGGED_PROMPT_ROWS if self.escalation.log is not None else 0

    def _reason(self, order: Order) -> Parts:
        settings, session = order.settings.reason, order.session
        assert not isinstance(session, SolveSession)  # noqa: S101  # which is of another mode
        prompt, chat = order.answer.log.tokens[: order.answer.log.prompt_length], order.request.messages is not None
        judge = step_judge(session, settings.scoring, lambda: self._questions.after(prompt, chat=chat))
        reasoning = Reasoning(settings, judge, order.answer, self._loop.engine.tokenizer)
        return self.drafter(order, settings.step_tokens + AHEAD_STEP), reasoning, reasoning

    def _exit(self, order: Order) -> Parts:
        asks = order.session if isinstance(order.session, CloudSession) else None
        drafter = self.drafter(order, AHEAD_ALONE, LINGER_ALONE_S, asks=asks)
        return drafter, WhileReady(drafter.available), ConfidentOnly()

    def drafter(
        self,
        order: Order,
        ahead: int,
        linger_s: float = 0.0,
        *,
        asks: CloudSession | None = None,
        hidden: bool = False,
        shape: bool = False,
        prompt_rows: int = 0,
    ) -> ModelDrafter:
        """A drafter that continues the answer's log; it leaves unsure tokens to the session that it `asks`."""
        answer, settings = order.answer, order.settings
        log = answer.log
        prompt, top_logprobs = log.tokens[: log.prompt_length], order.request.top_logprobs
        sampler = Sampler(order.sampling, prompt, top_logprobs=top_logprobs, shape=shape)
        sampler.commit(log.generated)
        most = log.prompt_length + answer.most
        options: dict[str, Any] = {"ahead": ahead, "most": most, "costs": self._costs, "linger_s": linger_s}
        options |= {"ends": answer.ends, "hidden": hidden}
        if self.exits is None:
            make = partial(PromptReadingDrafter, window=prompt_rows) if prompt_rows else ModelDrafter
            return make(self._loop, log.tokens, sampler, **options)
        uploads = asks is not None and settings.exit.carry == "hidden"
        return EarlyExitDrafter(
            self._loop,
            log.tokens,
            sampler,
            plan=self.exits.plan(settings.exit, uploads=uploads),
            asks=asks is not None,
            on_boundary=asks.upload if asks is not None and uploads else None,
            **options,
        )

    def _session(
        self,
        mode: Mode,
        settings: ModeSettings,
        request: GenerationRequest,
        sampling: SamplingParams,
        answer: Answer,
    ) -> Session:
        if self._endpoint is not None and mode in TEXT_MODES:
            return EndpointSession(self._endpoint, request, sampling, answer, self._loop.engine.tokenizer)
        if self._link is None:
            raise only_text(mode)
        if mode is Mode.SOLVE:
            plan = plan_of(settings, answer.most)
            asking = asking_of(self._loop.engine, request, sampling, answer)
            named = settings.strategy is not None
            return SolveSession(self._link, asking, plan, answer, self._loop.engine.tokenizer, named=named)
        opening = wire.Opening(
            tokenizer_hash=self._loop.engine.info.tokenizer_hash,
            sampling=sampling,
            max_tokens=answer.most,
            stop_tokens=sorted(answer.ends),
            report=request.logprobs or looks_up(mode, settings),
            top_logprobs=request.top_logprobs if request.logprobs else 0,
            ignore_end=request.ignore_end,
            hidden=self._carry(settings.exit) if mode is Mode.EXIT else None,
            acceptance=settings.acceptance if mode is Mode.CASCADE else None,
        )
        return CloudSession(self._link, opening, answer.log, answer.statistics, answer.watch)

    def _carry(self, settings: ExitSettings) -> wire.HiddenCarry | None:
        """How hidden states go up in the mode `exit`, if they do."""
        if self.exits is None:
            raise InvalidRequest(
                f"The mode exit needs an edge model with early exits; {self._loop.engine.info.name} has none.",
                remedy="Make one with `updraft train exits` and `updraft models export`, or choose another mode.",
                param="updraft.mode",
            )
        return self.exits.carry(settings) if settings.carry == "hidden" else None
