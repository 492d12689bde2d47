"""Failpoints: what arms them, what they do, and that nothing happens otherwise."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.house import ROOT
from updraft import failpoints
from updraft.errors import ConfigError, EngineFailure
from updraft.failpoints import POINTS, arm, armed, disarm, reach, reach_async


@pytest.fixture(autouse=True)
def nothing_armed() -> Iterator[None]:
    disarm()
    yield
    disarm()


def fired(name: str, times: int) -> list[bool]:
    """At which of so many visits the point dropped something."""
    return [reach(name) for _ in range(times)]


async def test_nothing_happens_where_nothing_is_armed() -> None:
    assert not any(reach(name) for name in POINTS)
    assert not await reach_async("front.before_write")


async def test_each_action_does_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    arm("prefill=sleep(20);verdict.before_ack=drop;verdict.after_commit=error")
    assert not reach("prefill") and slept == [0.02]
    assert reach("verdict.before_ack") and await reach_async("verdict.before_ack")
    with pytest.raises(EngineFailure, match=r"verdict\.after_commit"):
        reach("verdict.after_commit")
    assert not reach("span.before_ack")


def test_a_panic_ends_the_process_at_once() -> None:
    code = (
        "from updraft.failpoints import *\narm_from_environment()\nreach('prefill')\n"
        "try:\n    reach('prefill')\nfinally:\n    print('never')"
    )
    environment = {"PYTHONPATH": str(ROOT / "shared"), failpoints.VARIABLE: "prefill=panic@2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (failpoints.PANIC_STATUS, "")
    assert "FAILPOINTS ARE ARMED" in done.stderr


def test_counts_bound_what_fires() -> None:
    with armed("prefill=drop*2"):
        assert fired("prefill", 4) == [True, True, False, False]
    with armed("prefill=drop*1@3"):
        assert fired("prefill", 5) == [False, False, True, False, False]
    assert not reach("prefill")


def test_probabilities_come_from_the_seed() -> None:
    with armed("seed=3;prefill=drop:0.3"):
        first = fired("prefill", 400)
    with armed("prefill=drop:0.3;seed=3"):
        assert fired("prefill", 400) == first
    with armed("seed=4;prefill=drop:0.3"):
        assert fired("prefill", 400) != first
    assert 60 < sum(first) < 180


def test_arming_is_loud_and_replaces_what_was_armed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        arm("prefill=drop")
    assert "FAILPOINTS ARE ARMED" in caplog.text
    arm("span.before_ack=drop")
    assert reach("span.before_ack") and not reach("prefill")


def test_the_environment_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(failpoints.VARIABLE, raising=False)
    failpoints.arm_from_environment()
    assert not reach("prefill")
    monkeypatch.setenv(failpoints.VARIABLE, "prefill=drop")
    failpoints.arm_from_environment()
    assert reach("prefill")


@pytest.mark.parametrize(
    "specification",
    [
        "nowhere=panic",
        "prefill",
        "prefill=",
        "prefill=explode",
        "prefill=sleep",
        "prefill=sleep(-1)",
        "prefill=sleep(60001)",
        "prefill=error:1.5",
        "prefill=error:-0.1",
        "prefill=error*",
        "prefill=error*-1",
        "prefill=error@x",
        "seed=x;prefill=error",
        "seed=1;seed=2",
        "=panic",
    ],
)
def test_what_cannot_be_armed_is_refused_and_changes_nothing(specification: str) -> None:
    arm("prefill=drop")
    with pytest.raises(ConfigError):
        arm(specification)
    assert reach("prefill")


@given(st.text(st.characters(codec="ascii"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        arm(text)
    except ConfigError:
        pass
    disarm()


def test_the_documentation_lists_every_point() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert [name for name in POINTS if f"`{name}`" not in page] == []
