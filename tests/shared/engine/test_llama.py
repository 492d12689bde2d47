from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.tiny_model import write_tiny_model
from updraft.engine import Engine, Run, open_engine
from updraft.engine.base import FloatRows
from updraft.engine.exactness import check_exactness
from updraft.engine.llama import LlamaEngine
from updraft.errors import (
    BadModelFile,
    ConfigError,
    EngineFailure,
    InvalidRequest,
    Overloaded,
    PromptTooLong,
    UnknownName,
)

CONTEXT = 600
TOKENS = np.random.default_rng(5).integers(0, 291, CONTEXT).tolist()


@pytest.fixture(scope="module")
def shared_engine(tiny_model_path: Path) -> Iterator[LlamaEngine]:
    engine = LlamaEngine(tiny_model_path, context=CONTEXT, sequences=5, threads=1, batch_tokens=256)
    yield engine
    engine.shutdown()


@pytest.fixture
def engine(shared_engine: LlamaEngine) -> Iterator[LlamaEngine]:
    """The shared engine; every test must leave it with five free sequences."""
    yield shared_engine
    for sequence in range(shared_engine.max_sequences):
        try:
            shared_engine.close(sequence)
        except InvalidRequest:
            continue


@pytest.fixture(scope="module")
def reference(shared_engine: LlamaEngine) -> FloatRows:
    """Logits at every position of TOKENS, computed in single steps."""
    sequence = shared_engine.open()
    rows = [shared_engine.forward([Run(sequence, i, [t], rows=1)])[0].logits.copy() for i, t in enumerate(TOKENS)]
    shared_engine.close(sequence)
    return np.concatenate(rows)


def _filled(engine: Engine, length: int) -> int:
    sequence = engine.open()
    for start in range(0, length, engine.max_run):
        engine.forward([Run(sequence, start, TOKENS[start : min(start + engine.max_run, length)])])
    return sequence


def test_it_is_an_engine(engine: LlamaEngine) -> None:
    assert isinstance(engine, Engine)
    assert engine.info.name == "tiny"
    assert engine.info.end_tokens >= {2}
    assert engine.max_sequences == 5
    assert engine.context == CONTEXT


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_cut_gives_the_bits_of_single_steps(engine: LlamaEngine, reference: FloatRows, data: st.DataObject) -> None:
    sequences = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True), label="sequences")
    for _ in range(5):
        engine.open()
    try:
        for _ in range(data.draw(st.integers(1, 6), label="passes")):
            runs = []
            for sequence in sequences:
                position = engine.length(sequence)
                size = data.draw(st.integers(1, 128), label="size")
                if position + size <= CONTEXT:
                    rows = data.draw(st.integers(0, size), label="rows")
                    runs.append(Run(sequence, position, TOKENS[position : position + size], rows=rows))
            for run, output in zip(runs, engine.forward(runs), strict=True):
                end = run.position + len(run.tokens)
                assert output.logits.tobytes() == reference[end - run.rows : end].tobytes()
            victim = data.draw(st.sampled_from(sequences), label="truncated")
            engine.truncate(victim, data.draw(st.integers(0, engine.length(victim)), label="to"))
    finally:
        for sequence in range(5):
            engine.close(sequence)


def test_exact_past_the_first_256_positions(engine: LlamaEngine, reference: FloatRows) -> None:
    sequence = _filled(engine, 500)
    (output,) = engine.forward([Run(sequence, 500, TOKENS[500:600], rows=100)])
    assert output.logits.tobytes() == reference[500:600].tobytes()


def test_it_is_exact_with_several_threads(tmp_path: Path) -> None:
    """Wide enough for llama.cpp to share single operations among threads."""
    model = write_tiny_model(tmp_path / "wide.gguf", layers=1, width=576, vocabulary=1024)
    engine = LlamaEngine(model, context=40, sequences=3, threads=2)
    report = check_exactness(engine)
    engine.shutdown()
    assert report.exact, report


def test_rolled_back_tokens_leave_nothing_behind(engine: LlamaEngine, reference: FloatRows) -> None:
    sequence = _filled(engine, 20)
    engine.forward([Run(sequence, 20, [7] * 40, rows=40)])
    engine.truncate(sequence, 20)
    assert engine.length(sequence) == 20
    (output,) = engine.forward([Run(sequence, 20, TOKENS[20:30], rows=10)])
    assert output.logits.tobytes() == reference[20:30].tobytes()


def test_a_fork_goes_its_own_way(engine: LlamaEngine, reference: FloatRows) -> None:
    origin = _filled(engine, 30)
    copy = engine.fork(origin)
    assert engine.length(copy) == 30
    engine.truncate(origin, 10)
    engine.forward([Run(origin, 10, [3] * 25)])
    (output,) = engine.forward([Run(copy, 30, TOKENS[30:35], rows=5)])
    assert output.logits.tobytes() == reference[30:35].tobytes()
    assert engine.length(origin) == 35


