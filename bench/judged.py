"""A model's own texts, and how far other models agree with them: each position judged after that model's own tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from updraft.engine.base import Engine, FloatRows, Run
from updraft.sampling import Sampler, SamplingParams, measure

__all__ = ["Contestant", "Reference", "Tally", "Text", "write_texts"]

_CHUNK = 48


@dataclass(slots=True)
class Text:
    """An answer, being written or written: its tokens, and how they were drawn.

    Attributes:
        number: of its prompt.
    """

    number: int
    prompt: Sequence[int]
    temperature: float
    seed: int
    answer: list[int] = field(default_factory=list)

    def sampler(self) -> Sampler:
        return Sampler(SamplingParams(temperature=self.temperature, seed=self.seed))


def write_texts(engine: Engine, texts: Sequence[Text], tokens: int, *, done: Callable[[Text], None]) -> None:
    """Have a model write the answers, as many at once as it has sequences, each up to its end or `tokens` tokens."""
    waiting = list(reversed(texts))
    active: list[tuple[Text, Sampler, int]] = []
    while waiting or active:
        while waiting and len(active) < engine.max_sequences:
            text, sequence = waiting.pop(), engine.open()
            _feed(engine, sequence, text.prompt[:-1])
            active.append((text, text.sampler(), sequence))
        runs = [Run(seq, engine.length(seq), [[*text.prompt, *text.answer][-1]], 1) for text, _, seq in active]
        going = []
        for (text, sampler, sequence), output in zip(active, engine.forward(runs), strict=True):
            token = sampler.draw(output.logits[0], len(text.prompt) + len(text.answer)).token
            text.answer.append(token)
            if token in engine.info.end_tokens or len(text.answer) == tokens:
                engine.close(sequence)
                done(text)
            else:
                going.append((text, sampler, sequence))
        active = going


class Contestant:
    """A model, or a staged model that stops at one of its exits, with a sequence of its own.

    Args:
        depth: of its runs; None for the whole model.
    """

    def __init__(self, name: str, library: str, engine: Engine, *, depth: int | None = None) -> None:
        self.name = name
        self.library = library
        self._engine = engine
        self._depth = depth
        self._sequence = engine.open()
        self._prompt: tuple[int, ...] = ()

    @property
    def layers(self) -> int:
        """Layers that a token passes, an exit's own included."""
        stages = getattr(self._engine, "stages", None)
        if stages is None or self._depth is None:
            return self._engine.info.layers
        return int(stages[self._depth].last + stages[self._depth].blocks)

    def rows(self, text: Text) -> Iterator[FloatRows]:
        """Logits for every token of the answer, in chunks that stay valid until the next one."""
        self._read_prompt(text)
        inputs = [text.prompt[-1], *text.answer[:-1]]
        chunk = min(_CHUNK, self._engine.max_run)
        for start in range(0, len(inputs), chunk):
            part = inputs[start : start + chunk]
            run = Run(self._sequence, self._engine.length(self._sequence), part, len(part), depth=self._depth)
            yield self._engine.forward([run])[0].logits

    def decode(self, text: Text, tokens: int) -> None:
        """Feed the answer's tokens one by one, with logits, `tokens` of them; a short answer over and over."""
        self._read_prompt(text)
        for number in range(tokens):
            token = text.answer[number % len(text.answer)]
            run = Run(self._sequence, self._engine.length(self._sequence), [token], 1, depth=self._depth)
            self._engine.forward([run])

    def ready(self, text: Text) -> None:
        """Have the prompt read, so that `decode` is decoding only."""
        self._read_prompt(text)

    def _read_prompt(self, text: Text) -> None:
        prompt = tuple(text.prompt)
        if prompt != self._prompt:
            self._engine.truncate(self._sequence, 0)
            _feed(self._engine, self._sequence, prompt[:-1], self._depth)
            self._prompt = prompt
        self._engine.truncate(self._sequence, len(prompt) - 1)


class Reference:
    """What the model that wrote a text says at each of its positions."""

    def __init__(self, text: Text, rows: FloatRows) -> None:
        """`rows`: its logits, shape (tokens of the answer, vocabulary)."""
        sampler, start = text.sampler(), len(text.prompt)
        self.draws = [sampler.draw(row, start + place).token for place, row in enumerate(rows)]
        self.best = rows.argmax(axis=1)
        self.probabilities = _probabilities(rows)
        logs = np.log(self.probabilities, out=np.zeros_like(rows), where=self.probabilities > 0)
        self.negentropy = np.einsum("rv,rv->r", self.probabilities, logs)  # nats


@dataclass(slots=True)
class Tally:
    """How often a model agreed with the texts of another.

    Attributes:
        same_draw: positions where it draws the same token with the same noise, which is what a verdict tests (coupled
            sampling; Daliri, Musco, Suresh, arXiv 2408.07978); at temperature 0, where its best token is the same.
        same_best: positions where its most probable token is the same.
        divergence: sum of KL(writer || it) of the raw distributions, nats.
    """

    positions: int = 0
    same_draw: int = 0
    same_best: int = 0
    divergence: float = 0.0

    def add(self, text: Text, reference: Reference, chunks: Iterator[FloatRows]) -> None:
        """Judge a whole text."""
        sampler, place = text.sampler(), 0
        for rows in chunks:
            part = slice(place, place + len(rows))
            self.same_best += int((rows.argmax(axis=1) == reference.best[part]).sum())
            for row, token, negentropy in zip(rows, reference.draws[part], reference.negentropy[part], strict=True):
                drawn = sampler.draw(row, len(text.prompt) + place).token
                cross = measure(row).energy - float(np.dot(reference.probabilities[place], row))
                self.divergence += max(0.0, float(negentropy) + cross)
                self.same_draw += drawn == token
                place += 1
        self.positions += place

    def shares(self) -> dict[str, float]:
        total = max(1, self.positions)
        return {
            "accepted": self.same_draw / total,
            "same_best": self.same_best / total,
            "divergence": self.divergence / total,
        }


def _probabilities(rows: FloatRows) -> NDArray[np.float32]:
    weights: NDArray[np.float32] = np.exp(rows - rows.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _feed(engine: Engine, sequence: int, tokens: Sequence[int], depth: int | None = None) -> None:
    """Compute tokens without logits."""
    chunk = min(_CHUNK, engine.max_run)
    for start in range(0, len(tokens), chunk):
        engine.forward([Run(sequence, engine.length(sequence), tokens[start : start + chunk], depth=depth)])
