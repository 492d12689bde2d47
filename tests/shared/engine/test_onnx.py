from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.staged_model import write_staged_model
from tests.shared.engine.staged_reference import BAD_STATES
from updraft.engine import Engine, Run, StagedEngine, StageInfo, open_engine
from updraft.engine.base import FloatRows
from updraft.engine.exactness import check_exactness
from updraft.engine.onnx import OnnxEngine
from updraft.errors import EngineFailure, InvalidRequest, Overloaded, PromptTooLong
from updraft.exits.carry import rounded

CONTEXT = 320
TOKENS = np.random.default_rng(5).integers(0, 291, CONTEXT).tolist()
LAST = 2


@pytest.fixture(scope="module")
def shared_engine(staged_model_path: Path) -> Iterator[OnnxEngine]:
    engine = OnnxEngine(staged_model_path, context=CONTEXT, sequences=5, threads=1)
    yield engine
    engine.shutdown()


@pytest.fixture
def engine(shared_engine: OnnxEngine) -> Iterator[OnnxEngine]:
    """The shared engine, with five free sequences."""
    yield shared_engine
    for sequence in range(shared_engine.max_sequences):
        try:
            shared_engine.close(sequence)
        except InvalidRequest:
            continue


@pytest.fixture(scope="module")
def reference(shared_engine: OnnxEngine) -> FloatRows:
    """Logits at every position of TOKENS, computed in single steps."""
    sequence = shared_engine.open()
    rows = [shared_engine.forward([Run(sequence, i, [t], rows=1)])[0].logits.copy() for i, t in enumerate(TOKENS)]
    shared_engine.close(sequence)
    return np.concatenate(rows)


def _filled(engine: Engine, length: int, *, depth: int | None = None) -> int:
    sequence = engine.open()
    for start in range(0, length, engine.max_run):
        engine.forward([Run(sequence, start, TOKENS[start : min(start + engine.max_run, length)], depth=depth)])
    return sequence


def test_it_is_a_staged_engine_that_says_what_its_folder_says(engine: OnnxEngine, staged_model_path: Path) -> None:
    assert isinstance(engine, StagedEngine)
    info, manifest = engine.info, engine.manifest
    assert (info.name, info.layers, info.width, info.vocabulary) == (manifest.name, 4, 64, 320)
    assert (info.fingerprint, info.tokenizer_hash) == (manifest.fingerprint, manifest.tokenizer_hash)
    assert info.end_tokens >= {2}
    assert info.weight_bytes == manifest.weight_bytes
    assert (engine.max_sequences, engine.context, engine.max_run) == (5, CONTEXT, 128)
    assert engine.stages == (StageInfo(0, 1, 1), StageInfo(1, 2, 1), StageInfo(2, 4, 0))
    assert engine.folder == staged_model_path


@pytest.mark.parametrize("precision", ["model", "int4"])
def test_it_is_exact_however_the_work_is_cut(request: pytest.FixtureRequest, precision: str) -> None:
    folder = request.getfixturevalue(f"staged_{precision}_path")
    engine = OnnxEngine(folder, context=CONTEXT, sequences=3, threads=2)
    report = check_exactness(engine)
    assert report.exact, report
    engine.shutdown()


def test_without_padded_attention_it_is_nearly_so(tmp_path: Path, reference: FloatRows) -> None:
    write_staged_model(tmp_path / "plain", exits=(1, 2), layers=4, exact=False)
    engine = OnnxEngine(tmp_path / "plain", context=CONTEXT, sequences=3, threads=1)
    assert not engine.manifest.exact
    worst = max(check.largest for check in check_exactness(engine).checks.values())
    assert 0 < worst < 1e-4
    (output,) = engine.forward([Run(engine.open(), 0, TOKENS[:100], rows=100)])
    assert np.abs(output.logits - reference[:100]).max() < 1e-4
    engine.shutdown()


