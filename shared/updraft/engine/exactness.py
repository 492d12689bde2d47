"""Does this engine give the same bits however the work is cut? Losslessness and resumption rest on it.

Kernels change with the library's version, the processor and the weights' type, so `updraft doctor` asks again on
every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from updraft.engine.base import Engine, FloatRows, Run
from updraft.errors import InvalidRequest

__all__ = ["Difference", "ExactnessReport", "check_exactness"]

_Result = TypeVar("_Result")
_PROMPT = 24
# llama.cpp pads a cache to multiples of 256 cells and has taken another kernel from 512 on: the check goes past 256.
_FAR = 280


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one way of cutting the work is from single steps, in logits."""

    rows: int
    largest: float
    equal: bool


@dataclass(frozen=True, slots=True)
class ExactnessReport:
    """One `Difference` a check.

    Attributes:
        batching: single steps in one pass with other sequences of other lengths.
        runs: runs of 2 to `max_run` tokens whose tail is rolled back and computed again.
        prefill: the prompt in chunks of other sizes, then single steps.
        far: the same past the first 256 positions of a sequence, where contexts allow it.
        fork: steps of a forked sequence.
        restore: steps of a saved and restored sequence.
    """

    batching: Difference
    runs: Difference
    prefill: Difference
    far: Difference
    fork: Difference
    restore: Difference

    @property
    def checks(self) -> dict[str, Difference]:
        """All checks by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def exact(self) -> bool:
        """All checks gave equal bits."""
        return all(check.equal for check in self.checks.values())


def check_exactness(engine: Engine, *, seed: int = 0) -> ExactnessReport:
    """Run the checks on random tokens; needs three free sequences and leaves none open.

    Raises:
        InvalidRequest: the engine's context is below 40 tokens or it has fewer than three sequences.
        Overloaded: fewer than three sequences are free.
    """
    if engine.context < 40 or engine.max_sequences < 3:
        raise InvalidRequest(
            f"the check needs 3 sequences of 40 tokens; the engine has {engine.max_sequences} of {engine.context}"
        )
    return _Check(engine, seed).report()


class _Check:
    def __init__(self, engine: Engine, seed: int) -> None:
        self._engine = engine
        self._random = np.random.default_rng(seed)
        longest = min(engine.context, _FAR + engine.max_run)
        self._tokens: list[int] = self._random.integers(0, engine.info.vocabulary, longest).tolist()
        self._open: list[int] = []
        self._near = min(longest, _PROMPT + engine.max_run)

    def report(self) -> ExactnessReport:
        single = self._with_sequences(lambda: self._steps(self._sequence(_PROMPT), _PROMPT, _PROMPT + 12))
        return ExactnessReport(
            batching=_difference(single, self._with_sequences(self._batched)),
            runs=self._with_sequences(self._rolled_back),
            prefill=_difference(single, self._with_sequences(self._prefilled)),
            far=self._with_sequences(self._far),
            fork=_difference(single[4:], self._with_sequences(self._forked)),
            restore=_difference(single[4:], self._with_sequences(self._restored)),
        )

    def _with_sequences(self, work: Callable[[], _Result]) -> _Result:
        try:
            return work()
        finally:
            while self._open:
                self._engine.close(self._open.pop())

    def _sequence(self, length: int, chunks: Sequence[int] = (7,)) -> int:
        """A new sequence holding the first `length` tokens, prefilled in chunks of the given sizes in turn."""
        sequence = self._engine.open()
        self._open.append(sequence)
        self._extend(sequence, length, chunks)
        return sequence

    def _extend(self, sequence: int, length: int, chunks: Sequence[int]) -> None:
        position, turn = self._engine.length(sequence), 0
        while position < length:
            size = min(chunks[turn % len(chunks)], self._engine.max_run, length - position)
            self._engine.forward([Run(sequence, position, self._tokens[position : position + size])])
            position, turn = position + size, turn + 1

    def _steps(self, sequence: int, start: int, end: int) -> FloatRows:
        rows = []
        for position in range(start, end):
            (output,) = self._engine.forward([Run(sequence, position, self._tokens[position : position + 1], rows=1)])
            rows.append(output.logits.copy())
        return np.concatenate(rows)

    def _batched(self) -> FloatRows:
        mine, first, second = self._sequence(_PROMPT), self._sequence(3), self._sequence(5)
        rows = []
        for step in range(12):
            position = _PROMPT + step
            runs = [
                Run(second, 5 + step, self._tokens[5 + step : 6 + step], rows=1),
                Run(mine, position, self._tokens[position : position + 1], rows=1),
                Run(first, 3 + 2 * step, self._tokens[3 + 2 * step : 5 + 2 * step], rows=1),
            ]
            rows.append(self._engine.forward(runs)[1].logits.copy())
        return np.concatenate(rows)

    def _rolled_back(self) -> Difference:
        """Each run goes over wrong tokens first: what was rolled back must leave nothing behind."""
        end = self._near
        single = self._steps(self._sequence(_PROMPT), _PROMPT, end)
        sequence, found = self._sequence(_PROMPT), []
        for size in (2, 3, 4, 5, 8, 13, 16, 31, 32, 33, 63, self._engine.max_run):
            count = min(size, end - _PROMPT, self._engine.max_run)
            wrong = self._random.integers(0, self._engine.info.vocabulary, count).tolist()
            self._engine.forward([Run(sequence, _PROMPT, wrong, rows=count)])
            self._engine.truncate(sequence, _PROMPT)
            right = self._tokens[_PROMPT : _PROMPT + count]
            (output,) = self._engine.forward([Run(sequence, _PROMPT, right, rows=count)])
            found.append(_difference(single[:count], output.logits))
            self._engine.truncate(sequence, _PROMPT)
        return _worst(found)

    def _prefilled(self) -> FloatRows:
        return self._steps(self._sequence(_PROMPT, (1, 16, 2, 5)), _PROMPT, _PROMPT + 12)

    def _far(self) -> Difference:
        start = max(_PROMPT, len(self._tokens) - self._engine.max_run)
        end = min(len(self._tokens), start + 16)
        single = self._steps(self._sequence(start, (self._engine.max_run,)), start, end)
        sequence = self._sequence(start, (31, 64, 5))
        (output,) = self._engine.forward([Run(sequence, start, self._tokens[start:end], rows=end - start)])
        return _difference(single, output.logits)

    def _forked(self) -> FloatRows:
        origin = self._sequence(_PROMPT + 4)
        copy = self._engine.fork(origin)
        self._open.append(copy)
        # The origin goes another way first: the copy must not notice.
        self._engine.truncate(origin, _PROMPT)
        self._engine.forward([Run(origin, _PROMPT, self._tokens[:9])])
        return self._steps(copy, _PROMPT + 4, _PROMPT + 12)

    def _restored(self) -> FloatRows:
        state = self._engine.save(self._sequence(_PROMPT + 4))
        self._engine.close(self._open.pop())
        sequence = self._engine.restore(state)
        self._open.append(sequence)
        return self._steps(sequence, _PROMPT + 4, _PROMPT + 12)


def _difference(expected: FloatRows, found: FloatRows) -> Difference:
    largest = float(np.abs(expected - found).max())
    return Difference(rows=len(expected), largest=largest, equal=expected.tobytes() == found.tobytes())


def _worst(found: Sequence[Difference]) -> Difference:
    return Difference(
        rows=sum(one.rows for one in found),
        largest=max(one.largest for one in found),
        equal=all(one.equal for one in found),
    )
