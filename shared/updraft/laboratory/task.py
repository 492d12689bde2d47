"""Arithmetic modulo 10 in steps: problems of graded difficulty whose every step can be checked exactly.

A problem is a digit and what is to be done to it, each operation under a letter; of every number only the last digit
counts. A step is a line: the digit so far, and the operation that comes next. The last line is the last digit, after
a `#`. Operations are done from the left, but `+` and `-` next to each other may change places, and so may `*` next to
each other: there are mostly several ways through a problem, and all end at the same answer. ::

    7a+5b-4c*3
    7b-4
    3a+5
    8c*3
    #4
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from updraft.errors import InvalidRequest

__all__ = [
    "GRADES",
    "LETTERS",
    "MODULUS",
    "MOST_STEPS",
    "Operation",
    "Problem",
    "Split",
    "Step",
    "one_of",
    "parse_answer",
    "parse_problem",
    "problems",
    "prompt",
    "split_of",
    "steps_of",
    "worked",
]

MODULUS: Final = 10
MOST_STEPS: Final = 8
"""Operations of a problem."""
GRADES: Final = range(2, MOST_STEPS + 1)
"""Operations of the problems that are drawn unless others are asked for."""

LETTERS: Final = "abcdefgh"
"""Names of the operations, in turn."""

Split = Literal["train", "validation", "test"]

_OPERATION: Final = r"[-+*][0-9]"
_PROBLEM: Final = re.compile(rf"([0-9])((?:[a-h]{_OPERATION}){{1,{MOST_STEPS}}})")
_LINE: Final = re.compile(rf"([0-9])([a-h])({_OPERATION})")
_ANSWER: Final = re.compile(r"#([0-9])")
_SIGNS: Final = "+-*"
_SHARES: Final = (0.4, 0.35, 0.25)
_FIRST: Final = 0.6  # probability of each way in turn, from the left, to be the one that is written
_MOST_MISSES: Final = 2000  # in a row: what is left is not worth drawing for


@dataclass(frozen=True, slots=True)
class Operation:
    sign: str
    operand: int

    def __str__(self) -> str:
        return f"{self.sign}{self.operand}"

    def __call__(self, number: int) -> int:
        """The number after it, from 0 to 9."""
        if self.sign == "*":
            return number * self.operand % MODULUS
        return (number + (self.operand if self.sign == "+" else -self.operand)) % MODULUS


@dataclass(frozen=True, slots=True)
class Problem:
    """A digit and the operations on it; the first one's letter is `a`."""

    start: int
    operations: tuple[Operation, ...]

    @property
    def text(self) -> str:
        named = zip(LETTERS, self.operations, strict=False)
        return f"{self.start}" + "".join(f"{letter}{some}" for letter, some in named)

    @property
    def steps(self) -> int:
        """Operations: how difficult it is."""
        return len(self.operations)

    @property
    def answer(self) -> int:
        number = self.start
        for operation in self.operations:
            number = operation(number)
        return number

    def ways(self, done: frozenset[int]) -> list[int]:
        """Places of the operations that may be next after those that are done, from the left."""
        left = [place for place in range(self.steps) if place not in done]
        kind = [self.operations[place].sign == "*" for place in left]
        same = next((n for n, multiplies in enumerate(kind) if multiplies != kind[0]), len(left))
        return left[:same]


@dataclass(frozen=True, slots=True)
class Step:
    """A line of an answer.

    Attributes:
        text: the line, without its end.
        right: it follows from the lines before, be their numbers right or wrong.
        prefix_right: it and all lines before it are right.
        sound: so many of its first characters begin a line that would be right.
    """

    text: str
    right: bool
    prefix_right: bool
    sound: int


def parse_problem(text: str) -> Problem:
    """Read a problem. Raises InvalidRequest for anything else."""
    found = _PROBLEM.fullmatch(text.strip())
    operations = re.findall(r"([a-h])(.)(.)", found[2]) if found else []
    if found is None or "".join(letter for letter, _, _ in operations) != LETTERS[: len(operations)]:
        raise InvalidRequest(
            f"{text[:80]!r} is not a problem of the laboratory",
            remedy=f"Write a digit and 1 to {MOST_STEPS} operations on it under the letters from a, each + - or * "
            "and a digit, such as 7a+5b-4c*3.",
        )
    return Problem(int(found[1]), tuple(Operation(sign, int(operand)) for _, sign, operand in operations))


