"""The seam of components: what flows between them, and what each needs to be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from updraft.strategies.problem import Sample
from updraft.strategies.workspace import Workspace

__all__ = ["Candidate", "Component", "Flow", "Meter"]

Gives = Literal["answers", "tests"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer on its way through a pipeline.

    Attributes:
        score: 0 to 1, what the last component that judged gave it.
        passed: what the last verifier or tests said; None where none looked or could tell.
    """

    sample: Sample
    score: float | None = None
    passed: bool | None = None
    critique: str = ""

    def judged(self, score: float | None, passed: bool | None) -> Candidate:
        return replace(self, score=score, passed=passed)


@dataclass(frozen=True, slots=True)
class Flow:
    """What a component gives: answers, or tests as lines of Python."""

    answers: tuple[Candidate, ...] = ()
    tests: tuple[str, ...] = ()

    @classmethod
    def of(cls, flows: Sequence[Flow]) -> Flow:
        """All of several flows, in order."""
        return cls(tuple(one for flow in flows for one in flow.answers), tuple(t for flow in flows for t in flow.tests))


class Meter:
    """Counts a pipeline's calls, and the answers among them.

    Attributes:
        short: what more was wanted of than there is.
    """

    def __init__(self, calls: int, samples: int) -> None:
        self._calls, self._samples = calls, samples
        self.short: Literal["calls", "samples"] | None = None

    def take(self, wanted: int, *, least: int = 1) -> int:
        """How many of so many calls may be made, none where it is less than `least`; they are counted."""
        granted = min(wanted, self._calls)
        if granted < wanted:
            self.short = self.short or "calls"
        granted = granted if granted >= least else 0
        self._calls -= granted
        return granted

    def answers(self, wanted: int) -> int:
        """How many of so many answers may be written; each is a call, too."""
        granted = self.take(min(wanted, self._samples))
        if wanted > self._samples:
            self.short = self.short or "samples"
        self._samples -= granted
        return granted


class Component(BaseModel, ABC):
    """One step of a pipeline.

    Attributes:
        takes: kinds of input, each of which some of its inputs must give.
        gives: what it puts out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    id: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    inputs: tuple[str, ...] = Field(default=(), max_length=16)

    takes: ClassVar[tuple[Gives, ...]] = ("answers",)
    gives: ClassVar[Gives] = "answers"

    @abstractmethod
    async def run(self, work: Workspace, incoming: Flow, meter: Meter) -> Flow:
        """Work on what came in. What there are no calls left for passes through as it is."""
