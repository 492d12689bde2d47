"""What staged engines have in common: plain decoding, one token a pass, and hidden states that all of them refuse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from updraft.engine.base import FloatRows, Run, StagedEngine

__all__ = ["BAD_STATES", "PlainDecoding"]

_STATES = np.ones((3, 64), np.float32)
# Runs of an empty sequence of a model of three stages or more and width 64, and what the refusal says.
BAD_STATES: list[tuple[Run, str]] = [
    (Run(0, 0, (), rows=0), "0 positions"),
    (Run(0, 0, [1, 2, 3], entry=1), "needs the hidden states"),
    (Run(0, 0, [1, 2, 3], entry=2, depth=1, inputs=_STATES), "depth is 1"),
    (Run(0, 0, [1, 2], entry=1, inputs=_STATES), r"\(3, 64\)"),
    (Run(0, 0, [1, 2, 3], entry=1, inputs=_STATES[:, :63]), r"\(3, 63\)"),
    (Run(0, 0, [1, 2, 3], entry=1, inputs=_STATES.reshape(1, 3, 64)), r"\(1, 3, 64\)"),
    (Run(0, 0, [1, 2, 3], entry=1, inputs=_STATES.astype(np.float64)), "float64"),
    (Run(0, 0, [1, 2, 3], entry=1, inputs=_STATES.astype(np.float16)), "float16"),
    (Run(0, 0, [1, 2, 3], entry=1, inputs=_STATES.tolist()), "list"),  # type: ignore[arg-type]
    (Run(0, 0, [1, 2, 3], entry=1, inputs=np.where(np.eye(3, 64) > 0, np.nan, _STATES).astype("f")), "finite"),
    (Run(0, 0, [1, 2, 3], entry=1, inputs=np.where(np.eye(3, 64) > 0, -np.inf, _STATES).astype("f")), "finite"),
]


class PlainDecoding:
    """Logits, features and boundary states at every position of a text, by single steps on an engine of its own."""

    def __init__(self, engine: StagedEngine) -> None:
        self._engine = engine
        self._held: dict[int, list[int]] = {}
        self._sequences: dict[int, int] = {}
        self._rows: dict[int, list[FloatRows]] = {}
        self._features: dict[int, list[FloatRows]] = {}

    def logits(self, tokens: Sequence[int], rows: int, depth: int) -> FloatRows:
        """The last `rows` rows for a text at a depth."""
        self._decode(tokens, depth)
        return _stacked(self._rows[depth][len(tokens) - rows :], self._engine.info.vocabulary)

    def features(self, tokens: Sequence[int], rows: int, depth: int) -> FloatRows:
        self._decode(tokens, depth)
        return _stacked(self._features[depth][len(tokens) - rows :], self._engine.info.width)

    def boundary(self, tokens: Sequence[int], stage: int) -> FloatRows:
        """States of all positions after a stage."""
        depth = len(self._engine.stages) - 1
        self._decode(tokens, depth)
        return self._engine.boundary(self._sequences[depth], stage, 0, len(tokens))

    def _decode(self, tokens: Sequence[int], depth: int) -> None:
        if depth not in self._sequences:
            self._sequences[depth] = self._engine.open()
            self._held[depth], self._rows[depth], self._features[depth] = [], [], []
        held, sequence = self._held[depth], self._sequences[depth]
        same = next(
            (place for place, (mine, other) in enumerate(zip(held, tokens, strict=False)) if mine != other),
            min(len(held), len(tokens)),
        )
        self._engine.truncate(sequence, same)
        del held[same:], self._rows[depth][same:], self._features[depth][same:]
        for token in tokens[same:]:
            run = Run(sequence, len(held), [token], rows=1, hidden=True, depth=depth)
            (output,) = self._engine.forward([run])
            assert output.hidden is not None
            held.append(token)
            self._rows[depth].append(output.logits.copy())
            self._features[depth].append(output.hidden.copy())


def _stacked(rows: Sequence[FloatRows], width: int) -> FloatRows:
    return np.concatenate([np.empty((0, width), np.float32), *rows])
