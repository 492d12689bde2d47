"""A subject with answers and scores that a test writes down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from updraft.evaluation.subject import Ask, Judged, Written
from updraft.generation import Completion, Statistics
from updraft.sampling import Distribution, Sampled

__all__ = ["ScriptedSubject", "scored"]


def scored(token: int, logprob: float, *, best: int | None = None, entropy: float = 1.0) -> Sampled:
    """A token's score; `best` is the most probable token."""
    return Sampled(token, logprob, Distribution(5.0, entropy, 0.5), ((token if best is None else best, -0.1),))


@dataclass
class ScriptedSubject:
    """Answers by `write`, options scored by `scores`, each a list of log-probabilities.

    Attributes:
        tokens: token ids of every answer; its letters' numbers when None.
        asked: what was asked for.
    """

    answer: Callable[[Ask], str] = lambda ask: ""
    scores: Callable[[str, str], Sequence[Sampled]] = lambda context, option: []
    cloud: bool = False
    asked: list[Ask] = field(default_factory=list)

    async def write(self, ask: Ask) -> Written:
        self.asked.append(ask)
        text = self.answer(ask)
        count = len(text.split())
        statistics = Statistics(tokens=count, cloud_tokens=count if self.cloud else 0, cloud_passes=3)
        completion = Completion(text, [ord(letter) for letter in text], "stop", "edge", "m", 0, statistics=statistics)
        return Written(completion, {"entropy": 0.5}, 0.25)

    async def score(self, context: str, options: Sequence[str], *, top_logprobs: int = 0) -> Judged:
        found = [list(self.scores(context, option)) for option in options]
        return Judged(found, [[self.cloud] * len(option) for option in found], 0.5)

    async def score_tokens(self, prompt: Sequence[int], branch: Sequence[int], *, top_logprobs: int = 0) -> Judged:
        return await self.score("", ["".join(map(chr, branch))])

    async def cloud_scores(
        self, prompt: Sequence[int], branch: Sequence[int], *, top_logprobs: int = 0
    ) -> list[Sampled]:
        return [scored(token, -0.1) for token in branch]

    def prompt_tokens(self, ask: Ask) -> list[int]:
        return [1]
