"""Runs the prompts for real: every setting of the grid, the edge alone, and the cloud alone as the reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from updraft.calibration.grid import GridPoint
from updraft.calibration.pair import Pair
from updraft.calibration.prompts import CalibrationPrompt
from updraft.calibration.results import CLOUD_ONLY, EDGE_ONLY, Measured, Results, Table
from updraft.errors import CloudUnavailable
from updraft.evaluation.similarity import edit_similarity
from updraft.generation import Completion, GenerationRequest
from updraft.modes import Mode, ModeSettings
from updraft.sampling import SamplingParams

__all__ = ["collect", "setting_name"]

Progress = Callable[[int, int], None]


def setting_name(mode: Mode, point: GridPoint) -> str:
    """The name of a grid point in the results."""
    return json.dumps({"mode": mode, **point.settings}, sort_keys=True)


async def collect(
    pair: Pair,
    prompts: Sequence[CalibrationPrompt],
    mode: Mode,
    points: Sequence[GridPoint],
    results: Results,
    *,
    max_tokens: int,
    progress: Progress = lambda done, total: None,
) -> Table:
    """Measure what the results lack, greedily, and give them all.

    The settings of one prompt are measured one after the other, starting with another one each time, so that a machine
    that slows down slows all of them.

    Raises:
        CloudUnavailable: an answer was finished by the edge alone; what was measured before it is kept.
    """
    names = [setting_name(mode, point) for point in points]
    given: dict[str, dict[str, Any]] = {EDGE_ONLY: {"mode": Mode.EDGE}}
    given |= {name: {"mode": mode, **point.settings} for name, point in zip(names, points, strict=True)}
    total = len(prompts) * (len(given) + 1)
    for number, prompt in enumerate(prompts):
        done = number * (len(given) + 1)
        reference = results.get(prompt.key, CLOUD_ONLY)
        if reference is None or reference.answer is None:
            answer = await _answer(pair, prompt, {"mode": Mode.CLOUD}, max_tokens)
            reference = _measured(prompt, CLOUD_ONLY, answer, answer.token_ids, 0.0, keep=True)
            results.add(reference)
        progress(done + 1, total)
        order = list(given)
        for turn in range(len(order)):
            name = order[(number + turn) % len(order)]
            if results.get(prompt.key, name) is None:
                answer = await _answer(pair, prompt, given[name], max_tokens)
                rejected = await _rejected(pair, prompt, answer.token_ids)
                results.add(_measured(prompt, name, answer, reference.answer or (), rejected))
            progress(done + 2 + turn, total)
    return Table.of(results, [prompt.key for prompt in prompts], names)


async def _rejected(pair: Pair, prompt: CalibrationPrompt, answer: Sequence[int]) -> float:
    """Share of an answer's tokens that the cloud would not have chosen after the text before them."""
    if not answer:
        return 0.0
    cloud = ModeSettings(mode=Mode.CLOUD)
    (scored,) = await pair.agent.score_branches(pair.tokens(prompt), [answer], settings=cloud, top_logprobs=1)
    own = sum(one.top[0][0] == token for one, token in zip(scored, answer, strict=True))
    return 1.0 - own / len(answer)


async def _answer(pair: Pair, prompt: CalibrationPrompt, settings: dict[str, Any], max_tokens: int) -> Completion:
    request = GenerationRequest(
        prompt_tokens=pair.tokens(prompt),
        sampling=SamplingParams(temperature=0.0, seed=0),
        max_tokens=max_tokens,
        settings=ModeSettings.model_validate(settings),
    )
    completion = None
    async for event in pair.agent.generate(request):
        if isinstance(event, Completion):
            completion = event
    if completion is None:
        raise RuntimeError("an answer ended without a completion")
    if completion.degraded:
        raise CloudUnavailable(
            f"The cloud went away while mode {settings['mode']} was measured ({completion.degraded_reason}).",
            remedy="Run the same command again: it goes on where this one ended.",
        )
    return completion


def _measured(
    prompt: CalibrationPrompt,
    name: str,
    answer: Completion,
    reference: Sequence[int],
    rejected: float,
    *,
    keep: bool = False,
) -> Measured:
    counts = answer.statistics
    return Measured(
        prompt=prompt.key,
        setting=name,
        disagreement=round(1.0 - edit_similarity(answer.token_ids, reference), 9),
        rejected=rejected,
        mismatch=float(list(answer.token_ids) != list(reference)),
        share=counts.cloud_share,
        tokens=counts.tokens,
        seconds=counts.seconds,
        passes=counts.cloud_passes,
        bytes=counts.bytes_up + counts.bytes_down,
        cost=counts.cost,
        score=counts.route_score,
        answer=tuple(reference) if keep else None,
    )
