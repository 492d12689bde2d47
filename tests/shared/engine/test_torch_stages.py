"""Hidden states in and out of the torch engine: after any layer they give the bits of the whole model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.fakes.hf_model import write_hf_model
from tests.fakes.staged_model import write_exit
from tests.shared.engine.interleavings import CONTEXT, SEQUENCES, SETTINGS, Interleavings
from tests.shared.engine.staged_reference import BAD_STATES, PlainDecoding
from updraft.engine import Engine, Run, StageInfo, open_engine
from updraft.engine.base import FloatRows
from updraft.engine.exactness import check_exactness
from updraft.errors import BadModelFile, ConfigError, EngineFailure, InvalidRequest, WrongTrunk
from updraft.exits.carry import rounded
from updraft.models.weights import read_weights

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from updraft.engine.torch import TorchEngine  # noqa: E402  # torch's absence skips before

SIZES: dict[str, Any] = {"context": 200, "sequences": 4, "threads": 1, "batch_tokens": 64}
TOKENS = np.random.default_rng(3).integers(0, 291, 160).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hf_model(tmp_path_factory.mktemp("hf") / "trunk", "llama", num_hidden_layers=4)


@pytest.fixture(scope="module")
def rungs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Exits after one and two layers, the second one's file first."""
    made = tmp_path_factory.mktemp("exits")
    weights = read_weights(folder)
    return [write_exit(made / f"exit{layer}.safetensors", weights, layer) for layer in (2, 1)]


@pytest.fixture(scope="module")
def shared_engine(folder: Path, rungs: list[Path]) -> Iterator[TorchEngine]:
    engine = TorchEngine(folder, rungs=rungs, **SIZES)
    yield engine
    engine.shutdown()


@pytest.fixture
def engine(shared_engine: TorchEngine) -> Iterator[TorchEngine]:
    torch.set_num_threads(1)
    yield shared_engine
    for sequence in range(shared_engine.max_sequences):
        try:
            shared_engine.close(sequence)
        except InvalidRequest:
            continue


@pytest.fixture(scope="module")
def reference(folder: Path) -> FloatRows:
    """Logits of TOKENS from the folder without exits, in one run after another."""
    torch.set_num_threads(1)
    engine = TorchEngine(folder, **SIZES)
    rows = _rows(engine, engine.open(), TOKENS)
    engine.shutdown()
    return rows


def _rows(engine: Engine, sequence: int, tokens: list[int], **options: Any) -> FloatRows:
    found = []
    for start in range(0, len(tokens), engine.max_run):
        part = tokens[start : start + engine.max_run]
        found.append(engine.forward([Run(sequence, start, part, rows=len(part), **options)])[0].logits)
    return np.concatenate(found)


def _filled(engine: TorchEngine, length: int, depth: int | None = None) -> int:
    sequence = engine.open()
    for start in range(0, length, engine.max_run):
        stop = min(start + engine.max_run, length)
        engine.forward([Run(sequence, start, TOKENS[start:stop], depth=depth)])
    return sequence


def test_its_stages_are_its_layers_and_exits_leave_the_model_as_it_is(
    engine: TorchEngine, folder: Path, reference: FloatRows
) -> None:
    assert engine.stages == (StageInfo(0, 1, 1), StageInfo(1, 2, 1), StageInfo(2, 3, 0), StageInfo(3, 4, 0))
    plain = TorchEngine(folder, **SIZES)
    assert engine.info.fingerprint == plain.info.fingerprint
    assert engine.info.weight_bytes > plain.info.weight_bytes
    assert _rows(engine, engine.open(), TOKENS).tobytes() == reference.tobytes()
    assert check_exactness(engine).exact
    plain.shutdown()


