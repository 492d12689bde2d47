"""What an agent keeps for looking up, and the parts of a mode that it makes of it."""

from __future__ import annotations

from updraft.mode_settings import LookupSettings
from updraft.modes import Mode, ModeSettings
from updraft_edge.answer import Answer
from updraft_edge.drafters import ModelDrafter
from updraft_edge.lookup.drafter import LookupDrafter, LookupFirst
from updraft_edge.lookup.memory import LookupEstimate, LookupMemory
from updraft_edge.lookup.rules import AskOrStream, LookupStop
from updraft_edge.seams import StopRule
from updraft_edge.stopping.costs import Costs

__all__ = ["LookupKit", "looks_up"]


def looks_up(mode: Mode, settings: ModeSettings) -> bool:
    """Whether answers of this mode draft without a model, so that only the cloud can report on their tokens."""
    return mode is Mode.LOOKUP or (mode in (Mode.DRAFT, Mode.CASCADE) and settings.lookup.before_model)


class LookupKit:
    """Past answers, and how often what was looked up stood; all answers of an agent share it.

    Only answers that looked up themselves are remembered, and the cloud has written or judged every token of them:
    nothing written on the edge alone or for a `local_only` request can reach the cloud by a later draft.

    Args:
        tokens: of past answers that are remembered, at most.
    """

    def __init__(self, costs: Costs, tokens: int) -> None:
        self.memory = LookupMemory(tokens)
        self._estimate = LookupEstimate()
        self._costs = costs

    def alone(self, settings: LookupSettings, answer: Answer) -> tuple[LookupDrafter, LookupStop, AskOrStream]:
        """Drafter, stop rule and policy of mode `lookup`."""
        return self._drafter(settings, answer), LookupStop(), AskOrStream(self._costs)

    def before(
        self, settings: LookupSettings, answer: Answer, model: ModelDrafter, stop: StopRule
    ) -> tuple[LookupFirst, LookupStop]:
        """A model's drafter and stop rule with a look-up in front."""
        return LookupFirst(self._drafter(settings, answer), model), LookupStop(stop)

    def _drafter(self, settings: LookupSettings, answer: Answer) -> LookupDrafter:
        return LookupDrafter(
            settings,
            answer.log.tokens,
            most=answer.log.prompt_length + answer.most,
            costs=self._costs,
            estimate=self._estimate,
            memory=self.memory if settings.remember else None,
            statistics=answer.statistics,
        )
