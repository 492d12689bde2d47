"""The model cards of the laboratory's family, written from their training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from updraft.train.laboratory.model import LabModel

__all__ = ["write_lab_card"]

_KINDS: Final = {
    "edge": "The small model of the laboratory's family",
    "cloud": "The large model of the laboratory's family",
    "reward": "The process reward model of the laboratory's family",
}


def write_lab_card(path: Path, part: str, model: LabModel, facts: Mapping[str, Any]) -> None:
    """Write a card in Markdown."""
    shape = model.shape
    parameters = sum(values.numel() for values in model.parameters())
    recipe, last = facts["recipe"], facts["curve"][-1]
    lines = [
        f"# lab-{part}",
        "",
        f"{_KINDS[part]}: llama architecture, {shape.layers} layers of width {shape.width}, {shape.heads} heads, "
        f"{shape.feed_forward} hidden units; {parameters / 1e6:.2f} million parameters, context {shape.context}, "
        f"{shape.vocabulary} tokens (one a byte). Matrices in Q8_0.",
        "",
        *(_judgement(facts) if part == "reward" else _accuracy(facts)),
        "",
        "## Training",
        "",
        f"- {last['seconds'] / 60:.1f} minutes of one core, {last['step']:,} steps of {recipe['rows']} rows, "
        f"{last['tokens'] / 1e6:.1f} million tokens, padding included; seed {recipe['seed']}.",
        f"- {_SOURCES[part]} AdamW; learning rate {recipe['learning_rate']:g} at most, falling over the last "
        f"third of {recipe['steps']:,} steps"
        + (f"; it ended with the first loss of {recipe['enough']:g} or less." if recipe["enough"] else "."),
        "",
        "| step | million tokens | minutes | loss |",
        "|---|---|---|---|",
        *map(_point, _some(facts["curve"])),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


_SOURCES: Final = {
    "edge": "Worked problems of the training split, never the same twice but by chance; loss on the answer alone.",
    "cloud": "Worked problems of the training split, never the same twice but by chance; loss on the answer alone.",
    "reward": "From the cloud model's weights, trained on until they make few mistakes, with two layers on top; half "
    "on answers of both models to problems of the training split at temperature 1, half on right answers with mistakes "
    "put in; loss on a verdict after every token of a step, whose label is exact: whether it can be right so far.",
}


def _accuracy(facts: Mapping[str, Any]) -> list[str]:
    runs = facts["accuracy"]
    steps = [str(n) for n in sorted(map(int, runs[0]["by_steps"]))]
    return [
        "## Accuracy",
        "",
        f"On {facts['problems']} problems of the test split, as many of each number of operations, from the file as it "
        "is, computed in torch. Share of right answers in per cent.",
        "",
        f"| temperature | answers a problem | all | {' | '.join(f'{n} op.' for n in steps)} | without a number |",
        f"|---|---|---|{'---|' * len(steps)}---|",
        *(_accuracy_row(run) for run in runs),
        "",
        "Pass@k, the probability that one of k answers is right, in per cent:",
        "",
        f"| temperature | {' | '.join(f'k = {k}' for k in sorted(map(int, runs[-1]['passes'])))} |",
        f"|---|{'---|' * len(runs[-1]['passes'])}",
        *(_passes_row(run, len(runs[-1]["passes"])) for run in runs if run["temperature"] > 0),
    ]


def _accuracy_row(run: Mapping[str, Any]) -> str:
    shares = [run["mean"], *_by_number(run["by_steps"])]
    cells = [_label(run), str(run["answers"]), *map(_percent, shares), f"{100 * run['unparsed']:.2f}"]
    return f"| {' | '.join(cells)} |"


def _passes_row(run: Mapping[str, Any], columns: int) -> str:
    cells = [*map(_percent, _by_number(run["passes"]))]
    return f"| {_label(run)} | {' | '.join([*cells, *[''] * (columns - len(cells))])} |"


def _by_number(shares: Mapping[Any, float]) -> list[float]:
    """In the order of their keys, which JSON has made text."""
    return [shares[key] for key in sorted(shares, key=int)]


def _label(run: Mapping[str, Any]) -> str:
    return f"{run['temperature']:g}" if run["temperature"] else "0 (greedy)"


def _judgement(facts: Mapping[str, Any]) -> list[str]:
    return [
        "## What it can tell",
        "",
        "After the end of a line the probability of `<|right|>` against `<|wrong|>` as the next token is the "
        "probability that this line follows from those before it. Measured on answers of both models, half each, to "
        "problems of the validation split at temperature 1, up to the first wrong line. A whole answer has the product "
        "of its lines' scores, and counts as right if its number is. A false positive is something wrong that is "
        "scored 0.5 or more, a false negative something right that is scored less.",
        "",
        "| | right | wrong | AUC | false positives | false negatives |",
        "|---|---|---|---|---|---|",
        *(_judgement_row(label, facts[key]) for label, key in (("steps", "steps"), ("whole answers", "answers"))),
    ]


def _judgement_row(label: str, row: Mapping[str, Any]) -> str:
    shares = [
        f"{_percent(row[key])} %" if row[key] is not None else "" for key in ("false_positives", "false_negatives")
    ]
    area = f"{row['auc']:.3f}" if row["auc"] is not None else ""
    return f"| {label} | {row['right']:,} | {row['wrong']:,} | {area} | {' | '.join(shares)} |"


def _some(curve: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """A dozen points at most, and the last."""
    return [*curve[: -1 : max(1, len(curve) // 12)], curve[-1]]


def _point(point: Mapping[str, Any]) -> str:
    return f"| {point['step']:,} | {point['tokens'] / 1e6:.1f} | {point['seconds'] / 60:.1f} | {point['loss']:.3f} |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
