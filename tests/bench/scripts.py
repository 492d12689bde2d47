"""Recorded answers, made up."""

from __future__ import annotations

import random

from bench.capacity_record import Script, Scripts
from bench.stopping_replay import Recording
from updraft.sampling import Distribution, Sampled

__all__ = ["script", "scripts"]


def drawn(token: int, top_probability: float = 0.5) -> Sampled:
    return Sampled(token, -1.0, Distribution(0.5, 1.0, top_probability))


def script(
    seed: int = 0, *, prompt: int = 20, tokens: int = 24, stands: float = 0.75, draft_s: float = 0.006
) -> Script:
    """An answer of tokens 0, 1, 2, ..., of which the edge drafts so many right; wrong ones are -1."""
    chance = random.Random(seed)
    right = [chance.random() < stands for _ in range(tokens)]
    drafts = tuple(drawn(place if good else 999) for place, good in enumerate(right))
    tails: dict[int, tuple[Sampled, ...]] = {place: (drawn(998),) * 16 for place, good in enumerate(right) if not good}
    text = Recording(tuple(range(tokens)), drafts, tails)
    return Script("made up", tuple(range(prompt)), text, 0.02, (draft_s, 2 * draft_s))


def scripts(count: int = 6, **options: float) -> Scripts:
    made = (script(seed, **options) for seed in range(count))  # type: ignore[arg-type]
    return Scripts("edge", "cloud", "hash", 16, tuple(made))
