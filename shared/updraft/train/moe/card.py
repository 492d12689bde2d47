"""The model card of a mixture of experts, and the picture of its routing, written from its training run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from updraft.models.moe.packed import PackedMoe
from updraft.train.moe.loop import MoePoint
from updraft.train.moe.routing import LayerRouting

__all__ = ["plot_routing", "write_moe_card"]


def write_moe_card(
    path: Path,
    name: str,
    moe: PackedMoe,
    curve: Sequence[MoePoint],
    routing: Sequence[LayerRouting],
    picture: str | None = None,
) -> None:
    """Write a card in Markdown; `picture` is beside it."""
    facts, shape = moe.facts, moe.shape
    base, recipe = shape.base, facts["recipe"]
    lines = [
        f"# {name}",
        "",
        f"A mixture of experts of the family `mixtral`: {base.layers} layers of width {base.width}, in each "
        f"{shape.experts} experts of {base.feed_forward} hidden units, of which every token chooses {shape.active}; "
        f"{base.heads} heads, {base.kv_heads} for keys and values; context {base.context}.",
        f"{facts['parameters'] / 1e6:.1f} million trained parameters, {facts['expert_parameters'] / 1e6:.1f} million "
        f"of them experts', {facts['active_parameters'] / 1e6:.1f} million used by a token.",
        "",
        "## Perplexity",
        "",
        "Of the file as it is, matrices in int8. `trunk` is the model that lends its vocabulary, on llama.cpp; "
        "`unigrams` guesses every token by its frequency in the training text.",
        "",
        "| text | tokens | this model | trunk | unigrams |",
        "|---|---|---|---|---|",
        *(_losses(label, row) for label, row in facts["losses"].items()),
        "",
        *_drafters(facts["drafters"]),
        "## Routing",
        "",
        f"On {facts['routing_tokens']:,} tokens of held-out text. Information is in bits; in brackets the same figure "
        "when the pairs are shuffled: what too little text pretends. Recall is the share of a token's experts among "
        "four guessed by the token itself, by the layer before's choices, or by usage alone, learned on one half of "
        "the text and held against the other.",
        "",
        f"| layer | usage entropy, of {math.log2(shape.experts):.1f} | most, least used | about the token | about the "
        "layer before | recall by token, by layer before, by usage | same as the last token's (at random) |",
        "|---|---|---|---|---|---|---|",
        *(_layer(number, layer) for number, layer in enumerate(routing)),
        *(["", f"![usage of experts and what tells it in advance]({picture})"] if picture else []),
        "",
        "## Training",
        "",
        f"- Trunk: `{facts['trunk']}`, fingerprint `{moe.trunk[:16]}…`. Embedding and output matrix are its embedding "
        "times a trained projection each; with another trunk the file is refused.",
        f"- Text: {facts['training_tokens']:,} tokens, {facts['held_out_tokens']:,} more held out by prompt: "
        f"{', '.join(facts['texts'])}.",
        f"- {recipe['steps']:,} steps of {recipe['rows']} rows of {base.context} tokens, "
        f"{facts['minutes']:.0f} minutes ({facts['threads']} threads, evaluations included), seed {recipe['seed']}.",
        f"- Loss: next-token cross-entropy over the {recipe['frequent']:,} most frequent tokens, the step's own and "
        f"{recipe['sampled']:,} others that stand for the rest, plus {recipe['balance']:g} times the imbalance of "
        "usage. AdamW; learning rate "
        f"{recipe['learning_rate']:g}, falling over the last {100 * recipe['decay']:.0f} % of the steps.",
        "",
        "## Learning curve",
        "",
        "Held out: over the whole vocabulary, on 40 conversations. Imbalance is 1 where all experts are used alike.",
        "",
        "| step | tokens | minutes | loss | imbalance | held out |",
        "|---|---|---|---|---|---|",
        *map(_point, curve),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def plot_routing(path: Path, routing: Sequence[LayerRouting]) -> None:
    """Usage by layer and expert, and information about the token and the layer before; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    usage = left.imshow([layer.usage for layer in routing], aspect="auto", cmap="viridis", vmin=0)
    left.set_xlabel("expert")
    left.set_ylabel("layer")
    left.set_title("share of choices")
    figure.colorbar(usage, ax=left)
    numbers = list(range(len(routing)))
    for at, (label, index) in {-0.2: ("measured", 0), 0.2: ("shuffled", 1)}.items():
        middle.bar([n + at for n in numbers], [layer.token_information[index] for layer in routing], 0.4, label=label)
        before = [layer.before_information[index] if layer.before_information else 0.0 for layer in routing]
        right.bar([n + at for n in numbers], before, 0.4, label=label)
    for axes, title in ((middle, "bits about the token"), (right, "bits about the layer before")):
        axes.set_title(title)
        axes.set_xlabel("layer")
        axes.legend()
        axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=150)


def _point(p: MoePoint) -> str:
    losses = f"{p.loss:.3f} | {p.imbalance:.3f} | {p.held_out:.3f}"
    return f"| {p.step:,} | {p.tokens:,} | {p.seconds / 60:.0f} | {losses} |"


def _losses(label: str, row: Mapping[str, Any]) -> str:
    figures = (f"{math.exp(row[name]):.1f}" for name in ("model", "trunk", "unigrams"))
    return f"| {label} | {row['tokens']:,} | {' | '.join(figures)} |"


def _drafters(agreements: Mapping[str, float]) -> list[str]:
    if not agreements:
        return []
    return [
        "## Who can draft for it",
        "",
        "Share of the tokens of its own greedy answers to held-out prompts that are the drafter's argmax there.",
        "",
        *(f"- `{name}`: {100 * share:.1f} %" for name, share in agreements.items()),
        "",
    ]


def _layer(number: int, layer: LayerRouting) -> str:
    before = "" if layer.before_information is None else _with_chance(layer.before_information)
    recalls = (layer.token_recall, layer.before_recall, layer.usage_recall)
    shown = ", ".join("-" if share is None else f"{100 * share:.0f} %" for share in recalls)
    same, chance = layer.repeats
    return (
        f"| {number} | {layer.usage_entropy:.2f} | {100 * max(layer.usage):.1f}, {100 * min(layer.usage):.1f} % | "
        f"{_with_chance(layer.token_information)} | {before} | {shown} | {100 * same:.0f} ({100 * chance:.0f}) % |"
    )


def _with_chance(figures: tuple[float, float]) -> str:
    return f"{figures[0]:.2f} ({figures[1]:.2f})"