def test_a_fork_saved_before_any_pass_restores(engine: LlamaEngine, reference: FloatRows) -> None:
    copy = engine.fork(_filled(engine, 30))
    state = engine.save(copy)
    engine.close(copy)
    restored = engine.restore(state)
    (output,) = engine.forward([Run(restored, 30, TOKENS[30:35], rows=5)])
    assert output.logits.tobytes() == reference[30:35].tobytes()


def test_saved_state_restores_in_another_engine(
    engine: LlamaEngine, reference: FloatRows, tiny_model_path: Path
) -> None:
    state = engine.save(_filled(engine, 300))
    other = LlamaEngine(tiny_model_path, context=CONTEXT, sequences=5, threads=1)
    sequence = other.restore(state)
    assert other.length(sequence) == 300
    (output,) = other.forward([Run(sequence, 300, TOKENS[300:310], rows=10)])
    assert output.logits.tobytes() == reference[300:310].tobytes()
    other.shutdown()


def test_an_empty_sequence_forks_and_saves(engine: LlamaEngine) -> None:
    empty = engine.open()
    assert engine.length(engine.fork(empty)) == 0
    assert engine.length(engine.restore(engine.save(empty))) == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000))
def test_damaged_state_is_refused(engine: LlamaEngine, position: int, value: int, cut: int) -> None:
    sequence = _filled(engine, 6)
    state = bytearray(engine.save(sequence))
    engine.close(sequence)
    place = position % len(state)
    state[place] = value if value != state[place] else value ^ 1
    with pytest.raises(InvalidRequest):
        engine.restore(bytes(state))
    with pytest.raises(InvalidRequest):
        engine.restore(bytes(state)[: cut % len(state)])
    assert engine.open() == 0  # nothing stayed open
    engine.close(0)


def test_state_of_another_model_is_refused(engine: LlamaEngine, tiny_pair: tuple[Path, Path]) -> None:
    other = LlamaEngine(tiny_pair[0], context=CONTEXT, sequences=5, threads=1)
    with pytest.raises(InvalidRequest, match="another model"):
        engine.restore(other.save(_filled(other, 4)))
    other.shutdown()


def test_state_of_another_layout_is_refused(engine: LlamaEngine, tiny_model_path: Path) -> None:
    other = LlamaEngine(tiny_model_path, context=256, sequences=2, threads=1)
    state = engine.save(_filled(engine, 300))
    with pytest.raises(InvalidRequest, match="5 sequences; this one has 2"):
        other.restore(state)
    other.shutdown()


