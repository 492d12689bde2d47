"""Mode `route`: one answer of each tier a prompt, from which every threshold follows.

The loss of a threshold is the edge answer's where its score is below it, else 0, because the cloud answers then. It
rises with the threshold whatever the prompts are, so thresholds at the measured scores stand for all between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from updraft.calibration.grid import GridPoint, make_grid
from updraft.calibration.measure import Progress, collect
from updraft.calibration.pair import Pair
from updraft.calibration.prompts import CalibrationPrompt
from updraft.calibration.results import Measured, Results, Table
from updraft.errors import InvalidRequest
from updraft.evaluation.conformal import conformal_alignment
from updraft.modes import Mode

__all__ = ["alignment_words", "collect_routes", "routed"]

HIGHEST: Final = 1000.0  # no score reaches it: the edge answers


async def collect_routes(
    pair: Pair,
    prompts: Sequence[CalibrationPrompt],
    base: dict[str, dict[str, Any]],
    results: Results,
    *,
    max_tokens: int,
    progress: Progress,
) -> tuple[Table, list[GridPoint]]:
    """Measure what is lacking, and lay every threshold through it, the most cautious first.

    Args:
        base: settings that hold at every threshold, such as the score.

    Raises:
        InvalidRequest: an answer has no score.
        CloudUnavailable: the cloud went away; what was measured before is kept.
    """
    edge_answers = make_grid(Mode.ROUTE, [HIGHEST], base)
    table = await collect(pair, prompts, Mode.ROUTE, edge_answers, results, max_tokens=max_tokens, progress=progress)
    return routed(table, base)


def routed(table: Table, base: dict[str, dict[str, Any]]) -> tuple[Table, list[GridPoint]]:
    """The table of every threshold, and the thresholds."""
    kept = [row[0] for row in table.cells]
    if any(cell.score is None for cell in kept):
        raise InvalidRequest("An answer of mode route has no finite score; nothing can be calibrated.")
    thresholds = sorted({cell.score for cell in kept if cell.score is not None})
    points = make_grid(Mode.ROUTE, [*thresholds, HIGHEST], base, most=None)
    points[0] = replace(points[0], exact=True)  # no score is below it: the cloud answers everything
    cells = tuple(
        tuple(_sent(own, cloud, point.value) for point in points) for own, cloud in zip(kept, table.cloud, strict=True)
    )
    return Table(cells, table.edge, table.cloud), points


def alignment_words(table: Table, level: float) -> str:
    """Which answers conformal alignment would trust: half of the prompts as the reference, the others as a batch.

    An answer is aligned if it is the cloud's to the token. Scores rise with doubt, so trust is less the score.
    """
    kept = [row[-1] for row in table.cells]
    trust = np.array([-(cell.score or 0.0) for cell in kept])
    aligned = np.array([cell.mismatch == 0.0 for cell in kept])
    half = len(kept) // 2
    if half < 2:
        return "There are too few prompts for conformal alignment."
    chosen = conformal_alignment(trust[:half], aligned[:half], trust[half:], level)
    wrong = int((chosen & ~aligned[half:]).sum())
    return (
        f"Conformal alignment (arXiv 2405.10301, as in 2510.17543) with half of the prompts as its reference trusts "
        f"the edge with {int(chosen.sum())} of the other {len(chosen)} answers, so that on average at most {level:.0%} "
        f"of those trusted differ from the cloud's text; {wrong} of them did. This holds for a batch of prompts that "
        "is selected at once, not for the threshold above."
    )


def _sent(own: Measured, cloud: Measured, threshold: float) -> Measured:
    """What the threshold makes of a prompt: the edge's answer, or the cloud's."""
    if own.score is not None and own.score < threshold:
        return own
    return replace(cloud, setting=own.setting, score=own.score, answer=None)
