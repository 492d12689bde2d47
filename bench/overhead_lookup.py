"""What looking up costs per token: its part of the bench `overhead`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from updraft.generation import Statistics
from updraft.mode_settings import LookupSettings
from updraft.sampling import Sampled
from updraft_edge.lookup.drafter import LookupDrafter
from updraft_edge.lookup.memory import LookupEstimate, LookupMemory
from updraft_edge.stopping.costs import Costs

__all__ = ["lookup_pieces"]

_RUN: Final = 6  # tokens between two verdicts, where a model drafts
_PAST: Final = 20

Piece = tuple[str, Callable[[Sequence[Sampled]], None]]


def lookup_pieces() -> list[Piece]:
    """A whole answer each time: the text read in, every draft with its branches, every verdict, and the answer kept."""
    return [("lookup: alone", _alone), ("lookup: before a model", _before)]


def _drafter(tokens: Sequence[Sampled]) -> tuple[LookupDrafter, list[int]]:
    """A drafter that has the text as its prompt, too, and past answers that begin as it does."""
    text = [sampled.token for sampled in tokens]
    memory = LookupMemory(32_768)
    for number in range(_PAST):
        memory.remember([*text[number : number + 16], number])
    drafter = LookupDrafter(
        LookupSettings(),
        text,
        most=4 * len(text),
        costs=Costs(),
        estimate=LookupEstimate(),
        memory=memory,
        statistics=Statistics(),
    )
    return drafter, text


def _alone(tokens: Sequence[Sampled]) -> None:
    drafter, text = _drafter(tokens)
    place = 0
    while place < len(text):
        run = [drafter.take() for _ in drafter.look().steps]
        drafter.branches(run)
        stood = 0
        while stood < min(len(run), len(text) - place - 1) and run[stood].token == text[place + stood]:
            stood += 1
        drafter.settle(text[place : place + stood + 1])
        place += stood + 1
    drafter.close()


def _before(tokens: Sequence[Sampled]) -> None:
    drafter, text = _drafter(tokens)
    for start in range(0, len(text), _RUN):
        run = text[start : start + _RUN]
        for place in range(len(run)):
            drafter.look(run[:place])
        drafter.settle(run)
    drafter.close()
