"""The stop rules that `updraft bench stopping` compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from updraft.acceptance_head import read_acceptance_head
from updraft.modes import ModeSettings, parse_settings
from updraft_edge.seams import StopRule
from updraft_edge.stopping.costs import Costs
from updraft_edge.stopping.predictors import Calibration, Predictor, ScorePredictor, confidence, head_score
from updraft_edge.stopping.rules import RateStop, make_stop_rule

from .stopping_replay import Clock

__all__ = ["Rule", "rules_of"]


@dataclass(frozen=True)
class Rule:
    """A stop rule under a name.

    Attributes:
        length: of a fixed rule.
        head: file of the acceptance head that it reads.
    """

    name: str
    settings: ModeSettings
    length: int | None = None
    head: Path | None = None

    @property
    def adapts(self) -> bool:
        """It weighs measured costs."""
        return self.settings.stop.rule == "risk"

    def predictor(self) -> Predictor:
        """A fresh one, which has learned nothing from verdicts."""
        if self.head is None:
            return ScorePredictor(confidence, Calibration())
        return ScorePredictor(head_score(read_acceptance_head(self.head)), Calibration(prior=lambda score: score))

    def maker(self) -> Callable[[Costs, Clock], StopRule]:
        """Makes the rule for one answer; answers share a predictor, as those of one agent do."""
        predictor, stop = self.predictor(), self.settings.stop

        def make(costs: Costs, clock: Clock) -> StopRule:
            if self.adapts and stop.risk is None:
                bounds: dict[str, Any] = {"shortest": stop.shortest, "longest": stop.longest}
                return RateStop(predictor, costs, ready=clock.available, clock=clock, **bounds)
            return make_stop_rule(stop, predictor, costs, clock.available)

        return make


def rules_of(lengths: Sequence[int], entropy: float, head: Path | None) -> list[Rule]:
    """Every fixed length, the entropy rule, and the cost-aware rule with each predictor that there is."""
    longest = max(lengths)
    rules = [
        Rule(f"fixed {length}", _draft(rule="fixed", length=length, longest=longest), length)
        for length in dict.fromkeys(sorted(lengths))
    ]
    rules.append(Rule(f"entropy {entropy:g}", _draft(rule="entropy", entropy=entropy, longest=longest)))
    rules.append(Rule("cost-aware", _draft(rule="risk", longest=longest)))
    if head is not None:
        rules.append(Rule("cost-aware, head", _draft(rule="risk", predictor="head", longest=longest), head=head))
    return rules


def _draft(**stop: Any) -> ModeSettings:
    return parse_settings({"mode": "draft", "stop": stop})
