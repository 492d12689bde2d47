"""A request's profile decides mode and settings, and is refused on any pair but its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.edge.test_agent import ask, edge_engine
from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud
from tests.shared.test_profiles import profile
from updraft.engine.base import ModelInfo
from updraft.errors import ConfigError, ProfileMismatch, UnknownName
from updraft.generation import GenerationRequest
from updraft.modes import Mode, ModeSettings
from updraft.profiles import Profile, profile_path, save_profile


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def named(**changes: Any) -> GenerationRequest:
    return ask("edge", temperature=0.0, settings=ModeSettings(profile="mine", **changes))


def of(edge: ModelInfo, cloud: ModelInfo, **changes: Any) -> Profile:
    return profile(
        edge={"name": edge.name, "fingerprint": edge.fingerprint},
        cloud={"name": cloud.name, "fingerprint": cloud.fingerprint},
        tokenizer_hash=edge.tokenizer_hash,
        **changes,
    )


async def test_a_profile_decides_what_the_request_leaves_open() -> None:
    engine, large = edge_engine(), HashEngine()
    fitted = of(engine.info, large.info, mode="draft", settings={"stop": {"rule": "fixed", "length": 3}})
    save_profile(fitted, profile_path("mine"))
    async with running_cloud(large) as cloud, running_agent(engine, cloud.address) as agent:
        _, drafted = await complete(agent, named())
        assert drafted.mode == "draft"
        assert drafted.statistics.drafted <= 3 * drafted.statistics.round_trips
        _, alone = await complete(agent, named(mode=Mode.EDGE))
        assert alone.mode == "edge"


async def test_another_edge_model_is_refused_when_it_is_asked_for() -> None:
    engine, large = edge_engine(), HashEngine()
    save_profile(profile(), profile_path("mine"))
    async with running_cloud(large) as cloud, running_agent(engine, cloud.address) as agent:
        with pytest.raises(ProfileMismatch, match="the edge model here is hash"):
            await complete(agent, named())
        await complete(agent, ask("draft"))  # the agent goes on


async def test_another_cloud_model_is_refused() -> None:
    engine, large = edge_engine(), HashEngine()
    fitted = of(engine.info, HashEngine(own_seed=9).info)
    save_profile(fitted, profile_path("mine"))
    async with running_cloud(large) as cloud, running_agent(engine, cloud.address) as agent:
        with pytest.raises(ProfileMismatch, match="the cloud model here is hash"):
            await complete(agent, named())
        _, alone = await complete(agent, named(local_only=True))  # no cloud is asked for
        assert alone.mode == "edge"


async def test_a_cloud_that_is_away_does_not_refuse_a_profile() -> None:
    engine = edge_engine()
    fitted = of(engine.info, HashEngine().info, mode="draft", settings={})
    save_profile(fitted, profile_path("mine"))
    async with running_agent(engine, "127.0.0.1:1", link={"connect_timeout_s": 0.3}) as agent:
        _, answer = await complete(agent, named())
        assert answer.degraded


@pytest.mark.parametrize("kind", ["missing", "damaged", "of another pair"])
async def test_the_agents_own_profile_is_checked_before_it_serves(kind: str) -> None:
    path = profile_path("mine")
    if kind == "damaged":
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    if kind == "of another pair":
        save_profile(profile(), path)
    engine = edge_engine()
    with pytest.raises((UnknownName, ConfigError)):
        async with running_agent(engine, None, mode=ModeSettings(profile="mine")):
            pass
