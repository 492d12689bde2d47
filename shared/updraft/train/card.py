"""The model card of a rung, written from its training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from updraft.models.rungs import Rung, layers_text
from updraft.train.distil import Point

__all__ = ["plot_curves", "write_card"]

_BARS = "▁▂▃▄▅▆▇█"


def write_card(
    path: Path,
    name: str,
    rung: Rung,
    curve: Sequence[Point],
    rates: tuple[float, float] | None = None,
    picture: str | None = None,
) -> None:
    """Write a card in Markdown; `rates` are tokens a second of the trunk and of the rung, `picture` is beside it."""
    facts = rung.facts
    training, held_out = facts["answer_tokens"]
    recipe = facts["recipe"]
    rows = [
        ("agreement with the trunk's argmax", _share(facts["agreement"])),
        ("the same on text that it was trained on", _share(facts["agreement_training"])),
        ("acceptance at temperature 0", _share(facts["acceptance_0"])),
        ("acceptance at temperature 0.8", _share(facts["acceptance_0.8"])),
    ]
    if rates:
        rows.append(("tokens/s, trunk as Q4_0", f"{rates[0]:.0f}"))
        rows.append(("tokens/s, this rung as Q4_0", f"{rates[1]:.0f} ({rates[1] / rates[0]:.2f} times)"))
    lines = [
        f"# {name}",
        "",
        _summary(rung),
        "",
        "| held-out text | |",
        "|---|---|",
        *(f"| {label} | {value} |" for label, value in rows),
        "",
        "Acceptance is the share of held-out answer positions where rung and trunk draw the same token with the same",
        "noise; every position is judged after the trunk's own text. Rates are decoding one sequence on llama.cpp on",
        f"{facts['threads']} threads, right after training, the two models taking turns.",
        "",
        "## Training",
        "",
        f"- Trunk: `{facts['trunk']}`, fingerprint `{rung.trunk[:16]}…`. A rung works with no other trunk.",
        f"- Text: {training:,} tokens of answers that the trunk wrote or that were given, {held_out:,} more held out "
        "by prompt." + (" The exits' heads were fitted on the held-out text." if rung.kind == "exit" else ""),
        f"- {facts['positions_trained']:,} positions in {recipe['epochs']} epochs, {facts['seconds'] / 60:.0f} minutes "
        f"({facts['device']}, {facts['threads']} threads, evaluations included), seed {recipe['seed']}.",
        f"- Loss: cross-entropy to the trunk's 64 best tokens over the seen part of the output matrix, plus "
        f"{recipe['feature_weight']:g} times the relative squared distance of the last hidden states.",
        "",
        "## Learning curve",
        "",
        *_curve(curve),
        *(["", f"![agreement against positions trained on]({picture})"] if picture else []),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def plot_curves(path: Path, curves: dict[str, Sequence[Point]]) -> None:
    """Agreement against positions trained on, one line a rung; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot([p.positions / 1e6 for p in curve], [100 * p.agreement for p in curve], marker="o", label=name)
    axes.set_xlabel("positions trained on, millions")
    axes.set_ylabel("agreement on held-out text, %")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def _summary(rung: Rung) -> str:
    last = len(rung.sources) - 1
    if rung.kind == "exit":
        return (
            f"An early exit: {last} layers of the trunk as they are, then one trained block and norm before the "
            f"trunk's output matrix. As a small model of its own it has {last + 1} layers."
        )
    started = layers_text([rung.sources[n] for n in sorted(rung.trained)])
    frozen = len(rung.sources) - len(rung.trained)
    first = f" The first {frozen} are the trunk's own as they are." if frozen else ""
    return f"A shallow student of {last + 1} layers.{first} The trained ones started as the trunk's layers {started}."


def _curve(curve: Sequence[Point]) -> list[str]:
    if not curve:
        return ["No point was measured."]
    top = max(point.agreement for point in curve)
    bars = "".join(_BARS[min(len(_BARS) - 1, int(len(_BARS) * p.agreement / max(top, 1e-9)))] for p in curve)
    rows = [
        f"| {p.epoch:.1f} | {p.positions:,} | {p.seconds / 60:.0f} | {p.loss:.3f} | {_share(p.agreement)} |"
        for p in curve
    ]
    return [bars, "", "| epoch | positions | minutes | loss | agreement |", "|---|---|---|---|---|", *rows]


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
