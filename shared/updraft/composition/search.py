"""The search for a pipeline that suits a task file (ITAS, Bayesian optimisation: arXiv 2409.15254, section 4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import optuna

from updraft.composition.pipeline import Pipeline, parse_pipeline
from updraft.composition.strategy import Composed
from updraft.strategies.problem import MOST_SAMPLES, Budget
from updraft.strategies.subject import Question, Subject

__all__ = ["Found", "Space", "Trial", "search"]

_SAMPLES: Final = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Space:
    """What may be tried.

    Attributes:
        samples: of the first layer, at most.
        calls: of the model for one question, at most.
        texts: components that show the model texts (critique, fuse, the model as judge); a model must follow
            instructions for them to be of use.
        verifier: the subject has a verifier.
    """

    samples: int = 16
    calls: int = 64
    texts: bool = True
    verifier: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """A pipeline, measured: right answers of all, and tokens drawn for a question, on average."""

    pipeline: Pipeline
    right: int
    questions: int
    tokens: float
    value: float

    @property
    def accuracy(self) -> float:
        return self.right / self.questions


@dataclass(frozen=True, slots=True)
class Found:
    """All pipelines that were tried, the best first."""

    trials: Sequence[Trial]

    @property
    def best(self) -> Trial:
        return self.trials[0]


async def search(
    subject: Subject,
    questions: Sequence[Question],
    space: Space,
    *,
    trials: int,
    price: float = 0.0,
    seed: int = 0,
    done: Callable[[Trial], None] = lambda trial: None,
) -> Found:
    """Try pipelines on all questions. The same arguments try the same ones and find the same.

    Args:
        trials: how many are proposed, at most; one that was measured before is not measured again.
        price: what 1000 tokens cost, in accuracy: a pipeline is worth its accuracy less that.
    """
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(
        {"samples": 1, "judge": "vote", "fusers": 0, "verify": "no"}
    )  # what everything is compared with
    measured: dict[str, Trial] = {}
    for _ in range(trials):
        asked = study.ask()
        pipeline = propose(asked, space)
        key = pipeline.model_dump_json()
        if key not in measured:
            measured[key] = await _measure(subject, questions, pipeline, price, seed)
            done(measured[key])
        study.tell(asked, measured[key].value)
    return Found(sorted(measured.values(), key=lambda trial: (-trial.value, trial.tokens)))


def propose(trial: optuna.trial.BaseTrial, space: Space) -> Pipeline:
    """A pipeline out of the space."""
    judges = ["vote", *(["verifier"] if space.verifier else []), *(["model"] if space.texts else [])]
    parts: list[dict[str, Any]] = []

    def add(kind: str, **settings: Any) -> None:
        inputs = [parts[-1]["id"]] if parts else []
        parts.append({"kind": kind, "id": f"{kind}-{len(parts) + 1}", "inputs": inputs, **settings})

    counts = [count for count in _SAMPLES if count <= space.samples]
    samples = trial.suggest_categorical("samples", counts)
    add("generate", samples=samples)
    judge = trial.suggest_categorical("judge", judges)
    fusers = trial.suggest_int("fusers", 0, 2) if space.texts else 0
    for layer in range(fusers):
        if samples > 1:
            add("rank", by=judge, keep=trial.suggest_int(f"keep-{layer}", 1, 4))
        if trial.suggest_categorical(f"critique-{layer}", [False, True]):
            add("critique")
        add("fuse", samples=(samples := trial.suggest_categorical(f"fused-{layer}", [1, 2, 4])))
    if trial.suggest_categorical("verify", ["no", *judges[1:]]) != "no":
        add("verify", by=trial.params["verify"])
    if samples > 1:
        add("rank", by=judge, keep=1)
    return parse_pipeline({"name": "found", "calls": space.calls, "component": parts})


async def _measure(
    subject: Subject, questions: Sequence[Question], pipeline: Pipeline, price: float, seed: int
) -> Trial:
    budget = Budget(samples=MOST_SAMPLES)  # components have their own counts
    attempts = await subject.attempts(questions, Composed(pipeline=pipeline), budget, seed=seed)
    right = sum(attempt.right for attempt in attempts)
    tokens = sum(attempt.outcome.spent.tokens for attempt in attempts) / len(attempts)
    return Trial(pipeline, right, len(attempts), tokens, right / len(attempts) - price * tokens / 1000)


def written(pipeline: Pipeline) -> str:
    """A pipeline as TOML, as `load_pipeline` reads it; settings that are the default are left out."""
    data = pipeline.model_dump(mode="json", exclude_defaults=True) | {"name": pipeline.name}
    components = data.pop("component")
    lines = [f"{key} = {json.dumps(value)}" for key, value in data.items()]
    for component, spec in zip(pipeline.component, components, strict=True):
        lines += ["", "[[component]]", f"kind = {json.dumps(component.kind)}"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in spec.items()]
    return "\n".join(lines) + "\n"