def test_its_tokenizer_is_that_of_the_model_it_was_made_from(engine: OnnxEngine, tiny_model_path: Path) -> None:
    other = open_engine(tiny_model_path, context=64, sequences=1, threads=1)
    text = "<|im_start|>the story of the world, and then some\n\u00e9\U0001f600"
    for special in (False, True):
        tokens = engine.tokenizer.encode(text, special=special)
        assert tokens == other.tokenizer.encode(text, special=special)
        assert b"".join(map(engine.tokenizer.piece, tokens)) == b"".join(map(other.tokenizer.piece, tokens))
    assert engine.info.tokenizer_hash == other.info.tokenizer_hash
    other.shutdown()


def test_depths_differ_and_deepening_equals_going_deep_at_once(engine: OnnxEngine, reference: FloatRows) -> None:
    sequence = engine.open()
    shallow = [engine.forward([Run(sequence, 0, TOKENS[:20], rows=20, depth=0)])[0].logits.copy()]
    assert [engine.computed(sequence, stage) for stage in range(3)] == [20, 0, 0]
    shallow.append(engine.forward([Run(sequence, 20, (), rows=20, depth=1)])[0].logits.copy())
    assert [engine.computed(sequence, stage) for stage in range(3)] == [20, 20, 0]
    (deep,) = engine.forward([Run(sequence, 20, (), rows=20)])
    assert deep.logits.tobytes() == reference[:20].tobytes()
    assert len({rows.tobytes() for rows in (*shallow, deep.logits)}) == 3


def test_asking_again_for_what_is_computed_changes_nothing(engine: OnnxEngine, reference: FloatRows) -> None:
    sequence = _filled(engine, 30)
    for rows in (30, 1, 0):
        (output,) = engine.forward([Run(sequence, 30, (), rows=rows)])
        assert output.logits.tobytes() == reference[30 - rows : 30].tobytes()
    (output,) = engine.forward([Run(sequence, 30, TOKENS[30:34], rows=4)])
    assert output.logits.tobytes() == reference[30:34].tobytes()


def test_states_that_enter_give_what_the_whole_model_gives(engine: OnnxEngine, reference: FloatRows) -> None:
    """An edge that stops after a stage, and a cloud that continues there, are the whole model."""
    edge = _filled(engine, 50, depth=1)
    for entry in (1, 2):
        cloud, position = engine.open(), 0
        for size in (20, 1, 1, 28):
            states = engine.boundary(edge, entry - 1, position, position + size)
            tokens = TOKENS[position : position + size]
            (output,) = engine.forward([Run(cloud, position, tokens, rows=size, inputs=states, entry=entry)])
            assert output.logits.tobytes() == reference[position : position + size].tobytes()
            position += size
        assert [engine.computed(cloud, stage) for stage in range(3)] == [0] * entry + [50] * (3 - entry)
        engine.close(cloud)


@pytest.mark.parametrize("carry", ["float16", "int8"])
def test_states_are_rounded_at_the_split(staged_model_path: Path, reference: FloatRows, carry: Any) -> None:
    sizes: dict[str, Any] = {"context": 64, "sequences": 2, "threads": 1}
    whole = OnnxEngine(staged_model_path, split=0, carry=carry, **sizes)
    plain = OnnxEngine(staged_model_path, **sizes)
    sequence, other = _filled(whole, 40), _filled(plain, 40)
    states = whole.boundary(sequence, 0, 0, 40)
    assert np.array_equal(states, rounded(plain.boundary(other, 0, 0, 40), carry))
    assert np.array_equal(states, rounded(states, carry))
    rows = whole.forward([Run(sequence, 40, (), rows=40)])[0].logits
    assert rows.tobytes() != reference[:40].tobytes()
    # The cloud's side takes the rounded states as they come, whatever it would round itself.
    (output,) = plain.forward([Run(plain.open(), 0, TOKENS[:40], rows=40, inputs=states, entry=1)])
    assert output.logits.tobytes() == rows.tobytes()
    with pytest.raises(InvalidRequest, match="another model"):
        plain.restore(whole.save(sequence))
    whole.shutdown()
    plain.shutdown()


