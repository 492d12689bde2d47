"""Mode `solve`: the edge's answers vote, and where the vote is thin a strategy works on in the cloud."""

from __future__ import annotations

from updraft_edge.solving.parts import solve_parts
from updraft_edge.solving.session import SolveSession

__all__ = ["SolveSession", "solve_parts"]
