"""The line after an answer."""

from __future__ import annotations

import pytest

from updraft.cli.printing import summary
from updraft.generation import Completion, Statistics


@pytest.mark.parametrize("degraded", [False, True])
def test_a_rate_is_printed_only_where_it_means_something(degraded: bool, capsys: pytest.CaptureFixture[str]) -> None:
    counts = Statistics(tokens=4, seconds=0.9, first_token_seconds=0.6)
    reason = "cloud_unavailable" if degraded else None
    completion = Completion("text", [1], "length", "draft", "m", 1, degraded, reason, counts)
    summary(completion, colour=False)
    line = capsys.readouterr().err
    assert "4 tokens in 0.9 s" in line
    assert ("tokens/s" in line) is not degraded


def test_tokens_that_left_early_are_counted_by_layer(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Statistics(tokens=9, exit_tokens={16: 2, 8: 5})
    summary(Completion("text", [1], "length", "exit", "m", 1, statistics=counts), colour=False)
    assert "5 left at layer 8 · 2 left at layer 16" in capsys.readouterr().err


def test_steps_and_tolerated_tokens_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Statistics(tokens=9, accepted=6, tolerated=2, steps=3, steps_rewritten=1)
    summary(Completion("text", [1], "length", "reason", "m", 1, statistics=counts), colour=False)
    line = capsys.readouterr().err
    assert "2 of 6 accepted tolerated" in line
    assert "1 of 3 steps rewritten" in line