def test_an_edge_holds_only_the_lower_stages(
    engine: OnnxEngine, staged_model_path: Path, tiny_model_path: Path
) -> None:
    edge = OnnxEngine(staged_model_path, context=64, sequences=1, threads=1, last_stage=1)
    assert edge.stages == engine.stages[:2]
    assert edge.info.weight_bytes < engine.info.weight_bytes
    sequence, whole = edge.open(), engine.open()
    (deepest,) = edge.forward([Run(sequence, 0, TOKENS[:20], rows=20)])
    (expected,) = engine.forward([Run(whole, 0, TOKENS[:20], rows=20, depth=1)])
    assert deepest.logits.tobytes() == expected.logits.tobytes()
    assert np.array_equal(edge.boundary(sequence, 1, 0, 20), engine.boundary(whole, 1, 0, 20))
    with pytest.raises(InvalidRequest, match="depth"):
        edge.forward([Run(sequence, 20, [1], depth=2)])
    with pytest.raises(InvalidRequest, match="stages"):
        engine.restore(edge.save(sequence))
    edge.shutdown()


def test_runs_of_a_pass_may_go_to_different_depths(engine: OnnxEngine, reference: FloatRows) -> None:
    first, second, third = engine.open(), _filled(engine, 10, depth=0), engine.open()
    states = engine.boundary(second, 0, 0, 10).copy()
    runs = [
        Run(first, 0, TOKENS[:9], rows=2, depth=0),
        Run(second, 10, TOKENS[10:13], rows=13 - 10),
        Run(third, 0, TOKENS[:10], rows=10, hidden=True, inputs=states, entry=1),
    ]
    shallow, deep, entered = engine.forward(runs)
    assert deep.logits.tobytes() == reference[10:13].tobytes()
    assert entered.logits.tobytes() == reference[:10].tobytes()
    assert shallow.logits.shape == (2, 320)
    assert shallow.hidden is None
    assert entered.hidden is not None
    assert entered.hidden.shape == (10, 64)


GOOD = Run(0, 3, [1, 2, 3], rows=1)
STATES = np.ones((3, 64), np.float32)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (replace(GOOD, sequence=5), "not open"),
        (replace(GOOD, sequence=-1), "not open"),
        (replace(GOOD, sequence=1), "not open"),
        (replace(GOOD, position=2), "starts at 2"),
        (replace(GOOD, position=4), "starts at 4"),
        (replace(GOOD, tokens=[], position=2), "starts at 2"),
        (replace(GOOD, tokens=[], rows=4), "4 rows"),
        (replace(GOOD, tokens=[], rows=-1), "-1 rows"),
        (replace(GOOD, tokens=[1] * 129), "129 tokens"),
        (replace(GOOD, tokens=[1, 320]), "320"),
        (replace(GOOD, tokens=[-1]), "-1"),
        (replace(GOOD, tokens=[2**80]), "vocabulary|whole"),
        (replace(GOOD, tokens=[1.5]), "whole"),  # type: ignore[list-item]
        (replace(GOOD, tokens=["1"]), "whole"),  # type: ignore[list-item]
        (replace(GOOD, tokens=[[1], [2]]), "whole"),  # type: ignore[list-item]
        (replace(GOOD, rows=4), "4 rows"),
        (replace(GOOD, rows=-1), "-1 rows"),
        (replace(GOOD, depth=3), "depth is 3"),
        (replace(GOOD, depth=-1), "depth is -1"),
        (replace(GOOD, depth=True), "depth is True"),
        (replace(GOOD, depth=1.0), "depth is 1.0"),  # type: ignore[arg-type]
        (replace(GOOD, entry=3), "entry is 3"),
        (replace(GOOD, entry=-1), "entry is -1"),
        (replace(GOOD, entry=1), "began at stage 0"),
        (replace(GOOD, entry=1, inputs=STATES), "began at stage 0"),
        (replace(GOOD, inputs=STATES), "stage 0"),
        (replace(GOOD, tokens=[], inputs=STATES), "stage 0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_runs_are_refused_and_change_nothing(
    engine: OnnxEngine, reference: FloatRows, run: Run, reason: str
) -> None:
    good, other = _filled(engine, 3), _filled(engine, 3)
    engine.close(other)
    with pytest.raises(InvalidRequest, match=reason):
        engine.forward([run])
    assert engine.length(good) == 3
    (output,) = engine.forward([Run(good, 3, TOKENS[3:6], rows=3)])
    assert output.logits.tobytes() == reference[3:6].tobytes()


