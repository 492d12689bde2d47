"""Trains the router of a model pair from its verdict log, and says how well it separates, against simple scores."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ConfigError, InvalidRequest
from updraft.evaluation.curves import auc, bootstrap
from updraft.exits.files import replace_file
from updraft.routing.features import TOKEN_FEATURES
from updraft.routing.network import Network, fit
from updraft.routing.router import AHEAD, Router, write_router
from updraft.routing.verdict_log import JudgedAnswer

__all__ = ["RouterRecipe", "give_up_labels", "train_router"]

Floats = NDArray[np.float32]

FEWEST = 8
"""Answers without which nothing can be held out."""

_SCORES = {"entropy": 1.0, "entropy_5": 1.0, "energy": -1.0, "energy_5": -1.0, "margin": -1.0}
"""Features that the router is compared with, and the sign by which each grows with doubt."""


@dataclass(frozen=True, slots=True)
class RouterRecipe:
    """How a router is trained; `hidden` are the widths of the token network's hidden layers."""

    hidden: tuple[int, ...] = (16,)
    epochs: int = 30
    held_out: float = 0.2
    seed: int = 0


def train_router(answers: Sequence[JudgedAnswer], target: Path, recipe: RouterRecipe | None = None) -> dict[str, Any]:
    """Train, write the router to `target` and its card beside it as JSON.

    Returns:
        The card: areas under the ROC curve against rejection on held-out answers, with 95 % intervals over answers.

    Raises:
        InvalidRequest: fewer than `FEWEST` answers, several pairs in one log, or verdicts all alike.
        ConfigError: the files cannot be written.
    """
    recipe = recipe or RouterRecipe()
    started = time.perf_counter()
    edge, cloud = _one_pair(answers)
    training, held = _split(answers, recipe)
    rows, labels = _tokens(training)
    tokens = fit(rows, labels, hidden=recipe.hidden, epochs=recipe.epochs, seed=recipe.seed)
    prompts = _prompt_network(training, recipe)
    card = {
        "edge": edge,
        "cloud": cloud,
        "answers": {"training": len(training), "held_out": len(held)},
        "tokens": {"training": len(rows), "held_out": sum(len(answer.rows) for answer in held)},
        "rejected": {"training": _share(training), "held_out": _share(held)},
        "auc": _areas(held, tokens),
        "prompt_auc": _prompt_area(held, prompts),
        "recipe": {"hidden": list(recipe.hidden), "epochs": recipe.epochs, "seed": recipe.seed, "ahead": AHEAD},
        "seconds": round(time.perf_counter() - started, 1),
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_router(target, Router(tokens, prompts, edge=edge, cloud=cloud, facts=card))
        replace_file(target.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error}") from error
    return card


def give_up_labels(stood: Sequence[bool]) -> Floats:
    """For each judged token whether at least half of the next `AHEAD` ones were rejected; NaN where too few follow."""
    labels = np.full(len(stood), np.nan, np.float32)
    rejected = 1.0 - np.asarray(stood, np.float32)
    for place in range(len(stood)):
        following = rejected[place + 1 : place + 1 + AHEAD]
        if len(following) >= AHEAD // 2:
            labels[place] = float(following.mean() >= 0.5)
    return labels


def _one_pair(answers: Sequence[JudgedAnswer]) -> tuple[str, str]:
    pairs = {(answer.edge, answer.cloud) for answer in answers}
    if len(pairs) != 1:
        raise InvalidRequest(
            f"the log holds verdicts of {len(pairs)} model pairs; a router is trained for one",
            remedy="Give logs of one pair only.",
        )
    if len(answers) < FEWEST:
        raise InvalidRequest(
            f"the log holds {len(answers)} answers; {FEWEST} are needed", remedy="Answer more prompts in mode draft."
        )
    if _share(answers) in (0.0, 1.0):
        raise InvalidRequest("all verdicts are alike; there is nothing to learn", remedy="Answer more prompts.")
    return pairs.pop()


def _split(answers: Sequence[JudgedAnswer], recipe: RouterRecipe) -> tuple[list[JudgedAnswer], list[JudgedAnswer]]:
    """Training and held-out answers: an answer's tokens stay together."""
    order = np.random.default_rng(recipe.seed).permutation(len(answers))
    cut = max(2, round(len(answers) * recipe.held_out))
    return [answers[n] for n in order[cut:]], [answers[n] for n in order[:cut]]


def _tokens(answers: Sequence[JudgedAnswer]) -> tuple[Floats, Floats]:
    rows = np.concatenate([answer.features for answer in answers])
    rejected = np.concatenate([1.0 - np.asarray(answer.stood, np.float32) for answer in answers])
    hopeless = np.concatenate([give_up_labels(answer.stood) for answer in answers])
    return rows, np.stack([rejected, hopeless], -1).astype(np.float32)


def _prompt_network(answers: Sequence[JudgedAnswer], recipe: RouterRecipe) -> Network | None:
    """A logistic regression: there is one prompt for many tokens."""
    known = [(answer.prompt, _share([answer])) for answer in answers if answer.prompt is not None]
    if len(known) < FEWEST // 2:
        return None
    rows = np.stack([prompt for prompt, _ in known])
    shares = np.array([[share] for _, share in known], np.float32)
    return fit(rows, shares, hidden=(), epochs=200, batch=128, rate=1e-2, decay=1e-2, seed=recipe.seed)


def _areas(held: Sequence[JudgedAnswer], network: Network) -> dict[str, Any]:
    """Area under the ROC curve against rejection of the router and of simple scores, with intervals over answers."""
    rows, labels = _tokens(held)
    rejected = labels[:, 0] > 0.5
    groups = np.repeat(np.arange(len(held)), [len(answer.rows) for answer in held])
    outputs = network(rows)
    areas = {
        name: _area(sign * rows[:, TOKEN_FEATURES.index(name)], rejected, groups) for name, sign in _SCORES.items()
    }
    areas["router"] = _area(outputs[:, 0], rejected, groups)
    known = ~np.isnan(labels[:, 1])
    areas["give_up"] = _area(outputs[known, 1], labels[known, 1] > 0.5, groups[known])
    return areas


def _area(scores: Floats, positive: NDArray[np.bool_], groups: NDArray[np.int64]) -> dict[str, Any]:
    members = [np.flatnonzero(groups == number) for number in np.unique(groups)]

    def of(chosen: NDArray[Any]) -> float:
        rows = np.concatenate([members[number] for number in chosen])
        return auc(scores[rows], positive[rows])

    low, high = bootstrap(np.arange(len(members)), of, n=200) if members else (float("nan"), float("nan"))
    return {"area": _rounded(auc(scores, positive)), "interval": [_rounded(low), _rounded(high)]}


def _prompt_area(held: Sequence[JudgedAnswer], network: Network | None) -> float | None:
    """How well the prompt's score tells answers with more rejections than the median from the others."""
    known = [(answer.prompt, _share([answer])) for answer in held if answer.prompt is not None]
    if network is None or len(known) < 2:
        return None
    shares = np.array([share for _, share in known])
    return _rounded(auc(network(np.stack([prompt for prompt, _ in known]))[:, 0], shares > np.median(shares)))


def _share(answers: Sequence[JudgedAnswer]) -> float:
    """Rejected part of all judged tokens."""
    stood = [value for answer in answers for value in answer.stood]
    return 1.0 - sum(stood) / len(stood)


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)
