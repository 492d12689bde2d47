from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.hf_model import HF_FAMILIES, write_hf_model
from updraft.engine import Engine, Run, StagedEngine, StageInfo
from updraft.engine.base import FloatRows
from updraft.engine.exactness import check_exactness
from updraft.errors import EngineFailure, InvalidRequest, Overloaded, PromptTooLong

torch = pytest.importorskip("torch")
if TYPE_CHECKING:
    from updraft.engine.torch import TorchEngine
else:
    TorchEngine = pytest.importorskip("updraft.engine.torch").TorchEngine

CONTEXT = 400
TOKENS = np.random.default_rng(5).integers(0, 291, CONTEXT).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Experts in two layers of three, norms of queries and keys, two files."""
    return write_hf_model(tmp_path_factory.mktemp("hf") / "tiny-moe", "qwen3_moe", shards=2)


@pytest.fixture(scope="module")
def shared_engine(folder: Path) -> Iterator[TorchEngine]:
    engine = TorchEngine(folder, context=CONTEXT, sequences=5, threads=1, batch_tokens=256)
    yield engine
    engine.shutdown()


@pytest.fixture
def engine(shared_engine: TorchEngine) -> Iterator[TorchEngine]:
    """The shared engine, with five free sequences."""
    torch.set_num_threads(1)  # one number for the whole process, and attention in float32 rounds by it
    yield shared_engine
    for sequence in range(shared_engine.max_sequences):
        try:
            shared_engine.close(sequence)
        except InvalidRequest:
            continue


@pytest.fixture(scope="module")
def reference(shared_engine: TorchEngine) -> FloatRows:
    """Logits at every position of TOKENS, computed in single steps."""
    torch.set_num_threads(1)
    sequence = shared_engine.open()
    rows = [shared_engine.forward([Run(sequence, i, [t], rows=1)])[0].logits for i, t in enumerate(TOKENS)]
    shared_engine.close(sequence)
    return np.concatenate(rows)


def _filled(engine: Engine, length: int) -> int:
    sequence = engine.open()
    for start in range(0, length, engine.max_run):
        engine.forward([Run(sequence, start, TOKENS[start : min(start + engine.max_run, length)])])
    return sequence


def test_it_is_an_engine_that_says_what_its_folder_says(engine: TorchEngine) -> None:
    assert isinstance(engine, Engine)
    assert isinstance(engine, StagedEngine)
    assert engine.stages == (StageInfo(0, 1, 0), StageInfo(1, 2, 0), StageInfo(2, 3, 0))
    info = engine.info
    assert (info.name, info.architecture, info.layers) == ("tiny-moe", "qwen3_moe", 3)
    assert (info.width, info.vocabulary, info.context_length, info.quantisation) == (64, 320, 4096, "F32")
    assert info.end_tokens == {2}
    assert info.chat_template is not None
    assert (engine.max_sequences, engine.context, engine.max_run, engine.exact) == (5, CONTEXT, 128, True)
    assert engine.tokenizer.encode("<|im_start|>the", special=True)[0] == 1


@pytest.mark.parametrize("kind", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("family", HF_FAMILIES)
def test_it_is_exact_however_the_work_is_cut(family: str, kind: str, tmp_path: Path) -> None:
    engine = TorchEngine(write_hf_model(tmp_path / "model", family, kind=kind), context=320, sequences=3, threads=1)
    report = check_exactness(engine)
    engine.shutdown()
    assert report.exact, report


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["F32", "BF16"])
def test_it_is_exact_with_several_threads(kind: str, tmp_path: Path) -> None:
    """Wide enough for torch to share single operations among threads."""
    sizes: dict[str, Any] = {"hidden_size": 320, "intermediate_size": 2052, "head_dim": 128, "num_hidden_layers": 1}
    folder = write_hf_model(tmp_path / "model", "qwen3", kind=kind, **sizes)
    engine = TorchEngine(folder, context=64, sequences=3, threads=2)
    report = check_exactness(engine)
    engine.shutdown()
    assert report.exact, report


def test_it_can_be_told_not_to_be_exact(folder: Path, reference: FloatRows) -> None:
    """The check would notice: without the measures the bits differ on this very model."""
    engine = TorchEngine(folder, context=CONTEXT, sequences=3, threads=1, exact=False)
    report = check_exactness(engine)
    assert not engine.exact
    assert not report.exact
    assert max(check.largest for check in report.checks.values()) < 1e-4
    (output,) = engine.forward([Run(engine.open(), 0, TOKENS[:100], rows=100)])
    assert np.abs(output.logits - reference[:100]).max() < 1e-4
    engine.shutdown()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_cut_gives_the_bits_of_single_steps(engine: TorchEngine, reference: FloatRows, data: st.DataObject) -> None:
    sequences = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True), label="sequences")
    for _ in range(5):
        engine.open()
    try:
        for _ in range(data.draw(st.integers(1, 5), label="passes")):
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


def test_rolled_back_tokens_leave_nothing_behind(engine: TorchEngine, reference: FloatRows) -> None:
    sequence = _filled(engine, 20)
    engine.forward([Run(sequence, 20, [7] * 40, rows=40)])
    engine.truncate(sequence, 20)
    assert engine.length(sequence) == 20
    (output,) = engine.forward([Run(sequence, 20, TOKENS[20:30], rows=10)])
    assert output.logits.tobytes() == reference[20:30].tobytes()


def test_a_fork_goes_its_own_way(engine: TorchEngine, reference: FloatRows) -> None:
    origin = _filled(engine, 30)
    copy = engine.fork(origin)
    assert engine.length(copy) == 30
    engine.truncate(origin, 10)
    engine.forward([Run(origin, 10, [3] * 25)])
    (output,) = engine.forward([Run(copy, 30, TOKENS[30:35], rows=5)])
    assert output.logits.tobytes() == reference[30:35].tobytes()
    assert engine.length(origin) == 35


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_saved_state_restores_in_another_engine(folder: Path, dtype: str) -> None:
    first, other = (TorchEngine(folder, context=200, sequences=2, threads=1, dtype=dtype) for _ in range(2))
    origin = _filled(first, 150)
    sequence = other.restore(first.save(origin))
    assert other.length(sequence) == 150
    rows = [
        e.forward([Run(s, 150, TOKENS[150:160], rows=10)])[0].logits for e, s in ((first, origin), (other, sequence))
    ]
    assert rows[0].tobytes() == rows[1].tobytes()
    first.shutdown()
    other.shutdown()


def test_an_empty_sequence_forks_and_saves(engine: TorchEngine) -> None:
    empty = engine.open()
    assert engine.length(engine.fork(empty)) == 0
    assert engine.length(engine.restore(engine.save(empty))) == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_states_are_refused_and_take_no_sequence(engine: TorchEngine, data: st.DataObject) -> None:
    state = bytearray(engine.save(origin := _filled(engine, 3)))
    engine.close(origin)
    place = data.draw(st.integers(0, len(state) - 1))
    cut = data.draw(st.booleans())
    if cut:
        del state[place:]
    else:
        state[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(InvalidRequest):
        engine.restore(bytes(state))
    assert engine.open() == 0
    engine.close(0)


def test_states_of_another_type_or_shape_are_refused(engine: TorchEngine, folder: Path) -> None:
    state = engine.save(_filled(engine, 10))
    other = TorchEngine(folder, context=64, sequences=1, threads=1, dtype="bfloat16")
    with pytest.raises(InvalidRequest, match="another model"):
        other.restore(state)
    shorter = TorchEngine(folder, context=8, sequences=1, threads=1)
    with pytest.raises(InvalidRequest, match="does not fit"):
        shorter.restore(state)
    assert shorter.open() == 0
    other.shutdown()
    shorter.shutdown()


def test_passes_beyond_the_batch_are_cut(engine: TorchEngine, reference: FloatRows) -> None:
    runs = [Run(engine.open(), 0, TOKENS[:128], rows=2) for _ in range(5)]
    for output in engine.forward(runs):
        assert output.logits.tobytes() == reference[126:128].tobytes()


def test_hidden_states_come_only_where_asked(engine: TorchEngine, reference: FloatRows) -> None:
    runs = [Run(engine.open(), 0, TOKENS[:5], rows=2, hidden=True), Run(engine.open(), 0, TOKENS[:7], rows=3)]
    with_hidden, without = engine.forward(runs)
    assert with_hidden.hidden is not None
    assert with_hidden.hidden.shape == (2, 64)
    assert without.hidden is None
    assert with_hidden.logits.tobytes() == reference[3:5].tobytes()
    assert without.logits.tobytes() == reference[4:7].tobytes()


def test_rows_stay_as_they_are_and_cannot_be_written(engine: TorchEngine, reference: FloatRows) -> None:
    sequence = engine.open()
    (first,) = engine.forward([Run(sequence, 0, TOKENS[:4], rows=4)])
    engine.forward([Run(sequence, 4, TOKENS[4:8], rows=4)])
    assert first.logits.tobytes() == reference[:4].tobytes()
    with pytest.raises(ValueError, match="read-only"):
        first.logits[0, 0] = 0


def test_an_embedding_is_the_mean_of_hidden_states(engine: TorchEngine) -> None:
    tokens = TOKENS[:150]
    rows = []
    sequence = engine.open()
    for start in (0, 100):
        part = tokens[start : start + 100]
        (output,) = engine.forward([Run(sequence, start, part, rows=len(part), hidden=True)])
        assert output.hidden is not None
        rows.append(output.hidden)
    mean = np.concatenate(rows).mean(axis=0)
    vector = engine.embed(tokens)
    assert vector.dtype == np.float32
    assert np.allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    with pytest.raises(InvalidRequest, match="empty"):
        engine.embed([])
    with pytest.raises(PromptTooLong, match=str(CONTEXT)):
        engine.embed([1] * (CONTEXT + 1))
    with pytest.raises(InvalidRequest, match="320"):
        engine.embed([320])
    assert engine.open() == 1


GOOD = Run(0, 3, [1, 2, 3], rows=1)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (replace(GOOD, sequence=5), "not open"),
        (replace(GOOD, sequence=-1), "not open"),
        (replace(GOOD, sequence=1), "not open"),
        (replace(GOOD, position=2), "starts at 2"),
        (replace(GOOD, tokens=[], rows=4), "4 rows"),
        (replace(GOOD, tokens=[], rows=1), "brings 0 positions"),
        (replace(GOOD, tokens=[1] * 129), "129 tokens"),
        (replace(GOOD, tokens=[1, 320]), "320"),
        (replace(GOOD, tokens=[-1]), "-1"),
        (replace(GOOD, tokens=[1.5]), "whole"),  # type: ignore[list-item]
        (replace(GOOD, rows=4), "4 rows"),
        (replace(GOOD, rows=-1), "-1 rows"),
        (replace(GOOD, depth=0), "no exit"),
        (replace(GOOD, rows=0, depth=0), "no hidden states are kept"),
        (replace(GOOD, depth=3), "depth is 3"),
        (replace(GOOD, entry=3), "entry is 3"),
        (replace(GOOD, entry=1), "began at stage 0"),
        (replace(GOOD, inputs=np.ones((3, 64), np.float32)), "stage 0"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_runs_are_refused_and_change_nothing(
    engine: TorchEngine, reference: FloatRows, run: Run, reason: str
) -> None:
    good, other = _filled(engine, 3), _filled(engine, 3)
    engine.close(other)
    with pytest.raises(InvalidRequest, match=reason):
        engine.forward([run])
    (output,) = engine.forward([Run(good, 3, TOKENS[3:6], rows=3)])
    assert output.logits.tobytes() == reference[3:6].tobytes()


def test_two_runs_of_a_sequence_are_refused(engine: TorchEngine) -> None:
    sequence = engine.open()
    with pytest.raises(InvalidRequest, match="one run"):
        engine.forward([Run(sequence, 0, [1]), Run(sequence, 0, [2])])
    assert engine.forward([]) == []


def test_the_context_is_the_limit(engine: TorchEngine, reference: FloatRows) -> None:
    sequence = _filled(engine, CONTEXT)
    with pytest.raises(PromptTooLong, match=str(CONTEXT)):
        engine.forward([Run(sequence, CONTEXT, [1])])
    engine.truncate(sequence, CONTEXT - 1)
    (output,) = engine.forward([Run(sequence, CONTEXT - 1, TOKENS[-1:], rows=1)])
    assert output.logits.tobytes() == reference[-1:].tobytes()
    for length in (-1, CONTEXT + 1):
        with pytest.raises(InvalidRequest, match="truncate"):
            engine.truncate(sequence, length)


def test_sequences_are_given_lowest_first_and_run_out(engine: TorchEngine) -> None:
    assert [engine.open() for _ in range(5)] == [0, 1, 2, 3, 4]
    for take in (engine.open, lambda: engine.fork(2), lambda: engine.embed([1])):
        with pytest.raises(Overloaded):
            take()
    engine.close(3)
    with pytest.raises(InvalidRequest, match="not open"):
        engine.close(3)
    assert engine.open() == 3


def test_a_closed_engine_says_so(folder: Path) -> None:
    engine = TorchEngine(folder, context=64, sequences=1, threads=1)
    engine.open()
    engine.shutdown()
    engine.shutdown()
    for use in (
        engine.open,
        lambda: engine.length(0),
        lambda: engine.forward([Run(0, 0, [1])]),
        lambda: engine.expect([]),
    ):
        with pytest.raises(EngineFailure, match="shut down"):
            use()
