"""Schedules of faults: drawn from a seed, kept as JSON, refused where they make no sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from bench.fault_schedule import Fault, Schedule, random_schedule
from tests.fakes.fault_schedules import schedules
from updraft.errors import ConfigError
from updraft.failpoints import arm, disarm


@given(schedules())
def test_a_schedule_is_the_same_after_a_file(schedule: Schedule) -> None:
    assert Schedule.from_json(schedule.to_json()) == schedule


@given(some.integers(0, 10**6))
def test_a_seed_makes_one_schedule_and_its_failpoints_can_be_armed(seed: int) -> None:
    schedule = random_schedule(seed)
    assert random_schedule(seed) == schedule
    assert 1 <= len(schedule.faults) <= 4
    arm(schedule.points)
    disarm()


def test_there_are_a_hundred_answers_whatever_the_number_of_schedules() -> None:
    asked = {(one.seed, one.mode, one.temperature) for one in map(random_schedule, range(2000))}
    assert 50 < len(asked) <= 100


@pytest.mark.parametrize(
    "changes",
    [
        {"level": "word"},
        {"way": "left"},
        {"kind": "melt"},
        {"level": "bytes", "kind": "foreign"},
        {"at": 0},
        {"size": -1},
    ],
)
def test_faults_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Fault(**{"level": "frame", "way": "up", "kind": "cut", "at": 1, **changes})


@pytest.mark.parametrize("text", ["", "[]", "7", "{}", '{"mode": "draft"}', '{"faults": [{}]}', '{"faults": 3}'])
def test_what_is_no_schedule_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "schedule.json"
    file.write_text(text)
    with pytest.raises(ConfigError):
        Schedule.read(file)
    with pytest.raises(ConfigError):
        Schedule.read(tmp_path / "missing.json")


def test_only_what_is_lost_in_silence_lets_the_edge_finish_alone() -> None:
    def with_fault(**fault: Any) -> Schedule:
        return Schedule(1, "draft", 0.0, 8, (Fault(**{"level": "frame", "way": "up", "at": 1, **fault}),))

    assert not with_fault(kind="cut").may_degrade and not with_fault(kind="delay", size=20).may_degrade
    assert not with_fault(kind="duplicate").may_degrade
    assert with_fault(kind="drop").may_degrade and with_fault(level="bytes", kind="stall", size=9).may_degrade
    plain = with_fault(kind="drop").without(0)
    assert not plain.may_degrade and not plain.faults
    assert json.loads(plain.to_json())["mode"] == "draft"
