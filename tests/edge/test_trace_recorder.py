"""Traces of the agent: steps cover the answer, say what stood, and are recorded only where they are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.engine import HashEngine
from tests.fakes.tiers import complete, running_agent, running_cloud
from updraft.engine import open_engine
from updraft.generation import Completion, GenerationRequest, TokenEvent
from updraft.modes import ModeSettings, Origin
from updraft.traces.steps import Trace
from updraft_edge import trace_recorder


def request(mode: str, tokens: int = 24, *, trace: bool = True, **settings: object) -> GenerationRequest:
    chosen = ModeSettings.model_validate({"mode": mode, **settings})
    return GenerationRequest(prompt="Once", max_tokens=tokens, settings=chosen, ignore_end=True, trace=trace)


def checked(events: list[TokenEvent], completion: Completion) -> Trace:
    """The trace, whose steps must fit the answer without a gap."""
    trace = completion.trace
    assert trace is not None
    place = 0
    for step in trace.steps:
        assert step.position == place
        stood = [drafted.token for drafted in step.drafted[: step.stood]]
        assert stood == completion.token_ids[place : place + step.stood]
        if step.rejected and step.stood < step.committed:
            assert step.rejected[0].token != completion.token_ids[place + step.stood]
        place += step.committed
    assert place == len(completion.token_ids) == len(events)
    return trace


@pytest.mark.parametrize("mode", ["edge", "cloud", "draft", "span"])
async def test_steps_cover_the_answer(tiny_pair: tuple[Path, Path], mode: str) -> None:
    edge, cloud = (open_engine(str(path), context=256, sequences=2) for path in tiny_pair)
    async with running_cloud(cloud) as server, running_agent(edge, server.address) as agent:
        events, completion = await complete(agent, request(mode, span={"escalate": 0.5, "hand_back": 0.4}))
        trace = checked(events, completion)
    counts = completion.statistics
    assert trace.settings["mode"] == mode and trace.edge
    assert sum(step.cloud_passes for step in trace.steps) == counts.cloud_passes
    assert sum(step.waited_ms for step in trace.steps) == pytest.approx(1e3 * counts.waited_seconds)
    if mode == "draft":
        assert sum(len(step.drafted) for step in trace.steps) == counts.drafted
        assert sum(step.stood for step in trace.steps) >= counts.accepted
        assert any(step.rejected for step in trace.steps)
    if mode == "span":
        assert {step.kind for step in trace.steps} == {"commit", "hand_over"}
    if mode == "cloud":
        assert [step.kind for step in trace.steps] == ["hand_over"]


async def test_nothing_is_recorded_unasked() -> None:
    async with running_agent(HashEngine(), None) as agent:
        _, completion = await complete(agent, request("edge", trace=False))
    assert completion.trace is None


async def test_a_cloud_that_is_away_shows() -> None:
    async with running_agent(HashEngine(), "127.0.0.1:9", link={"reconnect_attempts": 1}) as agent:
        events, completion = await complete(agent, request("draft", 12))
        trace = checked(events, completion)
    assert completion.degraded
    assert [step.kind for step in trace.steps] == ["degraded", "alone"]
    assert all(event.origin is Origin.EDGE for event in events)


async def test_long_answers_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_recorder, "MOST_DRAFTED", 5)
    async with running_agent(HashEngine(), None) as agent:
        _, completion = await complete(agent, request("edge", 40))
    trace = completion.trace
    assert trace is not None and trace.cut
    assert sum(len(step.drafted) for step in trace.steps) <= 5
