"""An agent with an acceptance head, and how its rule learns, against a real cloud service on loopback."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.tiers import complete, running_agent, running_cloud, until
from updraft.acceptance_head import FEATURES, AcceptanceHead, write_acceptance_head
from updraft.engine import open_engine
from updraft.engine.base import Engine
from updraft.errors import InvalidRequest, WrongTrunk
from updraft.generation import GenerationRequest
from updraft.modes import parse_settings
from updraft.sampling import SamplingParams


def ask(mode: str, **stop: Any) -> GenerationRequest:
    return GenerationRequest(
        prompt="hello there",
        sampling=SamplingParams(seed=5),
        max_tokens=40,
        settings=parse_settings({"mode": mode, "stop": stop}),
        ignore_end=True,
    )


def load(path: Path) -> Engine:
    return open_engine(path, context=256, sequences=2, threads=1)


def head_of(engine: Engine, path: Path, *, fingerprint: str | None = None) -> Path:
    """A head with small random weights for this engine's model."""
    rng, narrow, width = np.random.default_rng(0), 4, engine.info.width
    shapes = {
        "scale": (width,),
        "project.weight": (narrow, width + FEATURES),
        "project.bias": (narrow,),
        "out.weight": (narrow + FEATURES,),
        "out.bias": (1,),
    }
    tensors = {name: (0.1 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    write_acceptance_head(path, AcceptanceHead(tensors, fingerprint or engine.info.fingerprint, "cloud"))
    return path


async def test_a_head_stops_runs_and_the_text_stays_the_clouds(tiny_pair: tuple[Path, Path], tmp_path: Path) -> None:
    edge, large = load(tiny_pair[0]), load(tiny_pair[1])
    head = head_of(edge, tmp_path / "head.safetensors")
    async with (
        running_cloud(large) as cloud,
        running_agent(edge, cloud.address, acceptance_head=head, context=256) as agent,
    ):
        _, alone = await complete(agent, ask("cloud"))
        for stop in ({"predictor": "head"}, {"predictor": "head", "risk": 0.5}, {"predictor": "confidence"}):
            _, drafted = await complete(agent, ask("draft", rule="risk", **stop))
            assert drafted.token_ids == alone.token_ids
            assert drafted.statistics.cloud_passes <= alone.statistics.cloud_passes


async def test_a_request_for_a_head_that_is_not_there_is_refused_and_leaves_nothing(
    tiny_pair: tuple[Path, Path],
) -> None:
    edge, large = load(tiny_pair[0]), load(tiny_pair[1])
    async with running_cloud(large) as cloud, running_agent(edge, cloud.address, context=256) as agent:
        for _ in range(3):  # more often than the engine has sequences
            with pytest.raises(InvalidRequest, match="has none") as caught:
                await complete(agent, ask("draft", predictor="head"))
            assert caught.value.param == "updraft.stop.predictor"
        _, answer = await complete(agent, ask("draft"))
        assert len(answer.token_ids) == 40 and not answer.degraded


async def test_an_agent_does_not_start_with_a_head_of_another_model(
    tiny_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    edge = load(tiny_pair[0])
    head = head_of(edge, tmp_path / "head.safetensors", fingerprint="another")
    before = set(threading.enumerate())
    with pytest.raises(WrongTrunk, match="another"):
        async with running_agent(edge, None, acceptance_head=head):
            pass
    new = set(threading.enumerate()) - before
    assert not [thread for thread in new if thread.name == "updraft-engine"], "its engine loop goes on"


async def test_costs_are_measured_while_it_answers(tiny_pair: tuple[Path, Path]) -> None:
    edge, large = load(tiny_pair[0]), load(tiny_pair[1])
    async with running_cloud(large) as cloud, running_agent(edge, cloud.address, context=256) as agent:
        before = agent.costs.draft_s
        for _ in range(2):
            _, answer = await complete(agent, ask("draft", rule="fixed", length=3))
        costs = agent.costs
        # The first verdict of an answer waits for the prompt and is no price.
        assert 0 < costs.verdicts <= 2 * (answer.statistics.round_trips - 1) + 1
        assert costs.draft_s != before and costs.network_s >= 0.0 and costs.worked_s > 0.0
        await until(lambda: agent.costs.rate > 0)
