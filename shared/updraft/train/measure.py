"""What a rung is worth: agreement with the full model, acceptance at temperatures, and speed on llama.cpp."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import torch

from updraft.engine import open_engine
from updraft.engine.base import Engine, Run
from updraft.models.weights import Weights
from updraft.sampling import Sampler, SamplingParams
from updraft.train.distil import hidden_of
from updraft.train.llama import Llama
from updraft.train.teacher import TeacherCache

__all__ = ["acceptance", "decode_rates"]

_STEPS = 24
_PROMPT = 64


def acceptance(
    model: Llama,
    weights: Weights,
    cache: TeacherCache,
    *,
    entry: int,
    temperature: float,
    device: torch.device,
    positions: int = 2000,
    seed: int = 1,
) -> float:
    """Share of held-out answer positions where both models draw the same token with the same noise.

    That is what a verdict tests (coupled sampling; Daliri, Musco, Suresh, arXiv 2408.07978). Every n-th position of
    each answer is taken, so that about `positions` are drawn.
    """
    output = torch.from_numpy(weights.output).to(device)
    sampler = Sampler(SamplingParams(temperature, seed=seed))
    same = total = 0
    for final, place in hidden_of(model, weights, cache, entry, device):
        rows = slice(None, None, max(1, round((cache.offsets[-1] - cache.answers.sum()) / positions)))
        with torch.inference_mode():
            own = (final[rows] @ output.T).cpu().numpy()
            teacher = torch.from_numpy(cache.final[place][rows].astype(np.float32)).to(device)
            full = (teacher @ output.T).cpu().numpy()
        for row, (mine, theirs) in enumerate(zip(own, full, strict=True)):
            same += sampler.draw(mine, place.start + row).token == sampler.draw(theirs, place.start + row).token
            total += 1
    return same / max(1, total)


def decode_rates(models: list[Path], *, threads: int, rounds: int = 5) -> list[float]:
    """Tokens a second of each GGUF, decoding one sequence; they take turns, and the median round counts."""
    engines = [open_engine(path, context=_PROMPT + rounds * _STEPS, sequences=1, threads=threads) for path in models]
    try:
        sequences = [_prefilled(engine) for engine in engines]
        seconds: list[list[float]] = [[] for _ in engines]
        for number in range(rounds):
            for engine, sequence, kept in zip(engines, sequences, seconds, strict=True):
                kept.append(_decode(engine, sequence, seed=number))
        return [_STEPS / statistics.median(kept) for kept in seconds]
    finally:
        for engine in engines:
            engine.shutdown()


def _prefilled(engine: Engine) -> int:
    sequence = engine.open()
    tokens = np.random.default_rng(0).integers(3, engine.info.vocabulary, _PROMPT // 2).tolist()
    engine.forward([Run(sequence, 0, tokens)])
    return sequence


def _decode(engine: Engine, sequence: int, seed: int) -> float:
    tokens = np.random.default_rng(seed).integers(3, engine.info.vocabulary, _STEPS).tolist()
    started = time.perf_counter()
    for token in tokens:
        engine.forward([Run(sequence, engine.length(sequence), [token], 1)])
    return time.perf_counter() - started
