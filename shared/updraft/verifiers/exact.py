"""Verifiers that compare: a regular expression, a number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pydantic import Field, field_validator

from updraft.errors import MissingExtra
from updraft.routing.votes import final_answer
from updraft.verifiers.base import Claim, Judgement
from updraft.verifiers.pattern_size import size_of
from updraft.verifiers.settings import Resources, Scorer, VerifierSettings

if TYPE_CHECKING:
    import regex

__all__ = ["Number", "Regex"]

_SECONDS: Final = 0.5  # for one answer
_LARGEST: Final = 20_000  # a compiled pattern, in items
_MOST: Final = 1 << 20  # letters of an answer that are looked at


class Regex(VerifierSettings):
    """The answer matches a regular expression.

    Attributes:
        pattern: of the library `regex`.
        match: somewhere in the answer, or all of it.
    """

    kind: ClassVar[str] = "regex"
    of_question: ClassVar[frozenset[str]] = frozenset({"pattern"})

    pattern: str = Field(min_length=1, max_length=1000)
    match: Literal["search", "full"] = "search"

    @field_validator("pattern")
    @classmethod
    def _check(cls, pattern: str) -> str:
        _compiled(pattern)
        return pattern

    def scorer(self, resources: Resources) -> Scorer:
        pattern = _compiled(self.pattern)
        look = pattern.search if self.match == "search" else pattern.fullmatch

        async def score(claims: Sequence[Claim]) -> list[Judgement]:
            return await asyncio.to_thread(lambda: [_matched(look, claim.text) for claim in claims])

        return score


def _compiled(pattern: str) -> regex.Pattern[str]:
    try:
        import regex
    except ImportError as error:
        raise MissingExtra(
            "The verifier regex needs the library regex.", remedy='Install it with `pip install "updraft-llm[verify]"`.'
        ) from error
    if size_of(pattern) > _LARGEST:
        raise ValueError("its repetitions within repetitions are too many")
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"it is not a regular expression: {error}") from error


def _matched(look: Callable[..., Any], text: str) -> Judgement:
    """Backtracking without end is ended; the interpreter's lock is free meanwhile."""
    try:
        found = look(text[:_MOST], timeout=_SECONDS, concurrent=True)
    except TimeoutError:
        return Judgement(None, reason=f"the pattern took more than {_SECONDS:g} s", failed=True)
    return Judgement(1.0) if found else Judgement(0.0, reason="the pattern does not match")


class Number(VerifierSettings):
    """The final answer equals a number.

    Attributes:
        value: the number.
        tolerance: how far the answer may be off. Both are read to six digits, as votes read them.
    """

    kind: ClassVar[str] = "number"
    of_question: ClassVar[frozenset[str]] = frozenset({"value"})

    value: float = Field(allow_inf_nan=False)
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def scorer(self, resources: Resources) -> Scorer:
        async def score(claims: Sequence[Claim]) -> list[Judgement]:
            return [self._compared(claim.text) for claim in claims]

        return score

    def _compared(self, text: str) -> Judgement:
        answer = final_answer(text)
        try:
            value = float(answer)
        except ValueError:
            return Judgement(0.0, reason="no number can be read from the answer")
        # A hair more than asked, for what decimal numbers lose as binary ones.
        if value == self._read or abs(value - self.value) <= self.tolerance * (1 + 1e-9):
            return Judgement(1.0)
        return Judgement(0.0, reason="the answer is another number")

    @property
    def _read(self) -> float:
        return float(final_answer(f"{self.value:.17f}".rstrip("0").rstrip(".")))
