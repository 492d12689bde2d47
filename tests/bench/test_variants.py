"""Which variants a bench compares."""

from __future__ import annotations

import pytest

from bench.variants import variants
from updraft.errors import ConfigError, UnknownName
from updraft.modes import Mode


def test_each_mode_is_one_variant() -> None:
    found = variants(tuple(Mode))
    assert [variant.name for variant in found] == [mode.value for mode in Mode]
    assert [variant.mode for variant in found] == list(Mode)


def test_draft_comes_once_for_each_stop_rule() -> None:
    found = variants(("cloud", "draft"), ("fixed:4", "risk", "risk:0.3", "entropy:1.5", "fixed:4"))
    assert [variant.name for variant in found] == [
        "cloud",
        "draft fixed:4",
        "draft risk",
        "draft risk:0.3",
        "draft entropy:1.5",
    ]
    stops = [variant.settings.stop for variant in found[1:]]
    assert [stop.rule for stop in stops] == ["fixed", "risk", "risk", "entropy"]
    assert (stops[0].length, stops[1].risk, stops[2].risk, stops[3].entropy) == (4, None, 0.3, 1.5)


@pytest.mark.parametrize("stop", ["", "fast", "fixed:", "fixed:0", "fixed:many", "risk:2", "entropy:-1", "fixed:4.5"])
def test_a_malformed_stop_rule_is_refused(stop: str) -> None:
    with pytest.raises(ConfigError) as caught:
        variants(("draft",), (stop,))
    assert "fixed:4" in caught.value.remedy


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UnknownName):
        variants(("fast",))