@pytest.mark.parametrize(("run", "reason"), BAD_STATES, ids=lambda value: str(value)[:50])
def test_bad_states_are_refused(engine: OnnxEngine, run: Run, reason: str) -> None:
    sequence = engine.open()
    with pytest.raises(InvalidRequest, match=reason):
        engine.forward([run])
    assert engine.length(sequence) == 0
    engine.forward([Run(sequence, 0, [1], rows=1)])  # it may still begin at the bottom


def test_states_in_any_memory_order_are_taken(engine: OnnxEngine) -> None:
    states = np.random.default_rng(0).normal(size=(3, 128)).astype(np.float32)
    rows = []
    for inputs in (states[:, ::2], np.ascontiguousarray(states[:, ::2]), np.asfortranarray(states[:, ::2])):
        sequence = engine.open()
        (output,) = engine.forward([Run(sequence, 0, [1, 2, 3], rows=3, inputs=inputs, entry=1)])
        rows.append(output.logits.tobytes())
    assert len(set(rows)) == 1


def test_an_emptied_sequence_may_enter_elsewhere(engine: OnnxEngine, reference: FloatRows) -> None:
    sequence = engine.open()
    engine.forward([Run(sequence, 0, [1, 2, 3], inputs=STATES, entry=1)])
    with pytest.raises(InvalidRequest, match="began at stage 1"):
        engine.forward([Run(sequence, 3, [1])])
    engine.truncate(sequence, 0)
    (output,) = engine.forward([Run(sequence, 0, TOKENS[:5], rows=5)])
    assert output.logits.tobytes() == reference[:5].tobytes()


def test_boundaries_are_there_once_computed_and_read_only(engine: OnnxEngine) -> None:
    sequence = _filled(engine, 10, depth=0)
    assert engine.boundary(sequence, 0, 4, 10).shape == (6, 64)
    assert engine.boundary(sequence, 1, 0, 0).shape == (0, 64)
    with pytest.raises(ValueError, match="read-only"):
        engine.boundary(sequence, 0, 0, 1)[0, 0] = 0
    for stage, start, stop in [(0, 0, 11), (0, -1, 3), (0, 5, 4), (1, 0, 1), (2, 0, 0), (3, 0, 0), (-1, 0, 0)]:
        with pytest.raises(InvalidRequest):
            engine.boundary(sequence, stage, start, stop)
    for stage in (3, -1):
        with pytest.raises(InvalidRequest, match="no stage"):
            engine.computed(sequence, stage)


def test_two_runs_of_a_sequence_are_refused(engine: OnnxEngine) -> None:
    sequence = engine.open()
    with pytest.raises(InvalidRequest, match="one run"):
        engine.forward([Run(sequence, 0, [1]), Run(sequence, 0, [2])])


def test_the_context_is_the_limit(engine: OnnxEngine, reference: FloatRows) -> None:
    sequence = _filled(engine, CONTEXT)
    for tokens in ([1], [1, 2]):
        with pytest.raises(PromptTooLong, match=str(CONTEXT)):
            engine.forward([Run(sequence, CONTEXT, tokens)])
    engine.truncate(sequence, CONTEXT - 1)
    (output,) = engine.forward([Run(sequence, CONTEXT - 1, TOKENS[-1:], rows=1)])
    assert output.logits.tobytes() == reference[-1:].tobytes()


@pytest.mark.parametrize("length", [-1, 11])
def test_truncation_out_of_range_is_refused(engine: OnnxEngine, length: int) -> None:
    sequence = _filled(engine, 10)
    with pytest.raises(InvalidRequest, match="truncate"):
        engine.truncate(sequence, length)


def test_sequences_are_given_lowest_first_and_run_out(engine: OnnxEngine) -> None:
    assert [engine.open() for _ in range(5)] == [0, 1, 2, 3, 4]
    for take in (engine.open, lambda: engine.fork(2), lambda: engine.embed([1])):
        with pytest.raises(Overloaded):
            take()
    engine.close(3)
    with pytest.raises(InvalidRequest, match="not open"):
        engine.close(3)
    assert engine.open() == 3


