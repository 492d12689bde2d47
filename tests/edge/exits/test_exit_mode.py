"""Mode `exit` on both tiers: confident tokens leave early, the cloud goes on from hidden states where none is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge.exits.agents import Reference, plan_of
from tests.edge.test_faults import relay_to
from tests.fakes.engine import HashEngine
from tests.fakes.staged_engine import FakeStagedEngine
from tests.fakes.tiers import complete, idle, running_agent, running_cloud, until
from updraft.errors import BadModelFile, ConfigError, InvalidRequest
from updraft.exits.aids import exits_digest
from updraft.exits.calibration import ExitCalibration
from updraft.exits.criteria import make_criterion
from updraft.exits.heads import ExitHead, write_head
from updraft.exits.isotonic import Curve
from updraft.generation import Completion, GenerationRequest, TokenEvent
from updraft.modes import Origin, parse_settings
from updraft.sampling import SamplingParams

LENGTH = 40
PROMPT = "hello there"
NOISE = {"exit_noise": 1.0}


def ask(mode: str = "exit", *, temperature: float = 0.8, prompt: str = PROMPT, **exits: Any) -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt,
        sampling=SamplingParams(temperature=temperature, seed=5, frequency_penalty=0.2),
        max_tokens=LENGTH,
        settings=parse_settings({"mode": mode, "exit": exits}),
        ignore_end=True,
    )


def edge_engine(**options: Any) -> FakeStagedEngine:
    """The lower two of three stages."""
    return FakeStagedEngine(**{"deepest": 1, **NOISE, **options})


def cloud_engine(**options: Any) -> FakeStagedEngine:
    return FakeStagedEngine(**{**NOISE, **options})


def origins(events: list[TokenEvent]) -> list[tuple[int, Origin, int | None]]:
    return [(event.token, event.origin, event.layer) for event in events]


async def answers(*requests: GenerationRequest, **options: Any) -> list[tuple[list[TokenEvent], Completion]]:
    small, large = edge_engine(**options), cloud_engine(**options)
    async with running_cloud(large) as cloud, running_agent(small, cloud.address) as agent:
        found = [await complete(agent, request) for request in requests]
        await until(lambda: small.open_sequences == 0 and idle(cloud))
    assert not any(completion.degraded for _, completion in found)
    return found


@pytest.mark.parametrize("carry", ["hidden", "tokens"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("split", [0, 1])
async def test_never_confident_is_the_whole_model_in_the_cloud(carry: str, temperature: float, split: int) -> None:
    exits: dict[str, Any] = {"threshold": 1.0, "carry": carry, "split": split}
    alone, asked = await answers(ask("cloud", temperature=temperature), ask(temperature=temperature, **exits))
    assert asked[1].token_ids == alone[1].token_ids
    assert asked[1].text == alone[1].text
    assert {event.origin for event in asked[0]} == {Origin.CLOUD}
    statistics = asked[1].statistics
    assert (statistics.exit_tokens, statistics.round_trips, statistics.cloud_share) == ({}, LENGTH, 1.0)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
async def test_states_rounded_on_the_wire_give_the_text_of_an_engine_that_rounds_at_its_split(dtype: str) -> None:
    exits: dict[str, Any] = {"threshold": 1.0, "dtype": dtype}
    alone, asked = await answers(ask("cloud"), ask(**exits), carry=dtype)
    assert asked[1].token_ids == alone[1].token_ids


@given(st.floats(0.0, 1.0), st.sampled_from(["probability", "entropy", "patience"]), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_it_writes_what_the_exits_and_the_whole_model_write(threshold: float, criterion: Any, seed: int) -> None:
    exits = {"threshold": threshold, "criterion": criterion}
    plan = plan_of(make_criterion(criterion, threshold=threshold))
    request = ask(**exits)
    prompt = HashEngine().tokenizer.encode(PROMPT)
    reference = Reference(plan, request.sampling, prompt, **NOISE, seed=seed).write(LENGTH, asks=True)

    async def check() -> None:
        hidden, tokens = await answers(request, ask(**exits, carry="tokens"), seed=seed)
        for events, completion in (hidden, tokens):
            assert [(event.token, event.layer) for event in events] == [(step.token, step.layer) for step in reference]
            assert all((event.origin is Origin.EDGE) == (event.layer is not None) for event in events)
            left = completion.statistics.exit_tokens
            assert sum(left.values()) == completion.statistics.edge_tokens
            assert left == {n: c for n in (2, 4) if (c := sum(event.layer == n for event in events))}
            assert completion.statistics.round_trips == completion.statistics.cloud_tokens

    asyncio.run(check())


async def test_hidden_states_spare_the_cloud_the_edges_layers() -> None:
    hidden, tokens = await answers(ask(threshold=0.6), ask(threshold=0.6, carry="tokens"))
    assert origins(hidden[0]) == origins(tokens[0])
    assert 0 < hidden[1].statistics.cloud_share < 1
    assert hidden[1].statistics.cloud_layers < tokens[1].statistics.cloud_layers
    assert hidden[1].statistics.hidden_bytes_up > 0 == tokens[1].statistics.hidden_bytes_up


async def test_without_a_cloud_the_deepest_exit_writes_what_no_exit_is_sure_of() -> None:
    plan = plan_of(make_criterion("probability", threshold=0.6))
    request = ask(threshold=0.6)
    prompt = HashEngine().tokenizer.encode(PROMPT)
    reference = Reference(plan, request.sampling, prompt, **NOISE).write(LENGTH, asks=False)
    async with running_agent(edge_engine(), None) as agent:
        for mode in ("exit", "edge"):
            events, completion = await complete(agent, ask(mode, threshold=0.6))
            assert [(event.token, event.layer) for event in events] == [(step.token, step.layer) for step in reference]
            assert not completion.degraded


@pytest.mark.parametrize("carry", ["hidden", "tokens"])
@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.0])
async def test_when_the_cloud_dies_the_edge_writes_on_from_where_it_stood(carry: str, threshold: float) -> None:
    request = ask(threshold=threshold, carry=carry)
    plan = plan_of(make_criterion("probability", threshold=threshold))
    prompt = HashEngine().tokenizer.encode(PROMPT)
    reference = Reference(plan, request.sampling, prompt, **NOISE)
    link = {"reconnect_attempts": 1, "connect_timeout_s": 0.5}
    events: list[TokenEvent] = []
    async with running_agent(edge_engine(), "127.0.0.1:1", link=link) as agent:
        completion = None
        async for item in agent.generate(request):
            if isinstance(item, Completion):
                completion = item
            else:
                events.append(item)
    assert completion is not None and completion.degraded == (threshold > 0)
    assert [event.token for event in events] == [step.token for step in reference.write(LENGTH, asks=False)]


@pytest.mark.parametrize("carry", ["hidden", "tokens"])
async def test_a_cloud_that_dies_in_mid_answer_is_replaced_by_the_deepest_exit(carry: str) -> None:
    request = ask(threshold=0.6, carry=carry)
    plan = plan_of(make_criterion("probability", threshold=0.6))
    prompt = HashEngine().tokenizer.encode(PROMPT)
    reference = Reference(plan, request.sampling, prompt, **NOISE)
    async with running_cloud(cloud_engine()) as cloud, relay_to(cloud.address) as relay:
        async with running_agent(edge_engine(), relay.address) as agent:
            answer = agent.generate(request)
            events = [await anext(answer) for _ in range(12)]
            relay.refuse(True)
            relay.cut()
            items = [*events, *[item async for item in answer]]
    completion = items.pop()
    assert isinstance(completion, Completion) and completion.degraded
    written = [item for item in items if isinstance(item, TokenEvent)]
    assert len(written) == LENGTH
    last = max(event.index for event in written if event.origin is Origin.CLOUD)
    together = reference.write(last + 1, asks=True)
    assert origins(written[: last + 1]) == [
        (step.token, Origin.CLOUD if step.layer is None else Origin.EDGE, step.layer) for step in together
    ]
    alone = reference.write(LENGTH - last - 1, asks=False)
    assert [(event.token, event.layer) for event in written[last + 1 :]] == [(step.token, step.layer) for step in alone]


@pytest.mark.parametrize("threshold", [0.6, 1.0])
async def test_a_stream_that_is_cut_is_opened_again_and_the_states_go_up_again(threshold: float) -> None:
    request = ask(threshold=threshold)
    async with running_cloud(cloud_engine()) as cloud, relay_to(cloud.address, delay_s=0.001) as relay:
        async with running_agent(edge_engine(), cloud.address) as near:
            expected, _ = await complete(near, request)
        async with running_agent(edge_engine(), relay.address, link={"reconnect_attempts": 9}) as agent:
            events: list[TokenEvent] = []
            async for item in agent.generate(request):
                if isinstance(item, Completion):
                    completion = item
                    continue
                events.append(item)
                if item.index in (7, 19):
                    relay.cut()
    assert origins(events) == origins(expected)
    assert not completion.degraded
    assert completion.statistics.reopened > 0


async def test_the_other_modes_draft_from_the_exits() -> None:
    alone, drafted, span = await answers(ask("cloud"), ask("draft", threshold=0.3), ask("span"))
    assert drafted[1].token_ids == alone[1].token_ids
    assert {event.layer for event in drafted[0] if event.origin is Origin.EDGE} <= {2, 4}
    assert {event.layer for event in span[0] if event.origin is Origin.EDGE} <= {2, 4}


async def test_an_edge_that_holds_the_whole_model_can_write_alone_with_it() -> None:
    async with running_agent(cloud_engine(), None) as agent:
        events, completion = await complete(agent, ask("edge", threshold=1.0, deepest=2))
        _, early = await complete(agent, ask("edge", threshold=1.0))
        information = agent.info()
    alone, _ = await answers(ask("cloud"), ask("cloud"))
    assert completion.token_ids == alone[1].token_ids != early.token_ids
    assert ({event.layer for event in events}, early.statistics.exit_tokens) == ({None}, {4: LENGTH})
    assert information["edge"]["exits"] == [2, 4]  # type: ignore[index]
    assert "exit" in information["modes"]  # type: ignore[operator]


class FolderEngine(FakeStagedEngine):
    """With a folder, in which a calibration and heads may lie."""

    def __init__(self, folder: Path, heads: tuple[int, ...] = ()) -> None:
        super().__init__(deepest=1, **NOISE)  # type: ignore[arg-type]
        self.folder = folder
        parts = [
            SimpleNamespace(stage=n, file=f"{n}.onnx", external=(), heads=f"{n}.safetensors" if n in heads else None)
            for n in (0, 1)
        ]
        names = [name for part in parts for name in (part.file, part.heads)]
        self.manifest = SimpleNamespace(exits=parts, files={name: SimpleNamespace(sha256=name) for name in names})


def calibrated(folder: Path, *, model: str | None = None) -> None:
    """At stage 0 only probabilities above 0.8 mean anything; at stage 1 nothing does."""
    low = Curve((0.0, 0.8, 0.80001, 1.0), (0.1, 0.1, 0.9, 0.9), 100)
    flat = Curve((0.0,), (0.2,), 100)
    curves = {(0, "probability"): low, (1, "probability"): flat}
    outlooks = {(0, "probability"): Curve((0.0, 1.0), (0.1, 1.0), 100), (1, "probability"): flat}
    ExitCalibration(model or exits_digest(FolderEngine(folder)), curves, outlooks).save(folder)


async def test_a_calibration_in_the_models_folder_is_used(tmp_path: Path) -> None:
    calibrated(tmp_path)
    engine = FolderEngine(tmp_path)
    async with running_cloud(cloud_engine()) as cloud, running_agent(engine, cloud.address) as agent:
        exits: dict[str, Any] = {"threshold": 0.5, "calibrated": True, "hand_over": 0.4}
        events, completion = await complete(agent, ask(**exits))
        uncalibrated, _ = await complete(agent, ask(threshold=0.5))
    statistics = completion.statistics
    assert 0 < statistics.edge_tokens < LENGTH
    assert set(statistics.exit_tokens) == {2}
    assert {event.layer for event in events} == {2, None}
    assert {event.layer for event in uncalibrated} == {2, 4, None}


async def test_exit_heads_in_the_models_folder_are_used(tmp_path: Path) -> None:
    width = FakeStagedEngine().info.width
    generator = np.random.default_rng(1)
    heads = {
        stage: ExitHead([generator.normal(size=(2, width)).astype(np.float32)], [np.zeros(2, np.float32)])
        for stage in (0, 1)
    }
    for stage, head in heads.items():
        write_head(tmp_path / f"{stage}.safetensors", head)
    exits: dict[str, Any] = {"criterion": "q", "q": 0.7, "hand_over": 0.3}
    request = ask(**exits)
    criterion = make_criterion("q", threshold=0.8, q=0.7, hand_over=0.3, heads=heads)
    prompt = HashEngine().tokenizer.encode(PROMPT)
    reference = Reference(plan_of(criterion), request.sampling, prompt, **NOISE).write(LENGTH, asks=True)
    async with (
        running_cloud(cloud_engine()) as cloud,
        running_agent(FolderEngine(tmp_path, (0, 1)), cloud.address) as agent,
    ):
        events, _ = await complete(agent, request)
    assert [(event.token, event.layer) for event in events] == [(step.token, step.layer) for step in reference]
    assert {2, None} <= {event.layer for event in events}


@pytest.mark.parametrize(
    ("exits", "param"),
    [
        ({"split": 2}, "updraft.exit.split"),
        ({"split": 7}, "updraft.exit.split"),
        ({"split": 1, "deepest": 0}, "updraft.exit.split"),
        ({"deepest": 2}, "updraft.exit.deepest"),
        ({"criterion": "patience", "patience": 2}, "updraft.exit.patience"),
        ({"criterion": "patience", "deepest": 0}, "updraft.exit.patience"),
    ],
)
async def test_settings_that_the_model_cannot_follow_are_refused(exits: dict[str, Any], param: str) -> None:
    engine = edge_engine()
    async with running_cloud(cloud_engine()) as cloud, running_agent(engine, cloud.address) as agent:
        with pytest.raises(InvalidRequest) as caught:
            await complete(agent, ask(**exits))
        assert caught.value.param == param
        await until(lambda: engine.open_sequences == 0)
        await complete(agent, ask())  # and the next request is served


async def test_what_the_criterion_lacks_is_said() -> None:
    async with running_cloud(cloud_engine()) as cloud, running_agent(edge_engine(), cloud.address) as agent:
        for exits in ({"criterion": "q"}, {"calibrated": True}, {"hand_over": 0.2}):
            with pytest.raises(ConfigError):
                await complete(agent, ask(**exits))


async def test_an_edge_model_without_exits_is_refused() -> None:
    async with running_cloud(cloud_engine()) as cloud, running_agent(HashEngine(), cloud.address) as agent:
        assert "exit" not in agent.info()["modes"]  # type: ignore[operator]
        with pytest.raises(InvalidRequest, match="early exits") as caught:
            await complete(agent, ask())
    assert caught.value.param == "updraft.mode"


async def test_a_calibration_of_another_model_stops_the_agent_at_the_start(tmp_path: Path) -> None:
    calibrated(tmp_path, model="another")
    with pytest.raises(BadModelFile, match="made for the model another"):
        async with running_agent(FolderEngine(tmp_path), None):
            pass
