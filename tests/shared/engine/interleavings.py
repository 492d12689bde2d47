"""A machine that drives a staged engine in any order of runs, depths, truncations, forks, saves and entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.shared.engine.staged_reference import PlainDecoding
from updraft.engine.base import Run, StagedEngine

__all__ = ["CONTEXT", "SEQUENCES", "SETTINGS", "Interleavings"]

CONTEXT, SEQUENCES = 40, 5
SETTINGS = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TOKENS = st.lists(st.integers(0, 290), min_size=1, max_size=9)


@dataclass(eq=False)
class Text:
    """A sequence as the test knows it: how far each stage must have come, and what gives the rows of each depth."""

    number: int
    entry: int
    computed: list[int]
    tokens: list[int] = field(default_factory=list)
    shown: dict[int, int] = field(default_factory=dict)


class Interleavings(RuleBasedStateMachine):
    """Drives `engine`; `plain` is the same model on an engine of its own, and says what must come out.

    Attributes:
        entries: stages that hidden states may enter, and 0.
        depths: stages that runs may stop after.
        rows_again: rows can be asked of positions that were computed earlier.
    """

    engine: StagedEngine
    plain: PlainDecoding
    entries: Sequence[int]
    depths: Sequence[int]
    rows_again = True

    @initialize()
    def begin(self) -> None:
        self.texts: list[Text] = []
        self.open(0)

    def teardown(self) -> None:
        for text in self.texts:
            self.engine.close(text.number)

    @precondition(lambda self: len(self.texts) < SEQUENCES)
    @rule(data=st.data())
    def open_one(self, data: st.DataObject) -> None:
        self.open(data.draw(st.sampled_from(self.entries), label="entry"))

    def open(self, entry: int) -> None:
        self.texts.append(Text(self.engine.open(), entry, [0] * len(self.engine.stages)))

    @precondition(lambda self: self.texts)
    @rule(data=st.data(), tokens=TOKENS, hidden=st.booleans())
    def extend(self, data: st.DataObject, tokens: list[int], hidden: bool) -> None:
        text, depth = self._text_and_depth(data)
        tokens = tokens[: CONTEXT - len(text.tokens)]
        if not tokens:
            return
        rows = data.draw(st.integers(0, len(tokens)), label="rows") if self._shows(depth) else 0
        start = len(text.tokens)
        text.tokens += tokens
        inputs = None
        if text.entry:
            inputs = self.plain.boundary(text.tokens, text.entry - 1)[start:]
        run = Run(text.number, start, tokens, rows, hidden and self._shows(depth), depth, inputs, text.entry)
        self._compute(text, run, depth)

    @precondition(lambda self: any(text.tokens for text in self.texts))
    @rule(data=st.data(), hidden=st.booleans())
    def deepen(self, data: st.DataObject, hidden: bool) -> None:
        text, depth = self._text_and_depth(data, with_tokens=True)
        most = len(text.tokens) - (0 if self.rows_again else text.shown.get(depth, 0))
        rows = data.draw(st.integers(0, most), label="rows") if self._shows(depth) else 0
        run = Run(text.number, len(text.tokens), (), rows, hidden and self._shows(depth), depth, entry=text.entry)
        self._compute(text, run, depth)

    @precondition(lambda self: len(self.texts) > 1)
    @rule(tokens=TOKENS)
    def extend_all_in_one_pass(self, tokens: list[int]) -> None:
        chosen = [text for text in self.texts if text.entry == 0 and len(text.tokens) + len(tokens) <= CONTEXT]
        runs = [Run(text.number, len(text.tokens), tokens, rows=1) for text in chosen]
        for text, output in zip(chosen, self.engine.forward(runs), strict=True):
            text.tokens += tokens
            text.computed = [len(text.tokens)] * len(text.computed)
            last = len(text.computed) - 1
            text.shown[last] = len(text.tokens)
            assert output.logits.tobytes() == self.plain.logits(text.tokens, 1, last).tobytes()

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        text = self._text(data)
        length = data.draw(st.integers(0, len(text.tokens)), label="length")
        self.engine.truncate(text.number, length)
        del text.tokens[length:]
        text.computed = [min(done, length) for done in text.computed]
        text.shown = {depth: min(done, length) for depth, done in text.shown.items()}
        self._check_depths(text)

    @precondition(lambda self: 0 < len(self.texts) < SEQUENCES)
    @rule(data=st.data(), saved=st.booleans())
    def fork_or_restore(self, data: st.DataObject, saved: bool) -> None:
        text, engine = self._text(data), self.engine
        number = engine.restore(engine.save(text.number)) if saved else engine.fork(text.number)
        self.texts.append(Text(number, text.entry, list(text.computed), list(text.tokens), dict(text.shown)))
        self._check_depths(self.texts[-1])

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        text = self._text(data)
        self.engine.close(text.number)
        self.texts.remove(text)

    def _text(self, data: st.DataObject, *, with_tokens: bool = False) -> Text:
        fitting = [text for text in self.texts if text.tokens or not with_tokens]
        return fitting[data.draw(st.integers(0, len(fitting) - 1), label="text")]

    def _text_and_depth(self, data: st.DataObject, *, with_tokens: bool = False) -> tuple[Text, int]:
        text = self._text(data, with_tokens=with_tokens)
        return text, data.draw(st.sampled_from([d for d in self.depths if d >= text.entry]), label="depth")

    def _shows(self, depth: int) -> bool:
        """Whether rows can be asked for at a depth."""
        return depth == len(self.engine.stages) - 1 or self.engine.stages[depth].blocks > 0

    def _compute(self, text: Text, run: Run, depth: int) -> None:
        (output,) = self.engine.forward([run])
        for stage in range(text.entry, depth + 1):
            text.computed[stage] = len(text.tokens)
        if run.rows or depth == len(text.computed) - 1:
            text.shown[depth] = len(text.tokens)
        want = self.plain.logits(text.tokens, run.rows, depth) if self._shows(depth) else np.empty(0, np.float32)
        assert output.logits.tobytes() == want.tobytes()
        assert (output.hidden is not None) == run.hidden
        if output.hidden is not None:
            assert output.hidden.tobytes() == self.plain.features(text.tokens, run.rows, depth).tobytes()
        self._check_depths(text)

    def _check_depths(self, text: Text) -> None:
        engine = self.engine
        assert engine.length(text.number) == len(text.tokens)
        assert [engine.computed(text.number, stage) for stage in range(len(engine.stages))] == text.computed
        for stage in [depth for depth in self.depths if depth < len(text.computed) - 1]:
            done = text.computed[stage]
            found = engine.boundary(text.number, stage, 0, done)
            assert found.shape == (done, engine.info.width)
            if done:
                assert np.array_equal(found, self.plain.boundary(text.tokens, stage)[:done])
