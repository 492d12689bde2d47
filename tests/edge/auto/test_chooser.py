"""Mode `auto` in the agent: resolved before anything is composed, masked where the cloud cannot help, learned from."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud
from updraft.auto.history import read_history
from updraft.errors import InvalidRequest
from updraft.generation import ChatMessage, Completion, GenerationRequest
from updraft.modes import Mode, ModeSettings, parse_settings
from updraft.sampling import SamplingParams
from updraft_edge.agent import Agent
from updraft_edge.auto.surroundings import Surroundings


def request(text: str = "Once", **auto: Any) -> GenerationRequest:
    local = auto.pop("local_only", False)
    settings = ModeSettings.model_validate({"mode": "auto", "auto": {"random_share": 0.0, **auto}, "local_only": local})
    return GenerationRequest(prompt=text, max_tokens=12, settings=settings, ignore_end=True)


@contextlib.asynccontextmanager
async def pair(history: Path | str = "off", **settings: Any) -> AsyncIterator[Agent]:
    async with (
        running_cloud(HashEngine()) as cloud,
        running_agent(HashEngine(), cloud.address, auto_history=str(history), **settings) as agent,
    ):
        yield agent


async def ask(agent: Agent, asked: GenerationRequest) -> Completion:
    return (await complete(agent, asked))[1]


@pytest.mark.parametrize("mode", ["edge", "cloud", "draft", "cascade", "lookup", "span"])
async def test_a_choice_is_written_in_its_mode(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "auto.jsonl"
    async with pair(path) as agent:
        completion = await ask(agent, request(modes=[mode]))
    assert completion.mode == "auto" and completion.chosen is not None
    assert completion.chosen.split()[0] == mode and not completion.degraded
    (record,) = read_history(path)
    assert record.arm == completion.chosen and record.outcome.tokens == 12
    assert {name.split()[0] for name in record.expected} == {mode}
    if mode == "edge":
        assert record.outcome.unverified == 12 and 0.0 < record.outcome.probability <= 1.0
    if mode in ("cloud", "draft", "lookup"):
        assert record.outcome.unverified == 0


async def test_local_requests_stay_local() -> None:
    async with pair() as agent:
        completion = await ask(agent, request(local_only=True))
    assert (completion.mode, completion.chosen) == ("auto", "edge")
    assert completion.statistics.bytes_up == 0


async def test_without_a_cloud_the_edge_writes() -> None:
    async with running_agent(HashEngine(), None, auto_history="off") as agent:
        completion = await ask(agent, request(modes=["cloud"]))
    assert completion.chosen == "edge" and not completion.degraded


async def test_with_an_open_breaker_the_edge_writes_and_degrading_teaches(tmp_path: Path) -> None:
    path = tmp_path / "auto.jsonl"
    link = {"reconnect_attempts": 1, "breaker_failures": 1, "probe_interval_s": 60}
    async with running_agent(HashEngine(), "127.0.0.1:9", link=link, auto_history=str(path)) as agent:
        first = await ask(agent, request(modes=["draft"]))
        second = await ask(agent, request(modes=["draft"]))
    assert first.degraded and first.chosen == "draft"
    assert second.chosen == "edge" and not second.degraded
    assert read_history(path)[0].reward == 0.0


async def test_other_modes_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "auto.jsonl"
    async with pair(path) as agent:
        asked = GenerationRequest(prompt="Once", max_tokens=4, settings=ModeSettings(mode=Mode.EDGE))
        completion = await ask(agent, asked)
    assert (completion.mode, completion.chosen) == ("edge", None)
    assert not path.exists()


async def test_the_agents_own_mode_may_be_auto(tmp_path: Path) -> None:
    path = tmp_path / "auto.jsonl"
    async with pair(path, mode=ModeSettings(mode=Mode.AUTO)) as agent:
        for _ in range(5):
            completion = await ask(agent, GenerationRequest(prompt="Once", max_tokens=6, ignore_end=True))
            assert completion.mode == "auto"
        await agent.chooser.measure_link()
        await ask(agent, GenerationRequest(prompt="Once", max_tokens=6, ignore_end=True))
    records = read_history(path)
    assert len(records) == 6 and len({record.pair for record in records}) == 1
    trip = records[-1].situation.round_trip_s
    assert trip is not None and 0.0 < trip < 5.0
    async with pair(path, mode=ModeSettings(mode=Mode.AUTO)) as agent:
        here = agent.chooser.situation(GenerationRequest(prompt="Once"), prompt_tokens=4, tokens=6)
    assert here.round_trip_s is not None  # known from the run before


async def test_answers_that_are_broken_off_teach_nothing(tmp_path: Path) -> None:
    path = tmp_path / "auto.jsonl"
    async with pair(path) as agent:
        events = agent.generate(request(modes=["draft"]))
        await anext(events)
        await events.aclose()
        await asyncio.sleep(0)
    assert not path.exists()


async def test_situations_are_numbers_of_the_request_and_the_device() -> None:
    async with pair() as agent:
        chat = GenerationRequest(
            messages=[ChatMessage("user", "f(1) = {2}")], sampling=SamplingParams(temperature=0.7), max_tokens=9
        )
        here = agent.chooser.situation(chat, prompt_tokens=7, tokens=9)
        raw = agent.chooser.situation(GenerationRequest(prompt_tokens=[1, 2]), prompt_tokens=2, tokens=9)
    assert (here.prompt_tokens, here.tokens, here.sampled, here.chat) == (7, 9, True, True)
    assert here.digits == pytest.approx(0.2) and here.marks == pytest.approx(0.5)
    assert (raw.sampled, raw.chat, raw.digits, raw.marks) == (False, False, 0.0, 0.0)
    assert all(math.isfinite(value) for value in (here.edge_s, here.cloud_s, here.agreement, here.load))


async def test_unknown_modes_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="auto.modes"):
        parse_settings({"mode": "auto", "auto": {"modes": ["edge", "auto"]}})
    with pytest.raises(InvalidRequest, match="auto.modes"):
        parse_settings({"mode": "auto", "auto": {"modes": []}})


def test_a_battery_shows(tmp_path: Path) -> None:
    (tmp_path / "BAT0").mkdir()
    status = tmp_path / "BAT0" / "status"
    status.write_text("Discharging\n")
    assert Surroundings(supplies=tmp_path).battery
    status.write_text("Charging\n")
    surroundings = Surroundings(supplies=tmp_path)
    assert not surroundings.battery and 0.0 <= surroundings.load <= 1.0
    status.write_text("Discharging\n")
    assert not surroundings.battery  # still fresh
    assert not Surroundings(supplies=tmp_path / "missing").battery
