"""A whole run: the family from nothing, measured as it is exported. An interrupted run goes on where it was."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from updraft.errors import ModelNotFound
from updraft.laboratory.task import Split, parse_problem, problems
from updraft.laboratory.vocabulary import RIGHT, WRONG
from updraft.models.llama_shape import LlamaShape
from updraft.train.disk import disk_errors
from updraft.train.laboratory.batches import Example, worked_examples
from updraft.train.laboratory.card import write_lab_card
from updraft.train.laboratory.export import write_gguf
from updraft.train.laboratory.loop import LabPoint, LabRecipe, train_lab
from updraft.train.laboratory.measure import accuracy, judgement
from updraft.train.laboratory.model import LabModel, deepened, lab_shape, read_lab_model
from updraft.train.laboratory.reward import Rollout, flawed, judged_example
from updraft.train.laboratory.rollouts import ROWS, answers

__all__ = ["PARTS", "LabJob", "Part", "train_laboratory"]

Part = Literal["edge", "cloud", "reward"]
Stage = Literal["edge", "cloud", "grown", "reward"]
Progress = Callable[[str, int, int, LabPoint | None], None]  # stage, steps done, in all, a new point of the curve

PARTS: Final[tuple[Part, ...]] = ("edge", "cloud", "reward")

_DEEPER: Final = 2  # layers that the reward model has more than the cloud's
_SHAPES: Final = {"edge": lab_shape(4, 96, 256), "cloud": lab_shape(4, 256, 704)}
_STEPS: Final = {"edge": 1200, "cloud": 3600, "grown": 3000, "reward": 2400}
_ROWS: Final = {"edge": 32, "cloud": 16, "grown": 16, "reward": 32}
_RATES: Final = {"edge": 4e-3, "cloud": 2e-3, "grown": 2e-3, "reward": 7e-4}
_ENOUGH: Final = {"edge": 0.2, "cloud": 0.13, "grown": 0.07, "reward": 0.0}


def _quiet(stage: str, done: int, total: int, point: LabPoint | None) -> None:
    """Says nothing."""


@dataclass(frozen=True)
class LabJob:
    """What to train.

    Attributes:
        out: folder of the run; everything that an interrupted run needs to go on is in it.
        parts: the reward model needs the two others, from this run or an earlier one in `out`.
        scale: times as many steps as the family was made with; small ones are for a look at how it goes.
        rollouts: answers that the reward model learns from, half of them the edge's.
        held_out: as many of the validation split that it is measured on.
        measured: test problems, which each model answers once greedily, `samples` times at temperature 1, and a quarter
            as often at 0.8.
        shapes: sizes of the edge and the cloud model; the reward model has two layers more than the cloud's.
    """

    out: Path
    parts: Sequence[Part] = PARTS
    scale: float = 1.0
    seed: int = 0
    rollouts: int = 24_000
    held_out: int = 1000
    measured: int = 200
    samples: int = 64
    shapes: dict[str, LlamaShape] = field(default_factory=lambda: dict(_SHAPES))
    progress: Progress = _quiet

    def recipe(self, stage: Stage) -> LabRecipe:
        steps = max(1, round(self.scale * _STEPS[stage]))
        return LabRecipe(steps, _ROWS[stage], _RATES[stage], _ENOUGH[stage], seed=self.seed)

    def model(self, part: Part) -> Path:
        """Where a part's GGUF is, or will be."""
        return self.out / f"{part}.gguf"

    def card(self, part: Part) -> Path:
        return self.out / f"{part}.md"


def train_laboratory(job: LabJob) -> list[Path]:
    """Train the parts of a job, export and measure them.

    Returns:
        The GGUF files made or found; each has a card and the figures in it as JSON beside it.

    Raises:
        ModelNotFound: the reward model is asked for before the other two are trained.
        ConfigError: the folder holds another run or cannot be written, or the disk is full.
    """
    with disk_errors(job.out):
        job.out.mkdir(parents=True, exist_ok=True)
        for part in job.parts:
            if not job.model(part).exists():
                _train(job, part)
            if not job.card(part).exists():
                _describe(job, part)
        return [job.model(part) for part in job.parts]


