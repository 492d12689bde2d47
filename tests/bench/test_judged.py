"""Agreement with another model's text: against itself, against a noisy copy, and at a staged model's exits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bench.judged import Contestant, Reference, Tally, Text, write_texts
from tests.fakes.engine import HashEngine
from tests.fakes.staged_engine import FakeStagedEngine
from updraft.engine.base import Engine

PROMPTS = ([3, 1, 4], [1, 5, 9, 2, 6], [5])


def texts(temperatures: tuple[float, ...] = (0.0, 0.8)) -> list[Text]:
    return [Text(n, prompt, heat, 7) for n, prompt in enumerate(PROMPTS) for heat in temperatures]


def written(engine: Engine, tokens: int = 60) -> list[Text]:
    found = texts()
    done: list[Text] = []
    write_texts(engine, found, tokens, done=done.append)
    assert {id(text) for text in done} == {id(text) for text in found}
    return found


def reference(text: Text, judge: Contestant) -> Reference:
    return Reference(text, np.concatenate([part.copy() for part in judge.rows(text)]))


def tally(judge: Contestant, other: Contestant, judged: list[Text]) -> Tally:
    found = Tally()
    for text in judged:
        found.add(text, reference(text, judge), other.rows(text))
    return found


def test_texts_do_not_depend_on_how_many_are_written_at_once() -> None:
    together, alone = HashEngine(sequences=4), HashEngine(sequences=1)
    assert [text.answer for text in written(together)] == [text.answer for text in written(alone)]
    assert together.open_sequences == alone.open_sequences == 0
    assert together.forwards < alone.forwards


def test_an_answer_ends_with_its_end_token_or_when_it_is_long_enough() -> None:
    engine = HashEngine(vocabulary=16)
    (end,) = engine.info.end_tokens
    for text in written(engine):
        assert 1 <= len(text.answer) <= 60 and end not in text.answer[:-1]
        assert len(text.answer) == 60 or text.answer[-1] == end


def test_a_writer_agrees_with_itself() -> None:
    engine = HashEngine()
    judged = written(engine)
    judge = Contestant("writer", "fake", engine)
    for text in judged:
        assert reference(text, judge).draws == text.answer
    shares = tally(judge, Contestant("same", "fake", HashEngine()), judged).shares()
    assert shares["accepted"] == shares["same_best"] == 1.0
    assert shares["divergence"] == pytest.approx(0.0, abs=1e-5)


def test_a_noisy_copy_agrees_less_the_noisier_it_is() -> None:
    engine = HashEngine()
    judged = written(engine)
    judge, noises = Contestant("writer", "fake", engine), (0.5, 2.0, 8.0)
    found = [tally(judge, Contestant("noisy", "fake", HashEngine(noise=noise)), judged).shares() for noise in noises]
    for better, worse in itertools.pairwise(found):
        assert better["accepted"] > worse["accepted"] and better["same_best"] > worse["same_best"]
        assert better["divergence"] < worse["divergence"]
    assert 0.0 < found[0]["accepted"] < 1.0


def test_long_prompts_and_answers_are_read_in_chunks() -> None:
    engine = HashEngine()
    text = Text(0, list(range(60)) * 3, 0.0, 0, answer=[n % 60 for n in range(130)])
    parts = [len(rows) for rows in Contestant("one", "fake", engine).rows(text)]
    assert len(parts) > 2 and sum(parts) == 130
    assert max(len(run.tokens) for batch in engine.batches for run in batch) <= engine.max_run


def test_a_staged_model_is_judged_at_its_exits_and_whole() -> None:
    writer, staged = HashEngine(), FakeStagedEngine(stages=3)
    judged = written(writer)
    judge = Contestant("writer", "fake", writer)
    whole = tally(judge, Contestant("whole", "fake", staged), judged)
    exits = [Contestant(f"exit {depth}", "fake", staged, depth=depth) for depth in (0, 1)]
    assert whole.same_draw == whole.positions
    for one in exits:
        assert 0 < tally(judge, one, judged).same_draw < whole.positions
    for one, stage in zip(exits, staged.stages, strict=False):
        assert one.layers == stage.last + stage.blocks


def test_decoding_feeds_single_tokens_and_can_be_repeated() -> None:
    engine = HashEngine()
    text = Text(0, [1, 2, 3], 0.0, 0, answer=[4, 5])
    one = Contestant("one", "fake", engine)
    one.ready(text)
    before = engine.forwards
    one.decode(text, 5)
    one.decode(text, 5)
    assert engine.forwards == before + 10
    assert all(len(run.tokens) == 1 and run.rows == 1 for batch in engine.batches[-10:] for run in batch)