def test_sequences_are_given_lowest_first_and_run_out(engine: LlamaEngine) -> None:
    assert [engine.open() for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(Overloaded):
        engine.open()
    with pytest.raises(Overloaded):
        engine.fork(2)
    engine.close(3)
    engine.close(1)
    assert engine.open() == 1
    assert engine.fork(0) == 3


def test_closing_twice_is_refused(engine: LlamaEngine) -> None:
    sequence = engine.open()
    engine.close(sequence)
    with pytest.raises(InvalidRequest, match="not open"):
        engine.close(sequence)


def test_a_reopened_sequence_is_empty(engine: LlamaEngine, reference: FloatRows) -> None:
    engine.close(_filled(engine, 50))
    sequence = engine.open()
    assert engine.length(sequence) == 0
    (output,) = engine.forward([Run(sequence, 0, TOKENS[:5], rows=5)])
    assert output.logits.tobytes() == reference[:5].tobytes()


GOOD = Run(0, 3, [1, 2, 3], rows=1)


@pytest.mark.parametrize(
    "run",
    [
        replace(GOOD, sequence=5),
        replace(GOOD, sequence=-1),
        replace(GOOD, sequence=1),
        replace(GOOD, position=2),
        replace(GOOD, position=4),
        replace(GOOD, position=-1),
        replace(GOOD, tokens=[]),
        replace(GOOD, tokens=[1] * 129),
        replace(GOOD, tokens=[1, 320]),
        replace(GOOD, tokens=[1, -1]),
        replace(GOOD, tokens=[1, 2**80]),
        replace(GOOD, tokens=[1.5, 2.0]),  # type: ignore[list-item]
        replace(GOOD, tokens=[[1], [2]]),  # type: ignore[list-item]
        replace(GOOD, rows=4),
        replace(GOOD, rows=-1),
        replace(GOOD, tokens=[320]),
        replace(GOOD, tokens=[-1]),
        replace(GOOD, tokens=[2**40]),
        replace(GOOD, tokens=[1.0]),  # type: ignore[list-item]
        replace(GOOD, tokens=["1"]),  # type: ignore[list-item]
        replace(GOOD, tokens=[1], rows=2),
        replace(GOOD, sequence=1, position=-1, tokens=[1]),
        replace(GOOD, depth=0),
        replace(GOOD, tokens=[1], depth=0),
        replace(GOOD, tokens=[1], entry=1),
        replace(GOOD, inputs=np.zeros((3, 64), np.float32)),
    ],
    ids=lambda run: f"{run.sequence}-{run.position}-{str(run.tokens)[:20]}-{run.rows}-{run.depth}-{run.entry}",
)
def test_bad_runs_are_refused_and_change_nothing(engine: LlamaEngine, reference: FloatRows, run: Run) -> None:
    good, other = _filled(engine, 3), _filled(engine, 3)
    engine.close(other)
    with pytest.raises(InvalidRequest):
        engine.forward([run])
    assert engine.length(good) == 3
    (output,) = engine.forward([Run(good, 3, TOKENS[3:6], rows=3)])
    assert output.logits.tobytes() == reference[3:6].tobytes()


def test_one_bad_run_stops_the_whole_pass(engine: LlamaEngine) -> None:
    first, second = engine.open(), engine.open()
    with pytest.raises(InvalidRequest):
        engine.forward([Run(first, 0, [1]), Run(second, 0, [999])])
    assert (engine.length(first), engine.length(second)) == (0, 0)


def test_two_runs_of_a_sequence_are_refused(engine: LlamaEngine) -> None:
    sequence = engine.open()
    with pytest.raises(InvalidRequest, match="one run"):
        engine.forward([Run(sequence, 0, [1]), Run(sequence, 0, [2])])


def test_the_context_is_the_limit(engine: LlamaEngine) -> None:
    sequence = _filled(engine, CONTEXT)
    for tokens in ([1], [1, 2]):
        with pytest.raises(PromptTooLong, match="600"):
            engine.forward([Run(sequence, CONTEXT, tokens)])
    engine.truncate(sequence, CONTEXT - 1)
    engine.forward([Run(sequence, CONTEXT - 1, [1], rows=1)])
    assert engine.length(sequence) == CONTEXT


@pytest.mark.parametrize("length", [-1, 11])
def test_truncation_out_of_range_is_refused(engine: LlamaEngine, length: int) -> None:
    sequence = _filled(engine, 10)
    with pytest.raises(InvalidRequest):
        engine.truncate(sequence, length)


def test_an_empty_pass_gives_nothing(engine: LlamaEngine) -> None:
    assert engine.forward([]) == []


def test_rows_come_in_the_order_of_the_runs(engine: LlamaEngine, reference: FloatRows) -> None:
    """Also when the pass is larger than a native batch (256 here)."""
    for _ in range(5):
        engine.open()
    runs = [Run(sequence, 0, TOKENS[: 40 + 20 * sequence], rows=sequence + 1) for sequence in (3, 0, 4, 2)]
    for run, output in zip(runs, engine.forward(runs), strict=True):
        end = len(run.tokens)
        assert output.logits.tobytes() == reference[end - run.rows : end].tobytes()
        assert engine.length(run.sequence) == end


def test_rows_are_read_only(engine: LlamaEngine) -> None:
    (output,) = engine.forward([Run(engine.open(), 0, [1], rows=1)])
    with pytest.raises(ValueError, match="read-only"):
        output.logits[0, 0] = 0


def test_numpy_tokens_are_taken(engine: LlamaEngine, reference: FloatRows) -> None:
    sequence = engine.open()
    engine.forward([Run(sequence, 0, np.array(TOKENS[:2]), rows=0)])  # type: ignore[arg-type]
    (output,) = engine.forward([Run(sequence, 2, np.array(TOKENS[2:3]), rows=1)])  # type: ignore[arg-type]
    assert output.logits.tobytes() == reference[2:3].tobytes()


def test_hidden_rows_come_only_where_asked_and_change_no_logits(engine: LlamaEngine, reference: FloatRows) -> None:
    first, second = engine.open(), engine.open()
    with_hidden, without = engine.forward(
        [Run(first, 0, TOKENS[:9], rows=4, hidden=True), Run(second, 0, TOKENS[:6], rows=2)]
    )
    assert with_hidden.hidden is not None
    assert with_hidden.hidden.shape == (4, engine.info.width)
    assert without.hidden is None
    assert with_hidden.logits.tobytes() == reference[5:9].tobytes()
    assert without.logits.tobytes() == reference[4:6].tobytes()
    # The output matrix is the last step from hidden state to logits: equal states must give equal logits.
    third = engine.open()
    (again,) = engine.forward([Run(third, 0, TOKENS[:9], rows=9, hidden=True)])
    assert again.hidden is not None
    assert again.hidden[5:].tobytes() == with_hidden.hidden.tobytes()
    assert len({row.tobytes() for row in again.hidden}) == 9


def test_embeddings_have_unit_length_and_tell_texts_apart(engine: LlamaEngine) -> None:
    long = engine.embed(TOKENS[:300])
    assert long.shape == (engine.info.width,)
    assert np.linalg.norm(long) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(engine.embed(TOKENS[:300]), long)
    assert float(long @ engine.embed(TOKENS[300:320])) < 0.999
    assert engine.open() == 0  # the sequence it used is free again


def test_embedding_nothing_or_too_much_is_refused(engine: LlamaEngine) -> None:
    with pytest.raises(InvalidRequest):
        engine.embed([])
    with pytest.raises(PromptTooLong):
        engine.embed([1] * (CONTEXT + 1))
    with pytest.raises(InvalidRequest):
        engine.embed([1, 320])
    assert engine.open() == 0


class _FailingDecode:
    """llama_cpp whose decode computes and then reports a failure, or computes only a part."""

    def __init__(self, library: object, status: int, after: int) -> None:
        self._library, self._status, self._after = library, status, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._library, name)

    def llama_decode(self, context: object, batch: object) -> int:
        result: int = self._library.llama_decode(context, batch)  # type: ignore[attr-defined]
        self._after -= 1
        return result if self._after >= 0 else self._status


