from __future__ import annotations

from typing import Any

import pytest

from updraft.errors import InvalidRequest, UnknownName
from updraft.mode_settings import SpanSettings
from updraft.modes import Mode, ModeSettings, parse_settings

DEEP: Any = []
for _ in range(2000):
    DEEP = [DEEP]


def test_settings_are_laid_over_the_defaults_field_by_field() -> None:
    defaults = ModeSettings(mode=Mode.SPAN, span=SpanSettings(window=7, escalate=3.0))
    parsed = parse_settings({"span": {"escalate": 2.5}}, defaults)
    assert (parsed.mode, parsed.span.window, parsed.span.escalate) == (Mode.SPAN, 7, 2.5)


@pytest.mark.parametrize("mode", ["fast", "", "EDGE", 3, ["draft"], None])
def test_an_unknown_mode_is_named_with_the_known_ones(mode: Any) -> None:
    with pytest.raises(
        UnknownName, match="edge, cloud, draft, lookup, cascade, span, route, reason, exit, solve, auto"
    ):
        parse_settings({"mode": mode})


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ("draft", "updraft"),
        ([], "updraft"),
        ({"modus": "draft"}, "updraft.modus"),
        ({"stop": 3}, "updraft.stop"),
        ({"stop": {"length": 0}}, "updraft.stop.length"),
        ({"stop": {"shortest": 9, "longest": 3}}, "updraft.stop"),
        ({"stop": {"risk": 1.5}}, "updraft.stop.risk"),
        ({"span": {"escalate": float("nan")}}, "updraft.span.escalate"),
        ({"span": {"escalate": 1.0, "hand_back": 2.0}}, "updraft.span"),
        ({"span": {"window": -1}}, "updraft.span.window"),
        ({"exit": {"criterion": "mood"}}, "updraft.exit.criterion"),
        ({"exit": {"threshold": 1.01}}, "updraft.exit.threshold"),
        ({"exit": {"threshold": float("nan")}}, "updraft.exit.threshold"),
        ({"exit": {"patience": 0}}, "updraft.exit.patience"),
        ({"exit": {"dtype": "int4"}}, "updraft.exit.dtype"),
        ({"exit": {"carry": "logits"}}, "updraft.exit.carry"),
        ({"exit": {"split": -1}}, "updraft.exit.split"),
        ({"local_only": "perhaps"}, "updraft.local_only"),
        ({"strategy": {"name": "rpc", "wave": DEEP}}, "updraft.strategy"),
        ({"verifier": {"kind": "number", "value": DEEP}}, "updraft.verifier"),
        ({"verifier": "self"}, "updraft.verifier"),
        ({"verifier": "self", "effort": "none"}, "updraft.verifier"),
    ],
)
def test_bad_settings_are_refused_with_the_path_of_the_field(data: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_settings(data)
    assert caught.value.param == param
