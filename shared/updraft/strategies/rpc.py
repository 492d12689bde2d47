"""RPC (NeurIPS 2025): perplexity consistency, from which reasoning pruning leaves improbable samples out."""

from __future__ import annotations

import math
from typing import ClassVar

from updraft.routing.votes import path_probability, path_weights
from updraft.strategies.pruning import surviving
from updraft.strategies.voting import Vote, Voting
from updraft.strategies.workspace import Workspace

__all__ = ["RPC"]


class RPC(Voting):
    """A vote in which a sample weighs exp(mean log-probability of its tokens); identical ones count once.

    The outcome's confidence is the answer's part of all weights. Which samples are pruned can change with every sample,
    so `confidence` 1 never stops early here.

    Attributes:
        prune: leave out improbable samples.
    """

    name: ClassVar[str] = "rpc"

    prune: bool = True

    def open_vote(self, work: Workspace) -> Vote:
        return _PathVote(work, self.prune)


class _PathVote(Vote):
    def __init__(self, work: Workspace, prune: bool) -> None:
        super().__init__(work)
        self._prune = prune

    @property
    def settles(self) -> bool:
        return False

    @property
    def weights(self) -> list[float]:
        texts = [sample.text for sample in self.samples]
        logprobs = [sample.logprob for sample in self.samples]
        if self._prune:
            kept = surviving([path_probability(logprob) for logprob in logprobs])
            logprobs = [logprob if keep else -math.inf for logprob, keep in zip(logprobs, kept, strict=True)]
        return path_weights(texts, logprobs)
