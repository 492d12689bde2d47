"""Figures of mode `exit`: what left early, what the cloud computed, and what the full model thinks of the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from updraft.engine.base import Engine, Run
from updraft.sampling import Sampler, SamplingParams

from .figures import Observed, same_answers, summary

__all__ = ["PUBLISHED", "Judge", "exit_row"]

# CE-CoLLM, arXiv 2411.02829: EE-LLM 7B of 32 layers, exits after 8 and 16. Compute and fp16 are from its abstract, the
# shares of tokens and requests from what its code prints for Alpaca.
PUBLISHED: Final = {
    "variant": "CE-CoLLM (published)",
    "early_share": 0.4789,
    "requests_per_token": 0.4958,
    "compute_saved": 0.8453,
}


class Judge:
    """The full model reads finished answers: would it have drawn the same tokens, and how likely are they to it?"""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def opinion(self, prompt: Sequence[int], answer: Sequence[int], params: SamplingParams) -> tuple[int, float]:
        """How many tokens it would have drawn itself after those before them, and nats of all, summed."""
        engine, log = self._engine, [*prompt, *answer]
        sampler = Sampler(params, prompt)
        agreed, nats = 0, 0.0
        sequence = engine.open()
        try:
            for start in range(0, len(log) - 1, engine.max_run):
                part = log[start : min(start + engine.max_run, len(log) - 1)]
                first = max(0, len(prompt) - 1 - start)  # rows before it are about the prompt
                rows = max(0, len(part) - first)
                (output,) = engine.forward([Run(sequence, start, part, rows)])
                for place, row in enumerate(output.logits, start + len(part) - rows + 1):
                    drawn = sampler.draw(row, place)
                    agreed += drawn.token == log[place]
                    nats += drawn.distribution.energy - float(row[log[place]])
                    sampler.commit([log[place]])
        finally:
            engine.close(sequence)
        return agreed, nats


def exit_row(
    answers: Sequence[Observed], whole: Sequence[Observed], opinions: Sequence[tuple[int, float]]
) -> dict[str, Any]:
    """The figures of one variant.

    Args:
        answers: of the variant.
        whole: of the same staged model run whole in the cloud, to the same questions.
        opinions: the judge's of each answer.
    """
    counts = [answer.completion.statistics for answer in answers]
    tokens = sum(count.tokens for count in counts) or 1
    early: Counter[int] = Counter()
    for count in counts:
        early.update(count.exit_tokens)
    layers = sum(count.cloud_layers for count in counts) / tokens
    references = [answer.completion.statistics for answer in whole]
    baseline = sum(count.cloud_layers for count in references) / (sum(count.tokens for count in references) or 1)
    same = same_answers(answers, whole)
    return {
        **summary(list(answers)),
        "early_share": sum(early.values()) / tokens,
        "exits": {str(layer): early[layer] / tokens for layer in sorted(early)},
        "requests_per_token": sum(count.round_trips for count in counts) / tokens,
        "cloud_layers_per_token": layers,
        "compute_saved": 1.0 - layers / baseline if baseline else None,
        "hidden_bytes_up_per_token": sum(count.hidden_bytes_up for count in counts) / tokens,
        "agreement": sum(agreed for agreed, _ in opinions) / tokens,
        "nats_per_token": sum(nats for _, nats in opinions) / tokens,
        "identical": same,
        "same": f"{same}/{len(answers)}",
    }
