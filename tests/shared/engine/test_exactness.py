from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from updraft.engine import Output, Run
from updraft.engine.exactness import check_exactness
from updraft.engine.llama import LlamaEngine
from updraft.errors import InvalidRequest, Overloaded


def test_the_tiny_model_is_exact_and_nothing_stays_open(tiny_model_path: Path) -> None:
    engine = LlamaEngine(tiny_model_path, context=512, sequences=3, threads=2)
    report = check_exactness(engine, seed=3)
    assert report.exact
    assert set(report.checks) == {"batching", "runs", "prefill", "far", "fork", "restore"}
    assert all(check.largest == 0 and check.rows > 0 for check in report.checks.values())
    assert [engine.open() for _ in range(3)] == [0, 1, 2]
    engine.shutdown()


@pytest.mark.parametrize(("context", "sequences"), [(40, 3), (64, 4)])
def test_small_contexts_can_be_checked(tiny_model_path: Path, context: int, sequences: int) -> None:
    engine = LlamaEngine(tiny_model_path, context=context, sequences=sequences, threads=1)
    assert check_exactness(engine).exact
    engine.shutdown()


class _Jittery(LlamaEngine):
    """Rows of passes with more than one token are a hair off, as with a kernel that sums in another order."""

    def forward(self, runs: Sequence[Run]) -> list[Output]:
        outputs = super().forward(runs)
        if sum(len(run.tokens) for run in runs) == 1:
            return outputs
        return [Output(output.logits * (1 + 2**-22)) for output in outputs]


def test_a_last_bit_is_noticed(tiny_model_path: Path) -> None:
    engine = _Jittery(tiny_model_path, context=256, sequences=3, threads=1)
    report = check_exactness(engine)
    assert not report.exact
    assert not report.batching.equal
    assert not report.runs.equal
    assert 0 < report.runs.largest < 1e-3
    assert report.fork.equal
    engine.shutdown()


def test_too_small_or_busy_an_engine_is_refused(tiny_model_path: Path) -> None:
    engine = LlamaEngine(tiny_model_path, context=64, sequences=2, threads=1)
    with pytest.raises(InvalidRequest, match="3 sequences"):
        check_exactness(engine)
    engine.shutdown()
    engine = LlamaEngine(tiny_model_path, context=64, sequences=3, threads=1)
    engine.open()
    with pytest.raises(Overloaded):
        check_exactness(engine)
    assert engine.open() == 1
    engine.shutdown()