@pytest.mark.parametrize(("status", "error"), [(-3, EngineFailure), (2, EngineFailure), (1, Overloaded)])
@pytest.mark.parametrize("after", [0, 1])
def test_a_failed_pass_is_rolled_back(
    engine: LlamaEngine, reference: FloatRows, monkeypatch: pytest.MonkeyPatch, status: int, error: type, after: int
) -> None:
    first, second, third = _filled(engine, 10), _filled(engine, 10), _filled(engine, 10)
    runs = [Run(s, 10, TOKENS[10:110], rows=1) for s in (first, second, third)]  # two native batches
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_lib", _FailingDecode(engine._lib, status, after))
        with pytest.raises(error):
            engine.forward(runs)
    assert [engine.length(s) for s in (first, second, third)] == [10, 10, 10]
    for output in engine.forward(runs):
        assert output.logits.tobytes() == reference[109:110].tobytes()


def test_shutdown_twice_and_no_use_afterwards(tiny_model_path: Path) -> None:
    engine = LlamaEngine(tiny_model_path, context=64, sequences=1, threads=1)
    sequence = engine.open()
    engine.tokenizer.piece(5)
    engine.shutdown()
    engine.shutdown()
    for use in (
        lambda: engine.forward([Run(sequence, 0, [1])]),
        lambda: engine.open(),
        lambda: engine.length(sequence),
        lambda: engine.embed([1]),
        lambda: engine.tokenizer.encode("a"),
    ):
        with pytest.raises(EngineFailure, match="shut down"):
            use()
    assert engine.info.name == "tiny"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("context", 0),
        ("context", -1),
        ("context", 4097),
        ("context", 1.5),
        ("sequences", 0),
        ("sequences", 257),
        ("sequences", 10**12),
        ("threads", 0),
        ("threads", 10_000),
        ("batch_tokens", 0),
        ("batch_tokens", True),
        ("gpu_layers", -2),
    ],
)
def test_options_out_of_range_are_refused(tiny_model_path: Path, option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=option):
        LlamaEngine(tiny_model_path, **{option: value})  # type: ignore[arg-type]


def test_what_llama_cpp_refuses_is_a_bad_model_file_with_its_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tiny_model(tmp_path / "odd.gguf")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_no.weight"))
    with caplog.at_level(logging.WARNING, "updraft.llama"), pytest.raises(BadModelFile, match=r"blk\.1\.ffn_up"):
        LlamaEngine(path, context=64, sequences=1)
    assert any("ffn_up" in record.message for record in caplog.records)


def test_llama_cpp_says_nothing_on_the_terminal(tiny_model_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    LlamaEngine(tiny_model_path, context=64, sequences=1, threads=1).shutdown()
    assert capfd.readouterr() == ("", "")


def test_open_engine_takes_a_path_and_knows_its_backends(tiny_model_path: Path) -> None:
    engine = open_engine(str(tiny_model_path), context=64, sequences=1, threads=1)
    assert engine.info.name == "tiny"
    engine.shutdown()
    with pytest.raises(UnknownName, match="llama"):
        open_engine(tiny_model_path, backend="abacus")
