"""Self-consistency (Wang et al., arXiv 2203.11171): the final answer that most samples give."""

from __future__ import annotations

from typing import ClassVar

from updraft.strategies.voting import Vote, Voting
from updraft.strategies.workspace import Workspace

__all__ = ["SelfConsistency"]


class SelfConsistency(Voting):
    """The majority among the budget's samples; answers that came with the request vote too.

    With `confidence` it is adaptive consistency (Aggarwal et al., arXiv 2305.11860).
    """

    name: ClassVar[str] = "self-consistency"

    def open_vote(self, work: Workspace) -> Vote:
        return Vote(work)
