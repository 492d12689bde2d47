"""Mode `auto` in the agent: measures what a choice depends on, makes it, and learns from the completion."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import cached_property
from typing import Final

from updraft.auto.arms import arms_of, settings_of
from updraft.auto.context import Situation
from updraft.auto.history import History, history_path
from updraft.auto.learner import Learner, pair_key
from updraft.auto.reward import Outcome
from updraft.config import EdgeSettings
from updraft.generation import Completion, GenerationRequest, Statistics
from updraft.modes import Mode, ModeSettings
from updraft_edge.answer import Answer
from updraft_edge.auto.link_gauge import LinkGauge
from updraft_edge.auto.surroundings import Surroundings
from updraft_edge.endpoint.link import EndpointLink
from updraft_edge.link import CloudLink
from updraft_edge.stopping.costs import Costs
from updraft_edge.workshop import Workshop

__all__ = ["Chooser"]

_AGREEMENT: Final = 0.7  # before anything was judged
_RATE: Final = 0.2
_LOOKED_AT: Final = 2000  # characters of the prompt
_MARKS: Final = frozenset("{}[]()<>=;:_/\\*+-#&|%$`\"'")


class Chooser:
    """Resolves `auto` for one agent.

    Args:
        open_history: called before the first choice: agents that never choose read no history.
        edge: name of the edge's model.
        link: None where the agent is local only.
        works: whether the agent can write in a mode at all.
        endpoint: where the cloud is an OpenAI-compatible endpoint alone.
        seed: of random choices; drawn when left out.
    """

    def __init__(
        self,
        open_history: Callable[[], History],
        costs: Costs,
        *,
        edge: str,
        link: CloudLink | None,
        works: Callable[[Mode], bool],
        endpoint: EndpointLink | None = None,
        seed: int | None = None,
    ) -> None:
        self._open_history = open_history
        self._seed = secrets.randbits(32) if seed is None else seed
        self._costs = costs
        self._edge = edge
        self._link = link
        self._works = works
        self._endpoint = endpoint
        self._gauge = None if link is None else LinkGauge(link)
        self._surroundings = Surroundings()
        self._agreement = _AGREEMENT
        self._round_trip_s: float | None = None
        self._throughput: float | None = None

    @classmethod
    def of(
        cls,
        settings: EdgeSettings,
        workshop: Workshop,
        *,
        edge: str,
        link: CloudLink | None,
        endpoint: EndpointLink | None,
    ) -> Chooser:
        """The chooser of an agent; it gets ready at once where the agent's own mode is `auto`."""
        only_endpoint = endpoint if link is None else None
        chooser = cls(
            lambda: History(history_path(settings.auto_history)),
            workshop.costs,
            edge=edge,
            link=link,
            works=workshop.works,
            endpoint=only_endpoint,
        )
        if settings.mode.mode is Mode.AUTO:
            chooser.get_ready()
        return chooser

    @cached_property
    def learner(self) -> Learner:
        """With what was learned in earlier runs."""
        history = self._open_history()
        if history.records:
            last = history.records[-1]
            self._round_trip_s = last.round_trip_s
            self._agreement, self._throughput = last.situation.agreement, last.situation.throughput
        return Learner(history, seed=self._seed)

    async def close(self) -> None:
        if self._gauge is not None:
            await self._gauge.close()

    def get_ready(self) -> None:
        """Read the history and measure the link before the first request."""
        _ = self.learner
        if self._gauge is not None:
            self._gauge.refresh()

    async def measure_link(self) -> None:
        """Measure the link now, where there is one."""
        if self._gauge is not None:
            await self._gauge.measure()

    def resolve(self, settings: ModeSettings, request: GenerationRequest, answer: Answer) -> ModeSettings:
        """The settings to write this answer with: others than those given only for `auto`."""
        if settings.mode is not Mode.AUTO:
            return settings
        cloud = not settings.local_only and self._reachable()
        if cloud and self._gauge is not None:
            self._gauge.refresh()
        self.learner.meet(pair_key(self._edge, self._place()))
        arms = arms_of(settings.auto.modes, works=self._works, cloud=cloud, text_only=self._endpoint is not None)
        ticket = self.learner.choose(
            arms, self.situation(request, prompt_tokens=answer.log.prompt_length, tokens=answer.most), settings.auto
        )
        answer.ticket = ticket
        return settings_of(ticket.arm, settings)

    def learn(self, answer: Answer, completion: Completion) -> None:
        """Name the choice in the completion, and learn from it unless the answer was broken off or a rule made it."""
        ticket = answer.ticket
        if ticket is None:
            return
        written, completion.mode, completion.chosen = completion.mode, Mode.AUTO.value, ticket.arm.name
        counts = completion.statistics
        if completion.finish_reason == "cancelled" or completion.withheld is not None or not counts.tokens:
            return
        if written == ticket.arm.mode.value:
            self.learner.learn(
                ticket, Outcome.of(counts, degraded=completion.degraded), round_trip_s=self._round_trip()
            )
            self.note(counts)

    def _place(self) -> str | None:
        """Where the cloud is. What it serves there is not known before its first answer."""
        if self._endpoint is not None:
            return self._endpoint.settings.url
        return None if self._link is None else self._link.settings.address

    def _reachable(self) -> bool:
        if self._endpoint is not None:
            return self._endpoint.breaker.closed
        return self._link is not None and self._link.settings.address is not None and self._link.breaker.closed

    def situation(self, request: GenerationRequest, *, prompt_tokens: int, tokens: int) -> Situation:
        """What is known before a request is answered."""
        costs, text = self._costs, _text(request)
        return Situation(
            edge_s=costs.draft_s,
            cloud_s=costs.cloud_s + costs.position_s,
            round_trip_s=self._round_trip(),
            throughput=self._throughput,
            agreement=self._agreement,
            load=self._surroundings.load,
            battery=self._surroundings.battery,
            prompt_tokens=prompt_tokens,
            tokens=tokens,
            sampled=request.sampling.temperature > 0.0,
            chat=request.messages is not None,
            digits=_share(text, str.isdigit),
            marks=_share(text, _MARKS.__contains__),
        )

    def _round_trip(self) -> float | None:
        """As last measured, in an earlier run if not in this one."""
        if self._gauge is not None and self._gauge.round_trip_s is not None:
            self._round_trip_s = self._gauge.round_trip_s
        elif self._costs.verdicts:
            self._round_trip_s = self._costs.network_s
        return self._round_trip_s

    def note(self, counts: Statistics) -> None:
        """Keep of an answer what later situations are described with."""
        if counts.drafted and counts.cloud_tokens:
            own = counts.accepted - counts.tolerated
            # Tokens after the first rejected one were never judged, and every verdict ends with a token of the cloud's:
            # both shares are lower bounds of how often the cloud would have written the drafted token.
            seen = max(own / counts.drafted, own / (counts.accepted + counts.cloud_tokens))
            self._agreement += _RATE * (seen - self._agreement)
        moved = counts.bytes_up + counts.bytes_down
        if moved and counts.waited_seconds > 0.0:
            now = moved / counts.waited_seconds
            self._throughput = now if self._throughput is None else self._throughput + _RATE * (now - self._throughput)


def _text(request: GenerationRequest) -> str:
    """The end of what the user wrote; empty where it came as token ids."""
    if request.messages is not None:
        return request.messages[-1].content[-_LOOKED_AT:] if request.messages else ""
    return (request.prompt or "")[-_LOOKED_AT:]


def _share(text: str, holds: Callable[[str], bool]) -> float:
    return sum(map(holds, text)) / len(text) if text else 0.0
