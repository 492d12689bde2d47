"""A staged engine without a model: early exits that guess, and hidden states that give away every mistake."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes.engine import HashEngine
from updraft.engine.base import FloatRows, Output, Run, StageInfo
from updraft.errors import InvalidRequest
from updraft.exits.carry import Carry, rounded

__all__ = ["FakeStagedEngine"]


@dataclass(slots=True)
class _Depths:
    """How far each stage of a sequence has come, where its states enter, and what was wrong with them."""

    computed: list[int]
    entry: int = 0
    wrong: dict[int, int] = field(default_factory=dict)


class FakeStagedEngine(HashEngine):
    """Implements `updraft.engine.StagedEngine`. Its full depth is the `HashEngine` of the same `seed`.

    An exit gives the full depth's logits with noise that shrinks with depth. Hidden states are a function of the tokens
    before them; entering with any others, or with tokens that do not belong to them, changes all logits from there on.

    Args:
        stages: of the whole model; all but the last end in an exit.
        deepest: the last stage that this engine holds, None for all: an edge that has only the lower layers.
        exit_noise: standard deviation of the noise of an exit at depth 0.
        carry: precision of hidden states at `split`; None for states that every precision holds exactly.
        split: the stage after which states are rounded to `carry`.
        options: of the `HashEngine`.
    """

    def __init__(
        self,
        *,
        stages: int = 3,
        deepest: int | None = None,
        exit_noise: float = 2.0,
        width: int = 8,
        carry: Carry | None = None,
        split: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.info = replace(
            self.info, name="staged-hash", layers=2 * stages, width=width, fingerprint=f"staged-{self._seed}-{stages}"
        )
        self._whole = stages
        self._deepest = stages - 1 if deepest is None else deepest
        self.stages = tuple(
            StageInfo(2 * stage, 2 * stage + 2, int(stage < stages - 1)) for stage in range(self._deepest + 1)
        )
        self.carry, self.split = carry, split
        self._exit_noise = exit_noise
        self._depths: dict[int, _Depths] = {}

    def open(self) -> int:
        sequence = super().open()
        self._depths[sequence] = _Depths([0] * len(self.stages))
        return sequence

    def length(self, sequence: int) -> int:
        super().length(sequence)
        depths = self._depths[sequence]
        return depths.computed[depths.entry]

    def computed(self, sequence: int, stage: int) -> int:
        return self._depths[sequence].computed[stage]

    def boundary(self, sequence: int, stage: int, start: int, stop: int) -> FloatRows:
        depths = self._depths[sequence]
        if not depths.entry <= stage < self._whole - 1 or stage >= len(self.stages):
            raise InvalidRequest(f"there is no boundary after stage {stage}")
        if not 0 <= start <= stop <= depths.computed[stage]:
            raise InvalidRequest(f"states {start}..{stop} of {depths.computed[stage]}")
        keys = [self._prefix(sequence, position + 1) for position in range(start, stop)]
        return np.array([self._state(stage, key) for key in keys], np.float32).reshape(stop - start, self.info.width)

    def truncate(self, sequence: int, length: int) -> None:
        super().truncate(sequence, length)
        depths = self._depths[sequence]
        depths.computed = [min(length, done) for done in depths.computed]
        depths.wrong = {position: value for position, value in depths.wrong.items() if position < length}

    def fork(self, sequence: int) -> int:
        return self.restore(self.save(sequence))

    def close(self, sequence: int) -> None:
        super().close(sequence)
        del self._depths[sequence]

    def save(self, sequence: int) -> bytes:
        depths = self._depths[sequence]
        wrong = list(depths.wrong.items())
        return json.dumps([self._caches[sequence], depths.computed, depths.entry, wrong]).encode()

    def restore(self, state: bytes) -> int:
        sequence = self.open()
        self._caches[sequence], computed, entry, wrong = json.loads(state)
        self._depths[sequence] = _Depths(computed, entry, dict(wrong))
        return sequence

    def _check(self, run: Run) -> None:
        if run.tokens or run.inputs is not None:
            super()._check(run)
        elif run.position != self.length(run.sequence) or not 0 <= run.rows <= run.position:
            raise InvalidRequest("a run without tokens, of a bad position or row count")
        depth = self._deepest if run.depth is None else run.depth
        if not run.entry <= depth < len(self.stages):
            raise InvalidRequest(f"there is no depth {depth} from stage {run.entry}")
        depths = self._depths[run.sequence]
        if run.position and run.entry != depths.entry:
            raise InvalidRequest(f"states enter at {run.entry}, those before at {depths.entry}")
        if run.tokens and (run.inputs is None) != (run.entry == 0):
            raise InvalidRequest("inputs need a stage above 0, and such a stage needs inputs")
        if run.inputs is not None and run.inputs.shape != (len(run.tokens), self.info.width):
            raise InvalidRequest(f"inputs of shape {run.inputs.shape}")

    def _compute(self, run: Run) -> Output:
        depths, cache = self._depths[run.sequence], self._caches[run.sequence]
        depth = self._deepest if run.depth is None else run.depth
        depths.entry = run.entry
        for position, token in enumerate(run.tokens, len(cache)):
            cache.append(token)
            if run.inputs is not None:
                self._note_input(run, position)
        for stage in range(run.entry, depth + 1):
            depths.computed[stage] = len(cache)
        keys = [self._prefix(run.sequence, end) for end in range(len(cache) - run.rows + 1, len(cache) + 1)]
        logits = np.array([self._logits(depth, key) for key in keys], np.float32)
        hidden = [self._vector("features", depth, key) for key in keys]
        return Output(
            logits.reshape(run.rows, self.info.vocabulary),
            np.array(hidden, np.float32).reshape(run.rows, self.info.width) if run.hidden else None,
        )

    def _note_input(self, run: Run, position: int) -> None:
        """Remember a state that is not the one this engine would have computed itself."""
        assert run.inputs is not None
        given = run.inputs[position - run.position]
        expected = self._state(run.entry - 1, self._prefix(run.sequence, position + 1))
        if not np.array_equal(given, expected):
            self._depths[run.sequence].wrong[position] = zlib.crc32(given.tobytes())

    def _prefix(self, sequence: int, length: int) -> tuple[int, ...]:
        """What logits and states after so many tokens are a function of."""
        wrong = self._depths[sequence].wrong
        signs = [value for position, value in sorted(wrong.items()) if position < length]
        return tuple(self._caches[sequence][:length] + signs)

    def _logits(self, depth: int, key: tuple[int, ...]) -> NDArray[np.float32]:
        row = self._row(key)
        shallow = (self._whole - 1 - depth) / max(1, self._whole - 1)
        if shallow:
            row += (
                self._random("exit", depth, key).normal(size=len(row)).astype(np.float32) * self._exit_noise * shallow
            )
        return row

    def _state(self, stage: int, key: tuple[int, ...]) -> NDArray[np.float32]:
        if self.carry is None:
            state = self._random("state", stage, key).integers(-126, 127, self.info.width).astype(np.float32)
            state[0] = 127  # so that int8's scale is 1
            return state
        state = self._vector("state", stage, key)
        return rounded(state[None], self.carry)[0] if stage == self.split else state

    def _vector(self, kind: str, stage: int, key: tuple[int, ...]) -> NDArray[np.float32]:
        return self._random(kind, stage, key).normal(size=self.info.width).astype(np.float32) * 10

    def _random(self, kind: str, stage: int, key: tuple[int, ...]) -> np.random.Generator:
        return np.random.default_rng(abs(hash((self._seed, zlib.crc32(kind.encode()), stage, key))))
