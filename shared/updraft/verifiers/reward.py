"""The verifier `reward`: a process or outcome reward model's scores, as one number an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Final, Literal

from updraft.errors import ConfigError
from updraft.strategies.branch_tasks import Work
from updraft.verifiers.base import Claim, Judgement
from updraft.verifiers.reward_model import RewardModel
from updraft.verifiers.settings import Resources, Scorer, VerifierSettings

__all__ = ["Reward"]

_AGGREGATES: Final[dict[str, Callable[[Sequence[float]], float]]] = {
    "last": lambda scores: scores[-1],
    "min": min,
    "product": math.prod,
    "mean": lambda scores: sum(scores) / len(scores),
}


class Reward(VerifierSettings):
    """A reward model's score.

    Attributes:
        model: of the operator's configuration; the only one there is when left out.
        aggregate: how the scores of steps make one of the answer. `last` suits models that judge all up to a step,
            `min` and `product` those that judge each step (Let's Verify Step by Step, arXiv 2305.20050).
    """

    kind: ClassVar[str] = "reward"

    model_name: str | None = None
    aggregate: Literal["last", "min", "product", "mean"] = "last"

    def scorer(self, resources: Resources) -> Scorer:
        model, aggregate = self._chosen(resources), _AGGREGATES[self.aggregate]

        async def score(claims: Sequence[Claim]) -> list[Judgement]:
            work = Work()
            scores = await model.scores(claims, work, tenant=resources.tenant)
            judged = [found if isinstance(found, Judgement) else Judgement(aggregate(found)) for found in scores]
            # What is alike in the claims was computed once: the first one bears it.
            return [replace(judged[0], positions=work.positions), *judged[1:]] if judged else []

        return score

    def judges_steps(self, resources: Resources) -> bool:
        return self._chosen(resources).format.judges == "steps"

    def model(self, resources: Resources) -> str:
        return self._chosen(resources).identity

    def _chosen(self, resources: Resources) -> RewardModel:
        models = resources.rewards
        name = self.model_name if self.model_name is not None else next(iter(models), None)
        if name is not None and name in models and (self.model_name is not None or len(models) == 1):
            return models[name]
        known = ", ".join(models) or "none"
        asked = "is not named" if self.model_name is None else f"{self.model_name!r} is not here"
        raise ConfigError(
            f"The verifier reward needs a reward model; it {asked}, and there is: {known}.",
            remedy="Name one of these as model_name, or start with a reward model (--reward).",
        )
