from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.tiny_model import write_tiny_model
from tests.shared.train.conftest import CPU
from updraft.engine import FloatRows
from updraft.models.weights import Weights
from updraft.sampling import Sampled, Sampler
from updraft.train.distil import agreement
from updraft.train.llama import of_trunk
from updraft.train.measure import acceptance, decode_rates
from updraft.train.teacher import TeacherCache


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_trunk_accepts_itself(weights: Weights, held_out: TeacherCache, temperature: float) -> None:
    trunk = of_trunk(weights)
    share = acceptance(trunk, weights, held_out, entry=0, temperature=temperature, device=CPU)
    assert share > 0.95  # 1 but for bfloat16, in which batches of other lengths round otherwise


def test_a_smaller_model_is_accepted_less(weights: Weights, held_out: TeacherCache) -> None:
    small = of_trunk(weights, [0, 3])
    shares = [
        acceptance(small, weights, held_out, entry=0, temperature=temperature, device=CPU) for temperature in (0.0, 0.8)
    ]
    assert all(0 < share < 0.9 for share in shares)


def test_acceptance_at_temperature_0_is_agreement(weights: Weights, held_out: TeacherCache) -> None:
    small = of_trunk(weights, [2])
    share = acceptance(small, weights, held_out, entry=2, temperature=0.0, device=CPU, positions=10**6)
    # The cache's argmax was taken before its states were rounded to half precision.
    assert share == pytest.approx(agreement(small, weights, held_out, 2, CPU), abs=0.02)


def test_positions_bound_the_work(weights: Weights, held_out: TeacherCache, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = Sampler.draw

    def counted(self: Sampler, row: FloatRows, place: int) -> Sampled:
        drawn.append(place)
        return draw(self, row, place)

    monkeypatch.setattr(Sampler, "draw", counted)
    acceptance(of_trunk(weights, [2]), weights, held_out, entry=2, temperature=0.8, device=CPU, positions=60)
    assert 60 <= len(drawn) / 2 <= 60 + len(held_out)
    assert drawn[::2] == drawn[1::2]  # both models with the same noise


def test_rates_of_models_that_take_turns(tmp_path: Path, tiny_model_path: Path) -> None:
    other = write_tiny_model(tmp_path / "deep.gguf", layers=4)
    rates = decode_rates([other, tiny_model_path], threads=1, rounds=2)
    assert len(rates) == 2 and all(rate > 0 for rate in rates)
