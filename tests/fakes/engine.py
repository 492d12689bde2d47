"""An engine without a model: logits are a hash of the whole prefix, so every cache mistake changes them.

Users may use it to test their own code against Updraft's tiers without a model file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from updraft.engine.base import ModelInfo, Output, Run
from updraft.engine.saved_state import pack_state, unpack_state
from updraft.errors import EngineFailure, InvalidRequest, Overloaded

__all__ = ["HashEngine", "LetterTokenizer"]


class LetterTokenizer:
    """One token a letter: ids 0..vocabulary-1 stand for printable characters; the last id is the end token."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def encode(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        return [(ord(letter) - 32) % (self._vocabulary - 1) for letter in text]

    def piece(self, token: int) -> bytes:
        return b"" if token == self._vocabulary - 1 else chr(32 + token).encode()

    def written(self, token: int) -> str:
        return self.piece(token).decode() or f"<{token}>"


class HashEngine:
    """Implements `updraft.engine.Engine`. Two engines of one `seed` agree up to `noise` added to the logits.

    Args:
        noise: standard deviation of what this engine adds to the shared logits; `own_seed` chooses it.
        fail_after: raise EngineFailure at this many forward passes (for tests of failure).
        recorded: keep the runs of every pass in `batches`, which grows with them.
    """

    max_run = 63

    def __init__(
        self,
        *,
        vocabulary: int = 64,
        context: int = 512,
        sequences: int = 8,
        seed: int = 0,
        noise: float = 0.0,
        own_seed: int = 1,
        fail_after: int | None = None,
        tokenizer_hash: str = "letters",
        recorded: bool = True,
    ) -> None:
        self.info = ModelInfo(
            name="hash",
            architecture="hash",
            layers=1,
            width=4,
            vocabulary=vocabulary,
            context_length=context,
            weight_bytes=0,
            quantisation="none",
            fingerprint=f"hash-{seed}-{noise}-{own_seed}",
            tokenizer_hash=tokenizer_hash,
            end_tokens=frozenset({vocabulary - 1}),
        )
        self.tokenizer = LetterTokenizer(vocabulary)
        self.max_sequences = sequences
        self.context = context
        self.fail_after = fail_after
        self._recorded = recorded
        self.forwards = 0
        self.batches: list[list[Run]] = []
        self._seed, self._noise, self._own_seed = seed, noise, own_seed
        self._caches: dict[int, list[int]] = {}

    @property
    def open_sequences(self) -> int:
        return len(self._caches)

    def open(self) -> int:
        for sequence in range(self.max_sequences):
            if sequence not in self._caches:
                self._caches[sequence] = []
                return sequence
        raise Overloaded("All sequences are taken.")

    def length(self, sequence: int) -> int:
        if sequence not in self._caches:
            raise InvalidRequest(f"sequence {sequence} is not open")
        return len(self._caches[sequence])

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        self.forwards += 1
        if self._recorded:
            self.batches.append(list(runs))
        if self.fail_after is not None and self.forwards >= self.fail_after:
            raise EngineFailure("told to fail")
        assert len({run.sequence for run in runs}) == len(runs), "one run a sequence"
        for run in runs:
            self._check(run)
        return [self._compute(run) for run in runs]

    def truncate(self, sequence: int, length: int) -> None:
        del self._caches[sequence][length:]

    def fork(self, sequence: int) -> int:
        copy = self.open()
        self._caches[copy] = list(self._caches[sequence])
        return copy

    def close(self, sequence: int) -> None:
        if self._caches.pop(sequence, None) is None:
            raise InvalidRequest(f"sequence {sequence} is not open")

    def save(self, sequence: int) -> bytes:
        cache = self._caches[sequence]
        owner = self.info.fingerprint
        return pack_state(json.dumps(cache).encode(), fingerprint=owner, sequences=0, length=len(cache))

    def restore(self, state: bytes) -> int:
        _, payload = unpack_state(state, fingerprint=self.info.fingerprint, sequences=0, context=self.context)
        sequence = self.open()
        self._caches[sequence] = json.loads(payload)
        return sequence

    def embed(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        vector = self._row(tuple(tokens))[: self.info.width]
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    def shutdown(self) -> None:
        self._caches.clear()

    def _check(self, run: Run) -> None:
        if run.position != self.length(run.sequence):
            raise InvalidRequest(f"run starts at {run.position}, the cache ends at {self.length(run.sequence)}")
        if not 1 <= len(run.tokens) <= self.max_run or not 0 <= run.rows <= len(run.tokens):
            raise InvalidRequest("run of a bad length")
        if run.position + len(run.tokens) > self.context:
            raise InvalidRequest("run beyond the context")
        if any(not 0 <= token < self.info.vocabulary for token in run.tokens):
            raise InvalidRequest("token out of range")

    def _compute(self, run: Run) -> Output:
        cache = self._caches[run.sequence]
        cache.extend(run.tokens)
        ends = range(len(cache) - run.rows + 1, len(cache) + 1)
        rows = [self._row(tuple(cache[:end])) for end in ends]
        return Output(np.array(rows, np.float32).reshape(run.rows, self.info.vocabulary))

    def _row(self, prefix: tuple[int, ...]) -> NDArray[np.float32]:
        state = abs(hash((self._seed, prefix)))
        logits = np.random.default_rng(state).normal(size=self.info.vocabulary) * 3
        if self._noise:
            logits += np.random.default_rng(state ^ self._own_seed).normal(size=self.info.vocabulary) * self._noise
        return logits.astype(np.float32)
