"""Answers under schedules of faults: what the link does, and that no token is lost or changed."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings

from bench.fault_link import FaultLink, Frames, Strike
from bench.fault_runner import shrunk, tiny_arena
from bench.fault_schedule import Fault, Schedule, random_schedule
from bench.faults import FaultsBench
from tests.fakes.engine import HashEngine
from tests.fakes.fault_schedules import schedules
from tests.fakes.raw_edge import RawEdge
from tests.fakes.tiers import running_cloud
from updraft.errors import ConfigError
from updraft.v1 import collaboration_pb2 as pb

OTHER = pb.CloudFrame(sequence=70, notice=pb.Notice(message="of another session")).SerializeToString()


def passed(kind: str, *, fit: bool = False, size: int = 0) -> list[bytes]:
    """What arrives of six frames, the fourth of which is struck."""
    frames = Frames("down", deque([OTHER]))
    arrived: list[bytes] = []
    for number in range(1, 7):
        data = pb.CloudFrame(sequence=number, notice=pb.Notice(message=str(number))).SerializeToString()
        fault = Fault("frame", "down", kind, 4, size, fit) if number == 4 else None
        arrived += frames.after(data, fault)
    return arrived


def read(arrived: list[bytes]) -> list[tuple[int, str]]:
    """Number and content of each frame."""
    frames = [pb.CloudFrame.FromString(data) for data in arrived]
    return [(frame.sequence, frame.notice.message) for frame in frames]


WHOLE = [(number, str(number)) for number in range(1, 7)]


def test_frames_are_lost_doubled_and_swapped() -> None:
    assert read(passed("delay")) == WHOLE
    assert read(passed("drop")) == [*WHOLE[:3], *WHOLE[4:]]
    assert read(passed("duplicate")) == [*WHOLE[:4], *WHOLE[3:]]
    assert read(passed("swap")) == [*WHOLE[:3], WHOLE[4], WHOLE[3], WHOLE[5]]


def test_frames_of_the_past_and_of_others_are_delivered() -> None:
    replayed = read(passed("replay", size=1))
    assert len(replayed) == 7 and replayed[4] in WHOLE[:4] and replayed[5:] == WHOLE[4:]
    assert (70, "of another session") in read([passed("foreign", size=3)[4], OTHER])


@pytest.mark.parametrize("kind", ["drop", "duplicate", "replay", "foreign"])
def test_renumbered_frames_leave_no_gap(kind: str) -> None:
    arrived = read(passed(kind, fit=True))
    assert [number for number, _ in arrived] == list(range(1, len(arrived) + 1))
    assert len(arrived) == (5 if kind == "drop" else 7)


def test_garbled_frames_are_other_frames_or_none() -> None:
    for size in range(20):
        assert passed("garble", size=size)[3] != passed("delay")[3]
        assert len(passed("truncate", size=size)[3]) < len(passed("delay")[3])
    verdict = pb.CloudFrame(sequence=1, verdict=pb.Verdict(position=1)).SerializeToString()
    for kind in ("garble", "truncate"):  # nothing would show that another end of the answer arrived
        arrived = Frames("down", deque()).after(verdict, Fault("frame", "down", kind, 1))
        with pytest.raises(DecodeError):
            pb.CloudFrame.FromString(arrived[0])


async def test_a_link_without_faults_changes_nothing_and_sees_everything() -> None:
    async with running_cloud(HashEngine()) as cloud, FaultLink(cloud.address) as link:
        link.strike = strike = Strike()
        async with RawEdge(link.address) as edge:
            await edge.open([1, 2, 3], max_tokens=4, ignore_end=True)
            await edge.take_over()
            read = [frame.sequence for _ in range(5) if (frame := await edge.read()) is not None]
    assert read == [1, 2, 3, 4, 5]
    kinds = sorted((passed.way, passed.frame.WhichOneof("body")) for passed in strike.passed)
    assert kinds == [("down", "opened"), *[("down", "span")] * 4, ("up", "open"), ("up", "take_over")]
    assert {passed.stream for passed in strike.passed} == {1}


async def test_random_schedules_lose_and_change_nothing() -> None:
    async with tiny_arena(8) as arena:
        outcomes = await asyncio.gather(*(arena.outcome(random_schedule(seed, tokens=16)) for seed in range(40)))
    assert [outcome.told for outcome in outcomes if outcome.wrong] == []
    assert sum(len(outcome.struck) for outcome in outcomes) > 20 and sum(outcome.reopened for outcome in outcomes) > 5


@given(schedules())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_schedule_loses_and_changes_nothing(schedule: Schedule) -> None:
    async def check() -> None:
        async with tiny_arena(1) as arena:
            outcome = await arena.outcome(schedule)
        assert not outcome.wrong, f"{outcome.told}\n{schedule.to_json()}"

    asyncio.run(check())


async def test_a_mistake_in_the_cloud_is_found_and_told_with_few_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches that are wrong after every verdict."""
    monkeypatch.setattr(HashEngine, "truncate", _forgets_to_forget)
    schedule = Schedule(3, "draft", 0.0, 16, tuple(Fault("frame", "up", "delay", at, 1) for at in (2, 3, 4)))
    async with tiny_arena(1) as arena:
        outcome = await shrunk(arena, schedule)
    assert outcome.wrong and outcome.schedule.faults == ()
    assert "wrong:" in outcome.told and "->" in outcome.told


def _forgets_to_forget(engine: HashEngine, sequence: int, length: int) -> None:
    """What is cut away leaves a trace in what stays."""
    cache = engine._caches[sequence]
    del cache[length:]
    if cache:
        cache[-1] = (cache[-1] + 1) % 60


async def test_the_bench_counts_what_struck(tmp_path: Path) -> None:
    bench = FaultsBench(schedules=6, lanes=3, processes=1, tokens=8)
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert results["passed"] and len(steps) == bench.steps == 6
    row = results["rows"][0]
    assert (row["schedules"], row["wrong"], row["tokens"]) == (6, 0, 48)
    assert sum(results["struck"].values()) == row["faults"] and len(bench.tables(results)) == 1
    file = tmp_path / "failed.json"
    schedule = json.loads(random_schedule(5, tokens=8).to_json())
    file.write_text(json.dumps({"results": {"failed": [{"schedule": schedule}]}}))
    again = FaultsBench(replay=file)
    assert again.steps == 1 and (await again.measure(steps.append))["rows"][0]["schedules"] == 1


async def test_processes_share_the_schedules() -> None:
    results = await FaultsBench(schedules=4, processes=2, lanes=2, tokens=8).measure(lambda text: None)
    assert results["passed"] and results["rows"][0]["schedules"] == 4


@pytest.mark.parametrize("options", [{"schedules": 0}, {"lanes": 0}, {"tokens": 0}, {"processes": 0}, {"lanes": 65}])
def test_numbers_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FaultsBench(**options)


def test_a_file_that_is_no_schedule_is_refused(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", "3"):
        (tmp_path / "no.json").write_text(text)
        with pytest.raises(ConfigError):
            FaultsBench(replay=tmp_path / "no.json")
