"""Experts behind their seam: whoever holds them, the bits are the same; and what fails leaves nothing behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.hf_model import hf_config, hf_weights, write_hf_model
from updraft.engine import Run
from updraft.engine.exactness import check_exactness
from updraft.errors import BadModelFile, ConfigError, EngineFailure

torch = pytest.importorskip("torch")

from updraft.engine.experts import Experts, ExpertSource  # noqa: E402  # torch's absence skips before
from updraft.engine.torch import TorchEngine  # noqa: E402
from updraft.engine.torch_experts import ResidentExperts, weighted_sum  # noqa: E402
from updraft.engine.torch_quantised import packed_bytes, quantise, restore  # noqa: E402

MOE = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek")
TOKENS = np.random.default_rng(2).integers(0, 291, 60).tolist()


class FetchingExperts:
    """Holds nothing: copies each expert when it is needed, and notes what it was asked. Fails when told to."""

    def __init__(self, source: ExpertSource) -> None:
        self.source = source
        self.calls: list[Any] = []
        self.fail_at: int | None = None

    def expect(self, tokens: Sequence[int]) -> None:
        self.calls.append(("expect", list(tokens)))

    def begin(self, tokens: Any, first: int = 0) -> None:
        assert tokens.dtype == torch.int64
        self.calls.append(("begin", tokens.tolist(), first) if first else ("begin", tokens.tolist()))

    def compute(self, layer: int, hidden: Any, chosen: Any, weights: Any) -> Any:
        self.calls.append(("compute", layer, tuple(hidden.shape), tuple(chosen.shape), tuple(weights.shape)))
        if layer == self.fail_at:
            raise EngineFailure("an expert could not be brought")
        again, shares = self.source.route(layer, hidden)
        assert torch.equal(again, chosen) and torch.equal(shares, weights)

        def one(expert: int, rows: Any) -> Any:
            copies = {name: values.clone() for name, values in self.source.weights(layer, expert).items()}
            half = len(rows) // 2  # the rows of an expert may be cut, too
            parts = [self.source.apply(copies, part) for part in (rows[:half], rows[half:]) if len(part)]
            return torch.cat(parts)

        return weighted_sum(hidden, chosen, weights, one)

    def end(self) -> None:
        self.calls.append("end")

    def close(self) -> None:
        self.calls.append("close")


def _engine(folder: Path, **options: Any) -> TorchEngine:
    return TorchEngine(folder, **{"context": 128, "sequences": 3, "threads": 1, **options})


def _rows(engine: TorchEngine) -> bytes:
    sequence = engine.open()
    (output,) = engine.forward([Run(sequence, 0, TOKENS, rows=len(TOKENS))])
    engine.close(sequence)
    return output.logits.tobytes()


@pytest.mark.parametrize("kind", ["F32", "BF16"])
@pytest.mark.parametrize("bits", [None, 8, 4])
@pytest.mark.parametrize("family", MOE)
def test_the_bits_do_not_depend_on_where_experts_are(family: str, bits: Any, kind: str, tmp_path: Path) -> None:
    folder = write_hf_model(tmp_path / "model", family, kind=kind)
    resident, fetching = (_engine(folder, expert_bits=bits, experts=make) for make in (None, FetchingExperts))
    assert _rows(resident) == _rows(fetching)
    resident.shutdown()
    fetching.shutdown()


def test_a_holder_is_told_what_it_needs_to_know(tmp_path: Path) -> None:
    made: list[FetchingExperts] = []

    def make(source: ExpertSource) -> Experts:
        made.append(FetchingExperts(source))
        return made[0]

    folder = write_hf_model(tmp_path / "model", "qwen2_moe", num_hidden_layers=4)
    engine = _engine(folder, experts=make, batch_tokens=16)
    shape = made[0].source.shape
    assert (shape.layers, shape.experts, shape.active, shape.width, shape.hidden) == (2, 6, 3, 64, 32)
    assert shape.expert_bytes == 3 * 64 * 32 * 4
    assert sum(values.nbytes for values in made[0].source.weights(1, 5).values()) == shape.expert_bytes
    assert torch.equal(made[0].source.embed(torch.tensor([7])), engine._loaded().decoder.embedding[7:8])
    engine.expect([1, 2])
    first, second = engine.open(), engine.open()
    engine.forward([Run(first, 0, TOKENS[:10]), Run(second, 0, TOKENS[:9])])
    assert (
        made[0].calls
        == [
            ("expect", [1, 2]),
            ("expect", TOKENS[:9]),  # the second pass waits while the first is computed
            ("begin", TOKENS[:10]),
            ("compute", 0, (10, 64), (10, 3), (10, 3)),
            ("compute", 1, (10, 64), (10, 3), (10, 3)),
            "end",
            ("begin", TOKENS[:9]),
            ("compute", 0, (9, 64), (9, 3), (9, 3)),
            ("compute", 1, (9, 64), (9, 3), (9, 3)),
            "end",
        ]
    )
    engine.shutdown()
    assert made[0].calls[-1] == "close"


def test_where_states_enter_only_the_layers_from_there_on_are_asked(tmp_path: Path) -> None:
    made: list[FetchingExperts] = []

    def make(source: ExpertSource) -> Experts:
        made.append(FetchingExperts(source))
        return made[0]

    folder = write_hf_model(tmp_path / "model", "qwen2_moe", num_hidden_layers=4)  # experts in layers 1 and 3
    engine = _engine(folder, experts=make, split=2)
    sequence, other = engine.open(), engine.open()
    engine.forward([Run(other, 0, TOKENS[:7], depth=2)])
    states = engine.boundary(other, 2, 0, 7)
    made[0].calls = []
    engine.forward([Run(sequence, 0, TOKENS[:7], rows=1, inputs=states, entry=3)])
    engine.forward([Run(other, 7, TOKENS[7:9], rows=1)])
    assert (
        made[0].calls
        == [
            ("begin", TOKENS[:7], 1),
            ("compute", 1, (7, 64), (7, 3), (7, 3)),
            "end",
            ("expect", TOKENS[:9]),  # those that are caught up wait for the second pass
            ("begin", TOKENS[7:9]),
            ("compute", 0, (2, 64), (2, 3), (2, 3)),
            "end",
            ("begin", TOKENS[:9], 1),
            ("compute", 1, (9, 64), (9, 3), (9, 3)),
            "end",
        ]
    )
    engine.shutdown()


@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_a_failure_in_mid_pass_changes_nothing(fail_at: int, tmp_path: Path) -> None:
    made: list[FetchingExperts] = []

    def make(source: ExpertSource) -> Experts:
        made.append(FetchingExperts(source))
        return made[0]

    engine = _engine(write_hf_model(tmp_path / "model", "mixtral"), experts=make)
    expected, sequence, other = _rows(engine), engine.open(), engine.open()
    engine.forward([Run(sequence, 0, TOKENS[:20])])
    made[0].fail_at, made[0].calls = fail_at, []
    with pytest.raises(EngineFailure, match="brought"):
        engine.forward([Run(sequence, 20, [5, 6, 7], rows=3), Run(other, 0, TOKENS[:4])])
    assert made[0].calls[-1] == "end"
    assert (engine.length(sequence), engine.length(other)) == (20, 0)
    made[0].fail_at = None
    (output,) = engine.forward([Run(sequence, 20, TOKENS[20:50], rows=30)])
    assert output.logits.tobytes() == expected[20 * 320 * 4 : 50 * 320 * 4]
    engine.shutdown()


def test_a_failure_in_a_later_part_takes_the_earlier_ones_back(tmp_path: Path) -> None:
    made: list[FetchingExperts] = []

    def make(source: ExpertSource) -> Experts:
        made.append(FetchingExperts(source))
        return made[0]

    engine = _engine(write_hf_model(tmp_path / "model", "mixtral"), experts=make, batch_tokens=8)
    runs = [Run(engine.open(), 0, TOKENS[:8]), Run(engine.open(), 0, TOKENS[:8])]
    begin, begun = made[0].begin, []

    def failing(tokens: Any, first: int = 0) -> None:
        begun.append(tokens)
        made[0].fail_at = 0 if len(begun) == 2 else None
        begin(tokens, first)

    made[0].begin = failing  # type: ignore[method-assign]
    with pytest.raises(EngineFailure):
        engine.forward(runs)
    assert [engine.length(run.sequence) for run in runs] == [0, 0]
    engine.shutdown()


def test_what_torch_raises_fails_the_pass_alone(tmp_path: Path) -> None:
    class Broken(ResidentExperts):
        def compute(self, layer: int, hidden: Any, chosen: Any, weights: Any) -> Any:
            raise RuntimeError("out of memory")

    engine = _engine(write_hf_model(tmp_path / "model", "olmoe"), experts=Broken)
    sequence = engine.open()
    with pytest.raises(EngineFailure, match="out of memory"):
        engine.forward([Run(sequence, 0, [1])])
    assert engine.length(sequence) == 0
    engine.shutdown()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_router_scores_that_are_not_finite_fail_the_pass_and_name_the_layer(value: float, tmp_path: Path) -> None:
    """A state that overflows on its way there; a whole expert of such numbers does it."""
    weights = hf_weights(hf_config("qwen2_moe"))
    weights["model.layers.0.mlp.up_proj.weight"][:] = value
    engine = _engine(write_hf_model(tmp_path / "model", "qwen2_moe", weights=weights))
    sequence = engine.open()
    with pytest.raises(EngineFailure, match="router of layer 1"):
        engine.forward([Run(sequence, 0, TOKENS[:5], rows=1)])
    assert engine.length(sequence) == 0
    engine.shutdown()


def test_a_router_whose_weights_are_not_finite_is_refused(tmp_path: Path) -> None:
    weights = hf_weights(hf_config("mixtral"))
    name = "model.layers.2.block_sparse_moe.gate.weight"
    weights[name][1, 5] = np.nan
    with pytest.raises(BadModelFile, match=name):
        _engine(write_hf_model(tmp_path / "model", "mixtral", weights=weights))


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_experts_are_near_exact_and_smaller(bits: Any, tmp_path: Path) -> None:
    folder = write_hf_model(tmp_path / "model", "deepseek", num_experts_per_tok=6)  # no router can choose otherwise
    plain, packed = _engine(folder), _engine(folder, expert_bits=bits)
    rows = [np.frombuffer(_rows(engine), np.float32) for engine in (plain, packed)]
    assert 0 < np.abs(rows[0] - rows[1]).max() < {8: 0.3, 4: 4.0}[bits]
    assert packed.info.weight_bytes < plain.info.weight_bytes
    assert packed.info.quantisation == f"F32, experts Q{bits}"
    assert packed.info.fingerprint != plain.info.fingerprint
    assert check_exactness(packed).exact
    plain.shutdown()
    packed.shutdown()


@pytest.mark.parametrize("bits", [8, 4])
def test_numbers_are_off_by_half_a_step_at_most(bits: Any) -> None:
    matrix = torch.tensor(np.random.default_rng(0).standard_normal((6, 64)), dtype=torch.float32)
    matrix[2] = 0
    numbers, scale = quantise(matrix, bits)
    assert numbers.nbytes + scale.nbytes == packed_bytes(6, 64, bits)
    steps = scale if bits == 8 else scale.repeat_interleave(32, 1)
    assert bool(((restore(numbers, scale, torch.float32) - matrix).abs() <= steps / 2 + 1e-6).all())


def test_four_bits_need_groups(tmp_path: Path) -> None:
    folder = write_hf_model(tmp_path / "model", "olmoe", intermediate_size=40)
    with pytest.raises(ConfigError, match="4 bits") as caught:
        _engine(folder, expert_bits=4)
    assert "8 bits" in str(caught.value.remedy)