def test_an_empty_pass_gives_nothing(engine: OnnxEngine) -> None:
    assert engine.forward([]) == []


def test_rows_are_read_only_and_come_only_where_asked(engine: OnnxEngine) -> None:
    (output,) = engine.forward([Run(engine.open(), 0, [1, 2], rows=1, hidden=True)])
    assert output.hidden is not None
    for rows in (output.logits, output.hidden):
        assert len(rows) == 1
        with pytest.raises(ValueError, match="read-only"):
            rows[0, 0] = 0
    (nothing,) = engine.forward([Run(engine.open(), 0, [1, 2], hidden=True)])
    assert nothing.logits.shape == (0, 320)
    assert nothing.hidden is not None
    assert nothing.hidden.shape == (0, 64)


def test_saved_state_restores_in_another_engine(
    engine: OnnxEngine, reference: FloatRows, staged_model_path: Path
) -> None:
    state = engine.save(_filled(engine, 40, depth=1))
    other = OnnxEngine(staged_model_path, context=64, sequences=1, threads=1)
    sequence = other.restore(state)
    (output,) = other.forward([Run(sequence, 40, TOKENS[40:50], rows=10)])
    assert output.logits.tobytes() == reference[40:50].tobytes()
    other.close(sequence)
    with pytest.raises(InvalidRequest, match="context of 64"):
        other.restore(engine.save(_filled(engine, 65)))
    assert other.open() == 0
    other.shutdown()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 100_000), value=st.integers(0, 255), cut=st.integers(0, 100_000))
def test_damaged_state_is_refused(engine: OnnxEngine, position: int, value: int, cut: int) -> None:
    sequence = _filled(engine, 6)
    state = bytearray(engine.save(sequence))
    engine.close(sequence)
    place = position % len(state)
    state[place] = value if value != state[place] else value ^ 1
    for damaged in (bytes(state), bytes(state)[: cut % len(state)]):
        with pytest.raises(InvalidRequest):
            engine.restore(damaged)
    assert engine.open() == 0  # nothing stayed open
    engine.close(0)


def test_embeddings_have_unit_length_and_tell_texts_apart(engine: OnnxEngine) -> None:
    long = engine.embed(TOKENS[:300])
    assert long.shape == (64,)
    assert np.linalg.norm(long) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(engine.embed(TOKENS[:300]), long)
    assert float(long @ engine.embed(TOKENS[300:320])) < 0.999
    for tokens, error in (([], InvalidRequest), ([1] * (CONTEXT + 1), PromptTooLong), ([1, 320], InvalidRequest)):
        with pytest.raises(error):
            engine.embed(tokens)
    assert engine.open() == 0  # the sequence it used is free again


class _FailingSession:
    """A session that computes, and then fails at the `after`th call from now on."""

    def __init__(self, session: Any, after: int) -> None:
        self._session, self._after = session, after

    def run_with_iobinding(self, binding: Any) -> None:
        self._session.run_with_iobinding(binding)
        self._after -= 1
        if self._after < 0:
            raise RuntimeError("told to fail")


@pytest.mark.parametrize("stage", [0, 1, 2, None])
@pytest.mark.parametrize("after", [0, 1])
def test_a_failed_pass_changes_nothing(
    engine: OnnxEngine, reference: FloatRows, monkeypatch: pytest.MonkeyPatch, stage: int | None, after: int
) -> None:
    first, second = _filled(engine, 10), _filled(engine, 10, depth=0)
    runs = [Run(s, 10, TOKENS[10:60], rows=5) for s in (first, second)]
    model = engine._model
    assert model is not None
    with monkeypatch.context() as patch:
        holder = model.head if stage is None else model.graphs[stage]
        name = "_session" if stage is None else "session"
        patch.setattr(holder, name, _FailingSession(getattr(holder, name), 0 if stage is None else after))
        with pytest.raises(EngineFailure, match="told to fail"):
            engine.forward(runs)
    assert [engine.length(s) for s in (first, second)] == [10, 10]
    assert [engine.computed(second, stage) for stage in range(3)] == [10, 0, 0]
    for output in engine.forward(runs):
        assert output.logits.tobytes() == reference[55:60].tobytes()
