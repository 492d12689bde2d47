"""What the scores, the router and the budget cost per token: their part of the bench `overhead`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Literal

import numpy as np

from updraft.mode_settings import SpanSettings
from updraft.routing.features import TOKEN_FEATURES
from updraft.routing.network import Network
from updraft.routing.router import Router
from updraft.sampling import Sampled, shaped
from updraft.token_log import TokenLog
from updraft_edge.answer import Answer
from updraft_edge.policies.budget import Budgeted, Ledger, TopShare
from updraft_edge.policies.scores import make_score
from updraft_edge.policies.span import ScorePolicy
from updraft_edge.seams import EscalationPolicy, HandOver

__all__ = ["score_pieces"]

_SCORES: Final[tuple[Literal["entropy", "two_sided", "energy", "margin", "learned", "random"], ...]] = (
    "entropy",
    "two_sided",
    "energy",
    "margin",
    "learned",
    "random",
)
_VOCABULARY: Final = 49_152
_HIDDEN: Final = (16,)

Piece = tuple[str, Callable[[Sequence[Sampled]], None]]


class _Wordless:
    """A tokenizer for answers that get no token."""

    def encode(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        return []

    def piece(self, token: int) -> bytes:
        return b""

    def written(self, token: int) -> str:
        return ""


def score_pieces() -> list[Piece]:
    """Each score's policy, one of them within a budget, and what measuring margin and mass adds to a draw."""
    made: list[Piece] = []
    for score in _SCORES:
        answer = _answer()
        made.append((f"span: {score}", _decisions(_policy(SpanSettings(score=score), answer))))
    answer = _answer()
    policy = _policy(SpanSettings(), answer)
    made.append(("span: entropy, in a budget", _decisions(Budgeted(policy, Ledger(0.2, 256), TopShare(), answer))))
    made.append(("margin and top-k mass", _shapes()))
    return made


def _answer() -> Answer:
    return Answer(TokenLog([1]), _Wordless(), ends=frozenset(), stop=(), most=2**31, started=time.perf_counter())


def _policy(settings: SpanSettings, answer: Answer) -> ScorePolicy:
    score = make_score(settings, threshold=1e9, seed=0, prompt_length=100, router=_router())
    return ScorePolicy(settings, score, answer, 1e9)


def _router() -> Router:
    """A router of the size that `updraft train router` makes, with weights that mean nothing."""
    rng, widths = np.random.default_rng(0), [len(TOKEN_FEATURES), *_HIDDEN, 2]
    weights = [(0.01 * rng.normal(size=(widths[n + 1], widths[n]))).astype(np.float32) for n in range(len(widths) - 1)]
    biases = [np.zeros(width, np.float32) for width in widths[1:]]
    return Router(Network(weights, biases), None, edge="edge", cloud="cloud")


def _decisions(policy: EscalationPolicy) -> Callable[[Sequence[Sampled]], None]:
    """One token a run, as in mode `span`; no decision waits for anything, so no event loop is needed."""
    known: dict[int, list[Sampled]] = {}

    def decide(tokens: Sequence[Sampled]) -> None:
        if id(tokens) not in known:
            known[id(tokens)] = [_with_shape(sampled) for sampled in tokens]
        for sampled in known[id(tokens)]:
            try:
                policy.decide([sampled]).send(None)
            except StopIteration as finished:
                if isinstance(finished.value, HandOver):
                    policy.returned()

    return decide


def _with_shape(sampled: Sampled) -> Sampled:
    return replace(sampled, distribution=replace(sampled.distribution, margin=0.5, mass=0.9))


def _shapes() -> Callable[[Sequence[Sampled]], None]:
    row = (3 * np.random.default_rng(0).normal(size=_VOCABULARY)).astype(np.float32)
    row -= row.max()

    def measure(tokens: Sequence[Sampled]) -> None:
        for sampled in tokens:
            shaped(sampled.distribution, row)

    return measure