def problems(split: Split, count: int, *, seed: int = 0, steps: Sequence[int] = GRADES) -> list[Problem]:
    """Different problems of a split, the numbers of steps in turn.

    Args:
        split: the splits have no problem in common: which one a problem is in follows from its text alone.
        seed: of all that is drawn; the first problems of a longer list are those of a shorter one.
        steps: numbers of steps, each from 1 to `MOST_STEPS`.

    Raises InvalidRequest: a number of steps out of range, or more problems than there are (of one step 260 in all).
    """
    if not steps or not all(1 <= some <= MOST_STEPS for some in steps):
        raise InvalidRequest(f"problems of {list(steps)} steps; they have 1 to {MOST_STEPS}", param="steps")
    draw, misses = random.Random(f"{split}/{seed}"), 0
    found: dict[str, Problem] = {}
    while len(found) < count:
        problem = _drawn(draw, steps[len(found) % len(steps)])
        if problem.text not in found and split_of(problem.text) == split:
            found[problem.text] = problem
            misses = 0
        elif (misses := misses + 1) == _MOST_MISSES:
            raise InvalidRequest(f"there are not {count} problems of {list(steps)} steps in {split}", param="count")
    return list(found.values())


def split_of(text: str) -> Split:
    """Which split a problem is in: 3 of 4 are for training."""
    byte = hashlib.blake2b(text.encode(), digest_size=1).digest()[0]
    return "train" if byte < 192 else "validation" if byte < 224 else "test"


def prompt(problem: Problem) -> str:
    """What a model of the family is asked: the problem as a line."""
    return f"{problem.text}\n"


def worked(problem: Problem, draw: random.Random) -> str:
    """A right answer: one of the ways to it, those that begin at the left more often."""
    number, done, lines = problem.start, frozenset[int](), []
    while ways := problem.ways(done):
        place = one_of(ways, draw)
        operation = problem.operations[place]
        lines.append(f"{number}{LETTERS[place]}{operation}\n")
        number, done = operation(number), done | {place}
    return "".join(lines) + f"#{number}\n"


def one_of(ways: Sequence[int], draw: random.Random) -> int:
    """The way that is written: the first with a probability of 0.6, else the next with the same, and so on."""
    return next((way for way in ways[:-1] if draw.random() <= _FIRST), ways[-1])


def parse_answer(text: str) -> int | None:
    """The number of the last line; None unless that is `#` and a digit."""
    found = _ANSWER.fullmatch(text.rstrip("\n").rpartition("\n")[2])
    return int(found[1]) if found else None


def steps_of(problem: Problem, text: str) -> list[Step]:
    """The lines of an answer, whole or not yet, each with whether it is right.

    A line is wrong that is no step, has the wrong number, or an operation that may not be done there. After a wrong
    line the next is judged by what the wrong one says, as far as that can be read; what follows a `#` is wrong, too.
    """
    state, prefix_right, steps = _State(problem), True, []
    for line in text.removesuffix("\n").split("\n") if text else ():
        options = state.options()
        right = line in options
        prefix_right = prefix_right and right
        sound = max((_agreement(line, option) for option in options), default=0)
        steps.append(Step(line, right, prefix_right, sound))
        state.follow(line)
    return steps


def _agreement(line: str, option: str) -> int:
    """First characters that they have in common."""
    pairs = zip(line, option, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(line), len(option)))


class _State:
    """Where an answer is: its number, and what is done."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._number, self._done, self._ended = problem.start, frozenset[int](), False

    def options(self) -> list[str]:
        """The lines that are right here."""
        if self._ended:
            return []
        ways, operations = self._problem.ways(self._done), self._problem.operations
        return [f"{self._number}{LETTERS[way]}{operations[way]}" for way in ways] or [f"#{self._number}"]

    def follow(self, line: str) -> None:
        """Go on to the next line, be this one right or wrong; what cannot be read changes nothing."""
        self._ended = self._ended or _ANSWER.fullmatch(line) is not None
        step = _LINE.fullmatch(line)
        if step is not None and not self._ended:
            operation = Operation(step[3][0], int(step[3][1]))
            self._number = operation(int(step[1]))
            self._done = self._done | {LETTERS.index(step[2])}


def _drawn(draw: random.Random, steps: int) -> Problem:
    """Addends are not 0, and factors neither 0 nor 1."""
    signs = draw.choices(_SIGNS, _SHARES, k=steps)
    operations = [Operation(sign, draw.randint(2 if sign == "*" else 1, 9)) for sign in signs]
    return Problem(draw.randint(0, 9), tuple(operations))