def _train(job: LabJob, part: Part) -> None:
    if part == "reward":
        model, examples = _reward_start(job)
    else:
        model, examples = LabModel(job.shapes[part], job.seed), worked_examples(job.seed)
    curve = _run(job, part, model, examples)
    facts = {"recipe": asdict(job.recipe(part)), "curve": [asdict(point) for point in curve]}
    _facts_file(job, part).write_text(json.dumps(facts), encoding="utf-8")
    write_gguf(model, f"lab-{part}", job.model(part))


def _run(job: LabJob, stage: Stage, model: LabModel, examples: Callable[[int, int], list[Example]]) -> list[LabPoint]:
    recipe = job.recipe(stage)

    def progress(point: LabPoint) -> None:
        job.progress(f"training {stage}", point.step, recipe.steps, point)

    among = (RIGHT, WRONG) if stage == "reward" else None
    return train_lab(model, examples, recipe, job.out / stage, progress, among)


def _describe(job: LabJob, part: Part) -> None:
    """Measure what was exported, and write its card."""
    model, file = read_lab_model(job.model(part)), _facts_file(job, part)
    facts = json.loads(file.read_text(encoding="utf-8")) | _measured(job, part, model)
    file.write_text(json.dumps(facts), encoding="utf-8")
    write_lab_card(job.card(part), part, model, facts)


def _facts_file(job: LabJob, part: Part) -> Path:
    return job.out / f"{part}.json"


def _reward_start(job: LabJob) -> tuple[LabModel, Callable[[int, int], list[Example]]]:
    """Where the reward model starts, and what to teach it: the cloud's weights, trained on until they make few
    mistakes, with layers on top. Who judges must reckon better than who is judged."""
    for part in ("edge", "cloud"):
        if not job.model(part).exists():
            raise ModelNotFound(
                f"the reward model learns from the answers of both models, and {job.model(part)} is not there",
                remedy=f"Train the {part} model first, or all parts at once.",
            )
    rollouts = _rollouts(job, "train", job.rollouts)
    grown = read_lab_model(job.model("cloud"))
    _run(job, "grown", grown, worked_examples(job.seed + 1))
    return deepened(grown, _DEEPER, job.seed), partial(_some_judged, rollouts, job.seed)


def _some_judged(rollouts: Sequence[Rollout], seed: int, number: int, count: int) -> list[Example]:
    """Half of them answers of the models, the others written with mistakes: models make too few to learn from."""
    draw = random.Random(f"{seed}/{number}")
    some = draw.choices(rollouts, k=count // 2)
    others = problems("train", count - len(some), seed=draw.getrandbits(62))
    return [judged_example(one) for one in (*some, *(Rollout(problem, flawed(problem, draw)) for problem in others))]


def _rollouts(job: LabJob, split: Split, count: int) -> list[Rollout]:
    """Answers of both models to problems of a split at temperature 1; kept in a file of the run's folder."""
    path = job.out / f"rollouts-{split}.jsonl"
    if not path.exists():
        written = [one for part in ("edge", "cloud") for one in _answered(job, part, split, count // 2)]
        new = path.with_suffix(".new")
        new.write_text("".join(json.dumps([one.problem.text, one.text]) + "\n" for one in written), encoding="utf-8")
        new.replace(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Rollout(parse_problem(problem), text) for problem, text in map(json.loads, lines)]


def _answered(job: LabJob, part: Part, split: Split, count: int) -> list[Rollout]:
    model, written = read_lab_model(job.model(part)), list[Rollout]()
    draw = random.Random(f"{job.seed}/{part}/{split}")
    while len(written) < count:
        seed = draw.getrandbits(62)
        asked = problems(split, min(ROWS, count - len(written)), seed=seed)
        written += map(Rollout, asked, answers(model, asked, 1.0, seed=seed))
        job.progress(f"answers of the {part} model", len(written), count, None)
    return written


def _measured(job: LabJob, part: Part, model: LabModel) -> dict[str, Any]:
    """The figures of a card."""
    if part == "reward":
        steps, whole = judgement(model, _rollouts(job, "validation", job.held_out))
        return {"steps": asdict(steps), "answers": asdict(whole)}
    asked = problems("test", job.measured, seed=job.seed)
    runs = [(0.0, 1), (0.8, job.samples // 4), (1.0, job.samples)]
    measured = [accuracy(model, asked, temperature, samples, job.seed) for temperature, samples in runs]
    return {"problems": len(asked), "accuracy": [asdict(one) for one in measured]}
