"""`updraft bench reason`: steps that the cloud grades, against the cloud alone and the edge alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from rich.table import Table

from updraft.chat_template import ChatTemplate
from updraft.errors import ConfigError
from updraft.evaluation.similarity import lcs_f1
from updraft.evaluation.tasks.gsm8k import Problem, final_number, read_problems
from updraft.modes import Mode, ModeSettings, parse_settings
from updraft_edge.agent import Agent

from .figures import Observed, observe, summary
from .reason_judge import Scored, Separation, judged, pairs, separation
from .report import Step, table_of
from .tiers import cloud_process, edge_settings, pin_apart, question, relay_to

__all__ = ["COST", "JUDGE", "QUALITY", "ReasonBench", "reason_row"]

ASK: Final = "{}\nSolve this step by step, with a blank line after each step. End with: The answer is NUMBER."
COST: Final = {
    "variant": ("variant", ""),
    "steps": ("steps/answer", ".1f"),
    "accepted_steps": ("edge steps that stand", ".0%"),
    "score": ("mean score", ".2f"),
    "cloud_share": ("cloud tokens", ".0%"),
    "round_trips_per_token": ("round trips/token", ".3f"),
    "scored_per_token": ("scored/token", ".2f"),
    "cloud_positions_per_token": ("cloud positions/token", ".2f"),
    "wall_ms_per_token": ("wall ms/token", ".1f"),
    "first_token_ms": ("first token ms", ".0f"),
}
QUALITY: Final = {
    "variant": ("variant", ""),
    "right": ("right", ".0%"),
    "like_cloud": ("LCS F1 with cloud", ".2f"),
    "has_number": ("has a number", ".0%"),
    "blank_lines": ("has steps", ".0%"),
    "ended": ("ended by itself", ".0%"),
    "tokens_per_answer": ("tokens/answer", ".0f"),
    "degraded": ("degraded", "d"),
}
JUDGE: Final = {
    "judged": ("pairs", "d"),
    "right_mean": ("right steps", ".2f"),
    "wrong_mean": ("wrong steps", ".2f"),
    "spread": ("spread", ".2f"),
    "area": ("area under ROC", ".2f"),
    "paired": ("right one above", ".0%"),
}


@dataclass(slots=True)
class _Lane:
    variant: str
    settings: ModeSettings
    answers: list[Observed] = field(default_factory=list)


@dataclass(frozen=True)
class ReasonBench:
    """Questions of GSM8K, one after the other in every mode by turns; then the cloud grades right and wrong steps.

    Attributes:
        data: folder with `gsm8k/test.jsonl`.
        thresholds: least scores that a step stands with.
        judged: worked steps that are graded as they are and with a number changed.
    """

    data: Path
    thresholds: tuple[float, ...] = (5.0, 7.0, 8.0)
    scoring: Scored = "average"
    problems: int = 20
    judged: int = 60
    tokens: int = 160
    step_tokens: int = 64
    round_trip_ms: float = 20.0
    edge_model: str = "smollm2-q4_0"
    cloud_model: str = "smollm2"
    context: int = 1024
    seed: int = 0
    pin: bool = True
    name = "reason"

    def __post_init__(self) -> None:
        if self.problems < 1 or self.judged < 0:
            raise ConfigError(f"{self.problems} problems and {self.judged} graded steps; give at least 1 and 0.")
        self._lanes()

    @property
    def steps(self) -> int:
        return 1 + self.problems * len(self._lanes()) + self.judged

    def _lanes(self) -> list[_Lane]:
        reason = {"scoring": self.scoring, "step_tokens": self.step_tokens}
        settings = [
            parse_settings({"mode": "reason", "reason": {**reason, "threshold": threshold}})
            for threshold in dict.fromkeys(self.thresholds)
        ]
        return [
            _Lane("cloud (baseline)", ModeSettings(mode=Mode.CLOUD)),
            _Lane("edge alone", ModeSettings(mode=Mode.EDGE)),
            *(_Lane(f"reason {one.reason.threshold:g}", one) for one in settings),
        ]

    async def measure(self, step: Step) -> dict[str, Any]:
        problems = self._problems()
        edge_cores, cloud_cores = pin_apart(self.pin)
        cloud = cloud_process(self.cloud_model, context=self.context, sequences=2, cores=cloud_cores)
        async with cloud, relay_to(cloud.address, round_trip_s=self.round_trip_ms / 1e3) as relay:
            settings = edge_settings(self.edge_model, address=relay.address, context=self.context, sequences=1)
            async with Agent(settings) as agent:
                step("the cloud serves")
                lanes = await self._answers(agent, problems[: self.problems], step)
                grades = await self._grades(agent, problems, step)
                await asyncio.sleep(2 * self.round_trip_ms / 1e3)  # what a session's end sends is through by then
        rows = [reason_row(lane.variant, lane.answers, lanes[0].answers, problems) for lane in lanes]
        return {"edge_cores": edge_cores, "cloud_cores": cloud_cores, "rows": rows, "judge": separation(grades)}

    def _problems(self) -> list[Problem]:
        problems = read_problems(self.data / "gsm8k" / "test.jsonl")
        if len(problems) < max(self.problems, self.judged):
            raise ConfigError(f"{self.data} has {len(problems)} problems; {max(self.problems, self.judged)} are asked.")
        return problems

    async def _answers(self, agent: Agent, problems: Sequence[Problem], step: Step) -> list[_Lane]:
        lanes = self._lanes()
        for lane in lanes:
            await self._answer(agent, lane, "Hello.", 8)  # connects, and warms the caches
        for number, problem in enumerate(problems):
            turn = number % len(lanes)
            for lane in [*lanes[turn:], *lanes[:turn]]:
                lane.answers.append(await self._answer(agent, lane, ASK.format(problem.question), self.tokens))
                step(lane.variant)
        return lanes

    async def _answer(self, agent: Agent, lane: _Lane, prompt: str, tokens: int) -> Observed:
        return await observe(agent, question(prompt, lane.settings, tokens=tokens, seed=self.seed))

    async def _grades(self, agent: Agent, problems: Sequence[Problem], step: Step) -> Separation:
        template, link = agent.tokenizer_info().get("chat_template"), agent.link
        if link is None:
            raise ConfigError("The bench needs a cloud.")
        render = ChatTemplate(template if isinstance(template, str) else None).render
        found = Separation([], [])
        for pair in pairs(problems, self.judged, self.seed):
            prompt = render([{"role": "user", "content": ASK.format(pair.question)}])
            right, wrong = await judged(agent, link, pair, prompt, self.scoring)
            found.right.append(right)
            found.wrong.append(wrong)
            step("grades")
        return found

    def tables(self, results: dict[str, Any]) -> list[Table]:
        title = (
            f"{self.edge_model} and {self.cloud_model}, {self.problems} questions of GSM8K, up to {self.tokens} "
            f"tokens, greedy, {self.round_trip_ms:g} ms round trip; baselines: cloud alone, edge alone"
        )
        graded = "Grades of right steps and of the same with a number changed (0.5 and 50 %: no better than chance)"
        rows = results["rows"]
        return [
            table_of(title, rows, COST),
            table_of("What comes out", rows, QUALITY),
            table_of(graded, [results["judge"]], JUDGE),
        ]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        return False


def reason_row(
    variant: str, answers: Sequence[Observed], cloud: Sequence[Observed], problems: Sequence[Problem]
) -> dict[str, Any]:
    """Figures of one way of answering, with the cloud's own answers to the same problems as what to be like."""
    completions = [answer.completion for answer in answers]
    counts = [completion.statistics for completion in completions]
    tokens = max(1, sum(count.tokens for count in counts))
    steps = sum(count.steps for count in counts)
    scores = [score for count in counts for score in count.step_scores]
    numbers = [final_number(completion.text) for completion in completions]
    alike = [
        lcs_f1(one.completion.token_ids, two.completion.token_ids) for one, two in zip(answers, cloud, strict=True)
    ]
    right = [number == problem.answer for number, problem in zip(numbers, problems, strict=False)]
    return {
        "variant": variant,
        **summary(answers),
        "steps": steps / len(answers),
        "accepted_steps": 1 - sum(count.steps_rewritten for count in counts) / steps if steps else None,
        "score": fmean(scores) if scores else None,
        "scores": [round(score, 3) for score in scores],
        "round_trips_per_token": sum(count.round_trips for count in counts) / tokens,
        "scored_per_token": sum(count.scored for count in counts) / tokens,
        "tokens_per_answer": tokens / len(answers),
        "right": fmean(right),
        "like_cloud": fmean(alike),
        "has_number": fmean(number is not None for number in numbers),
        "blank_lines": fmean("\n\n" in completion.text.strip() for completion in completions),
        "ended": fmean(completion.finish_reason == "stop" for completion in completions),
    }
