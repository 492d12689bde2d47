"""Any order of runs, depths, truncations, forks, saves and entries gives the bits of plain decoding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.shared.engine.interleavings import CONTEXT, SEQUENCES, SETTINGS, Interleavings
from tests.shared.engine.staged_reference import PlainDecoding
from updraft.engine.onnx import OnnxEngine


@pytest.fixture(params=[("staged_model_path", "float32"), ("staged_int4_path", "int8")], ids=["fp32", "int4"])
def machine(request: pytest.FixtureRequest) -> Iterator[type[Interleavings]]:
    """The machine on an engine and a reference of one model, whose states are rounded alike after the first stage."""
    fixture, carry = request.param
    folder: Path = request.getfixturevalue(fixture)

    def opened(sequences: int, batch_tokens: int) -> OnnxEngine:
        return OnnxEngine(
            folder, context=CONTEXT, sequences=sequences, threads=1, batch_tokens=batch_tokens, split=0, carry=carry
        )

    driven, reference = opened(SEQUENCES, 9), opened(3, 64)

    class Machine(Interleavings):
        engine = driven
        plain = PlainDecoding(reference)
        entries = depths = range(3)

    yield Machine
    driven.shutdown()
    reference.shutdown()


def test_any_interleaving_gives_the_bits_of_plain_decoding(machine: type[Interleavings]) -> None:
    run_state_machine_as_test(machine, settings=SETTINGS)
