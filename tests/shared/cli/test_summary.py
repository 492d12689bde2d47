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
