"""Calibrates a staged model: some text to fit on, other text to judge the fit by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from updraft.engine.base import StagedEngine
from updraft.errors import InvalidRequest
from updraft.exits.aids import exit_heads, exits_digest
from updraft.exits.calibration import ExitCalibration
from updraft.exits.collect import Observations, Passage, collect

__all__ = ["calibrate", "split_passages"]


def split_passages(passages: Sequence[Passage], held_out: float, seed: int) -> tuple[list[Passage], list[Passage]]:
    """Passages to fit on and passages to judge by, each in an order drawn from the seed.

    All passages that begin alike (answers to one prompt) fall on the same side.

    Raises:
        InvalidRequest: one side is empty.
    """

    def judges(passage: Passage) -> bool:
        start = np.array(passage.tokens[: passage.first or None], np.int32)
        digest = hashlib.sha256(start.tobytes()).digest()
        return int.from_bytes(digest[:4], "big") < held_out * 2**32

    order = np.random.default_rng(seed).permutation(len(passages))
    shuffled = [passages[place] for place in order]
    fitting = [passage for passage in shuffled if not judges(passage)]
    judging = [passage for passage in shuffled if judges(passage)]
    if not fitting or not judging:
        raise InvalidRequest(f"There are {len(passages)} passages of text, too few to fit on some and judge by others.")
    return fitting, judging


def calibrate(
    engine: StagedEngine,
    fitting: Sequence[Passage],
    judging: Sequence[Passage],
    *,
    positions: int,
    held_out: float,
    temperature: float = 0.0,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> tuple[ExitCalibration, Observations]:
    """Fit the curves of all exits and scores; also gives what the exits said of the text to judge by.

    Args:
        positions: tokens to look at, at most.
        held_out: share of them that is only judged by.

    Raises:
        InvalidRequest, ConfigError: as `collect` and `fit_curve`.
    """
    heads = exit_heads(engine)
    judged_share = round(positions * held_out)

    def observe(passages: Sequence[Passage], share: int, before: int) -> Observations:
        report = None if progress is None else lambda done: progress(before + done)
        return collect(
            engine, passages, positions=share, heads=heads, temperature=temperature, seed=seed, progress=report
        )

    fitted = observe(fitting, positions - judged_share, 0)
    judged = observe(judging, judged_share, len(fitted))
    facts = {"positions": len(fitted), "temperature": temperature, "seed": seed}
    return ExitCalibration.fit(exits_digest(engine), fitted.stages, fitted.scores, fitted.agreed, facts), judged