@pytest.mark.parametrize("kind", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("family", ["qwen3", "qwen3_moe", "deepseek"])
def test_states_enter_after_every_layer(family: str, kind: str, tmp_path: Path) -> None:
    """What comes out of one engine goes into another one, in runs of other lengths, and in the pass of whole runs."""
    folder = write_hf_model(tmp_path / "model", family, kind=kind)
    whole = TorchEngine(folder, **SIZES)
    want = _rows(whole, held := whole.open(), TOKENS[:60])
    whole.close(held)
    for layers in (1, 2):
        edge = TorchEngine(folder, split=layers - 1, **SIZES)
        origin = _filled(edge, 60, depth=layers - 1)
        assert [edge.computed(origin, stage) for stage in range(3)] == [60] * layers + [0] * (3 - layers)
        entered, plain, position = whole.open(), whole.open(), 0
        for size in (21, 1, 3, 35):
            states = edge.boundary(origin, layers - 1, position, position + size)
            tokens = TOKENS[position : position + size]
            runs = [
                Run(entered, position, tokens, rows=size, inputs=states, entry=layers),
                Run(plain, position, tokens, rows=1),
            ]
            outputs = whole.forward(runs)
            assert outputs[0].logits.tobytes() == want[position : position + size].tobytes()
            position += size
            assert outputs[1].logits.tobytes() == want[position - 1 : position].tobytes()
        assert [whole.computed(entered, stage) for stage in range(3)] == [0] * layers + [60] * (3 - layers)
        for sequence in (entered, plain):
            whole.close(sequence)
        edge.shutdown()
    whole.shutdown()


def test_positions_that_stopped_early_are_caught_up_in_passes_of_any_size(
    engine: TorchEngine, reference: FloatRows
) -> None:
    sequence = _filled(engine, 150, depth=0)
    other = _filled(engine, 10, depth=1)
    runs = [Run(sequence, 150, TOKENS[150:155], rows=5), Run(other, 10, TOKENS[10:12], rows=12 - 10)]
    deep, second = engine.forward(runs)
    assert deep.logits.tobytes() == reference[150:155].tobytes()
    assert second.logits.tobytes() == reference[10:12].tobytes()
    assert [engine.computed(sequence, stage) for stage in range(4)] == [155] * 4


def test_an_exit_follows_its_stage_when_its_rows_are_asked_for(engine: TorchEngine, reference: FloatRows) -> None:
    whole, steps = engine.open(), engine.open()
    (shallow,) = engine.forward([Run(whole, 0, TOKENS[:30], rows=30, depth=0)])
    engine.forward([Run(steps, 0, TOKENS[:20])])  # passes the exit by
    (late,) = engine.forward([Run(steps, 20, TOKENS[20:30], rows=10, depth=0)])
    assert late.logits.tobytes() == shallow.logits[20:].tobytes()
    (deeper,) = engine.forward([Run(whole, 30, (), rows=30, depth=1)])
    (deepest,) = engine.forward([Run(whole, 30, (), rows=30)])
    assert deepest.logits.tobytes() == reference[:30].tobytes()
    assert len({rows.logits.tobytes() for rows in (shallow, deeper, deepest)}) == 3


def test_an_exit_computes_what_its_rung_says(engine: TorchEngine, folder: Path, tmp_path: Path) -> None:
    """The exits here are copies of the trunk's next layer: a trunk that ends with it is the same function."""
    weights = {name: values for name, values in read_weights(folder).items() if ".3." not in name}
    short = write_hf_model(tmp_path / "short", "llama", num_hidden_layers=3, weights=weights)
    other = TorchEngine(short, **SIZES)
    want = _rows(other, other.open(), TOKENS[:40])
    assert _rows(engine, engine.open(), TOKENS[:40], depth=1).tobytes() == want.tobytes()
    other.shutdown()


@pytest.mark.parametrize(("run", "reason"), BAD_STATES, ids=lambda value: str(value)[:50])
def test_bad_states_are_refused_as_by_the_onnx_engine(engine: TorchEngine, run: Run, reason: str) -> None:
    sequence = engine.open()
    with pytest.raises(InvalidRequest, match=reason):
        engine.forward([run])
    assert engine.length(sequence) == 0
    engine.forward([Run(sequence, 0, [1], rows=1)])  # it may still begin at the bottom


def test_a_sequence_has_one_entry_until_it_is_emptied(engine: TorchEngine, reference: FloatRows) -> None:
    edge = _filled(engine, 20, depth=1)
    states = [engine.boundary(edge, stage, 0, 20) for stage in (0, 1)]
    sequence = engine.open()
    engine.forward([Run(sequence, 0, TOKENS[:10], inputs=states[0][:10], entry=1)])
    for run in (
        Run(sequence, 10, TOKENS[10:20], inputs=states[1][10:], entry=2),
        Run(sequence, 10, TOKENS[10:20], rows=1),
    ):
        with pytest.raises(InvalidRequest, match="began at stage 1"):
            engine.forward([run])
    with pytest.raises(InvalidRequest, match="0 have been computed"):
        engine.boundary(sequence, 0, 0, 1)
    (output,) = engine.forward([Run(sequence, 10, TOKENS[10:20], rows=10, inputs=states[0][10:], entry=1)])
    assert output.logits.tobytes() == reference[10:20].tobytes()
    engine.truncate(sequence, 0)
    (output,) = engine.forward([Run(sequence, 0, TOKENS[:20], rows=20, inputs=states[1], entry=2)])
    assert output.logits.tobytes() == reference[:20].tobytes()


def test_states_leave_only_where_they_are_kept(engine: TorchEngine) -> None:
    sequence = _filled(engine, 5)
    for stage, reason in ((2, "kept after stage 2"), (4, "no stage 4"), (-1, "no stage -1")):
        with pytest.raises(InvalidRequest, match=reason):
            engine.boundary(sequence, stage, 0, 1)
    for start, stop in ((0, 6), (-1, 2), (3, 2)):
        with pytest.raises(InvalidRequest, match="5 have been computed"):
            engine.boundary(sequence, 1, start, stop)
    with pytest.raises(InvalidRequest) as refused:
        engine.forward([Run(sequence, 5, [1], depth=2)])
    assert "split=2" in refused.value.remedy
    with pytest.raises(InvalidRequest, match="no stage 4"):
        engine.computed(sequence, 4)


def test_states_that_a_half_precision_cannot_hold_are_refused(folder: Path) -> None:
    engine = TorchEngine(folder, dtype="float16", **SIZES)
    states = np.full((1, 64), 1e6, np.float32)
    with pytest.raises(InvalidRequest, match="not finite in torch.float16"):
        engine.forward([Run(engine.open(), 0, [1], inputs=states, entry=1)])
    engine.shutdown()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("carry", ["float16", "int8"])
def test_states_are_rounded_at_the_split(folder: Path, carry: Any, dtype: str) -> None:
    whole = TorchEngine(folder, split=1, carry=carry, dtype=dtype, **SIZES)
    plain = TorchEngine(folder, split=1, dtype=dtype, **SIZES)
    sequence, exact = whole.open(), plain.open()
    rows, others = _rows(whole, sequence, TOKENS[:40]), _rows(plain, exact, TOKENS[:40])
    states = whole.boundary(sequence, 1, 0, 40)
    assert np.array_equal(states, rounded(plain.boundary(exact, 1, 0, 40), carry))
    assert dtype == "bfloat16" or rows.tobytes() != others.tobytes()
    # The cloud's side takes the rounded states as they come, whatever it would round itself.
    (output,) = plain.forward([Run(plain.open(), 0, TOKENS[:40], rows=40, inputs=states, entry=2)])
    assert output.logits.tobytes() == rows.tobytes()
    with pytest.raises(InvalidRequest, match="another model"):
        plain.restore(whole.save(sequence))
    whole.shutdown()
    plain.shutdown()


def test_an_edge_holds_only_the_lower_layers(engine: TorchEngine, folder: Path, rungs: list[Path]) -> None:
    edge = open_engine(folder, rungs=rungs, last_stage=1, **SIZES)
    assert isinstance(edge, TorchEngine)
    assert edge.stages == engine.stages[:2]
    assert edge.info.fingerprint == engine.info.fingerprint
    assert edge.info.weight_bytes < engine.info.weight_bytes
    sequence = edge.open()
    deepest = _rows(edge, sequence, TOKENS[:20])
    assert deepest.tobytes() == _rows(engine, engine.open(), TOKENS[:20], depth=1).tobytes()
    for run in (Run(sequence, 20, [1], depth=2), Run(sequence, 20, [1], entry=2)):
        with pytest.raises(InvalidRequest, match=r"depth is 2|entry is 2"):
            edge.forward([run])
    with pytest.raises(InvalidRequest, match="another model"):
        engine.restore(edge.save(sequence))
    edge.shutdown()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"split": 3}, "split is 3; states can travel after the loaded stages 0 to 2"),
        ({"split": -1}, "split is -1"),
        ({"split": True}, "split is True"),
        ({"carry": "int8"}, "needs a split"),
        ({"split": 0, "carry": "int4"}, "carry is 'int4'"),
        ({"last_stage": 2}, r"no exit \(stages with one: none\)"),
        ({"last_stage": 4}, "the stages 0 to 3"),
    ],
)
def test_options_out_of_range_are_refused(folder: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        TorchEngine(folder, **SIZES, **options)


def test_exits_that_do_not_fit_are_refused(folder: Path, rungs: list[Path], tmp_path: Path) -> None:
    other = write_hf_model(tmp_path / "other", "llama", num_hidden_layers=4, seed=1)
    with pytest.raises(WrongTrunk):
        TorchEngine(other, rungs=rungs, **SIZES)
    with pytest.raises(BadModelFile, match="qwen3_moe"):
        TorchEngine(write_hf_model(tmp_path / "moe", "qwen3_moe"), rungs=rungs, **SIZES)
    with pytest.raises(ConfigError, match="one after each"):
        TorchEngine(folder, rungs=[rungs[0], rungs[0]], **SIZES)
    bottom = write_exit(tmp_path / "exit0.safetensors", read_weights(folder), 0)
    with pytest.raises(ConfigError, match=r"exit0.safetensors is no exit after one of the layers 1 to 3"):
        TorchEngine(folder, rungs=[bottom], **SIZES)


@pytest.mark.parametrize("layer", [0, 1, 3, 5, None])
def test_a_failed_pass_changes_nothing(
    engine: TorchEngine, reference: FloatRows, monkeypatch: pytest.MonkeyPatch, layer: int | None
) -> None:
    """Also where it fails in a layer of the catch-up, in the exit's block (5), or in the output matrix (None)."""
    sequence = _filled(engine, 10, depth=0)
    decoder = engine._loaded().decoder
    whole = type(decoder)._attended

    def failing(self: Any, number: Any, *rest: Any) -> Any:
        if layer is None or number == layer:
            raise RuntimeError("told to fail")
        return whole(self, number, *rest)

    run = Run(sequence, 10, TOKENS[10:13], rows=3, depth=1 if layer == 5 else None)
    with monkeypatch.context() as patch:
        name = "logits" if layer is None else "_attended"
        patch.setattr(type(decoder), name, lambda self, *rest: failing(self, *rest))
        with pytest.raises(EngineFailure, match="told to fail"):
            engine.forward([run])
    assert [engine.computed(sequence, stage) for stage in range(4)] == [10, 0, 0, 0]
    (output,) = engine.forward([Run(sequence, 10, TOKENS[10:13], rows=3)])
    assert output.logits.tobytes() == reference[10:13].tobytes()


@pytest.fixture(params=["F32 with exits", "BF16, rounded to int8", "experts"])
def machine(
    request: pytest.FixtureRequest, folder: Path, rungs: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[type[Interleavings]]:
    """The machine on an engine and a reference of one model."""
    torch.set_num_threads(1)
    stops: tuple[int, ...]
    enters: tuple[int, ...]
    if request.param == "experts":
        model = write_hf_model(tmp_path_factory.mktemp("hf") / "moe", "olmoe", num_hidden_layers=4)
        options: dict[str, Any] = {"split": 1}
        enters, stops = (0, 2), (1, 3)
    else:
        model, options = folder, {"rungs": rungs, "split": 2}
        enters, stops = (0, 1, 2, 3), (0, 1, 2, 3)
        if request.param.startswith("BF16"):
            options |= {"dtype": "bfloat16", "carry": "int8"}

    def opened(sequences: int, batch_tokens: int) -> TorchEngine:
        return TorchEngine(model, context=CONTEXT, sequences=sequences, threads=1, batch_tokens=batch_tokens, **options)

    driven, reference = opened(SEQUENCES, 9), opened(4, 64)

    class Machine(Interleavings):
        engine = driven
        plain = PlainDecoding(reference)
        entries, depths, rows_again = enters, stops, False

    yield Machine
    driven.shutdown()
    reference.shutdown()


def test_any_interleaving_gives_the_bits_of_plain_decoding(machine: type[Interleavings]) -> None:
    run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=15))
