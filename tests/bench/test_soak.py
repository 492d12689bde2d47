"""Real processes: killed and started again without a lost token, and watched for what grows."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from bench.fault_processes import MortalCloud, children, random_death, tiny_models
from bench.faults import FaultsBench
from bench.soak import SoakBench, judged
from bench.watch import free_port, held, scraped
from tests.fakes.tiers import until
from updraft.config import CloudSettings, ListenSettings
from updraft.errors import ConfigError
from updraft.failpoints import PANIC_STATUS, VARIABLE, arm, disarm


async def test_processes_that_die_are_counted_and_started_again() -> None:
    with tiny_models() as (_, model):
        settings = CloudSettings(model=model, context=128, sequences=2, listen=ListenSettings(port=0), drain_s=0.1)
        async with MortalCloud(settings) as cloud:
            address, front, engine = cloud.address, cloud.front, cloud.engine
            assert front is not None and engine is not None and engine in children(front)
            cloud.kill("engine")
            await until(lambda: cloud.deaths == {"front": 0, "engine": 1}, seconds=60)
            assert cloud.front == front
            cloud.kill("front")
            await until(lambda: cloud.deaths["front"] == 1 and cloud.front is not None, seconds=60)
            assert cloud.address == address
    assert VARIABLE not in os.environ


async def test_no_token_is_lost_while_processes_are_killed() -> None:
    with tiny_models() as (edge, model):
        bench = FaultsBench(schedules=3, lanes=3, tokens=12, model=model, edge_model=edge, context=128)
        results = await bench.measure(lambda text: None)
    assert results["passed"], results["failed"]
    assert results["rows"][0]["tokens"] == 36


@pytest.mark.parametrize("seed", range(20))
def test_every_random_death_can_be_armed(seed: int) -> None:
    assert "=panic@" in random_death(seed) and PANIC_STATUS
    arm(random_death(seed))
    disarm()


async def test_a_short_soak_watches_all_processes(tmp_path: Path) -> None:
    bench = SoakBench(minutes=0.05, lanes=2, tokens=8)
    results = await bench.measure(lambda text: None)
    assert results["answers"] > 0 and not results["failed"] and not results["sessions_left"]
    kinds = {(row["process"], row["what"]) for row in results["rows"]}
    assert {("front", "memory"), ("engine", "files"), ("edge", "threads"), ("cloud", "sequences")} <= kinds
    assert bench.plot(results, tmp_path / "soak.png") and len(bench.tables(results)) == 1


def test_what_grows_is_found() -> None:
    times = [float(number) for number in range(100)]
    flat = [{"front": {"memory": 1e8, "files": 20.0}} for _ in times]
    leaking = [{"front": {"memory": 1e8 + at * 1e6, "files": 20.0 + at}} for at in times]
    assert all(abs(row["growth"]) < 1e-3 for row in judged(list(flat), times))
    assert all(row["growth"] > row["allowed"] for row in judged(list(leaking), times))
    assert judged([{"front": {}}] * 9, times) == []


async def test_what_has_gone_holds_nothing() -> None:
    mine = held(os.getpid())
    assert mine["memory"] > 1e6 and mine["files"] > 2 and mine["threads"] >= 1
    assert held(None) == {} == held(2**22 + 1)
    assert await asyncio.to_thread(scraped, f"127.0.0.1:{free_port()}") == {}
    assert children(2**22 + 1) == []


@pytest.mark.parametrize("options", [{"minutes": 0.0}, {"minutes": -1.0}, {"lanes": 0}, {"lanes": 65}])
def test_a_soak_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SoakBench(**options)
