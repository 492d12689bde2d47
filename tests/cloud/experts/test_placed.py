"""Experts over devices: each holds its own, the bits are those of one device, and what crosses is what was foretold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.hf_model import write_hf_model
from tests.fakes.moe_source import RandomMoe
from updraft.config import CloudSettings
from updraft.config.experts import ExpertSettings
from updraft.engine import Run, open_engine
from updraft.errors import BadModelFile, ConfigError, ModelNotFound, WrongTrunk
from updraft_cloud.engine.host import load_engine
from updraft_cloud.experts.factory import make_experts
from updraft_cloud.experts.placed import PlacedExperts
from updraft_cloud.experts.placement import PlacementPlan, crossing_share, hops, random_plan, round_robin, write_plan
from updraft_cloud.experts.recorder import RouteRecorder
from updraft_cloud.experts.statistics import expert_numbers

torch = pytest.importorskip("torch")

PASSES = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10], [11, 12, 13, 14]]


def plan_of(source: RandomMoe, devices: int, **facts: Any) -> PlacementPlan:
    return PlacementPlan(source.shape, devices, random_plan(source.shape, devices, 3), **facts)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_the_bits_are_those_of_one_device_and_each_holds_its_own(devices: int) -> None:
    from updraft.engine.torch_experts import ResidentExperts

    source = RandomMoe()
    plan, resident = plan_of(source, devices), ResidentExperts(source)
    placed = PlacedExperts(source, plan)
    placed.expect([1])
    for tokens in PASSES:
        assert torch.equal(source.forward(placed, tokens), source.forward(resident, tokens))
    held = [placed.held(device) for device in range(devices)]
    assert [len(own) for own in held] == [source.shape.layers * source.shape.experts // devices] * devices
    assert all(plan.device[layer, expert] == device for device, own in enumerate(held) for layer, expert in own)
    placed.close()
    assert not placed.held(0)


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_what_crosses_is_what_a_trace_of_the_same_tokens_foretells(devices: int) -> None:
    source = RandomMoe()
    plan = plan_of(source, devices)
    placed = PlacedExperts(source, plan)
    recorder = RouteRecorder(placed, source.shape)
    for tokens in PASSES:
        source.forward(recorder, tokens)
    trace = recorder.trace(model="random", fingerprint=source.fingerprint)
    counted, figures = hops(trace), placed.statistics
    assert figures.hops == counted.sum() > 0
    assert figures.crossing_share == pytest.approx(crossing_share(counted, plan.device))
    away = plan.device[np.arange(source.shape.layers)[None, :, None], trace.routes] != 0
    assert figures.sent_bytes == 2 * source.shape.width * 4 * away.sum()
    assert (figures.hits, figures.misses, figures.loaded) == (figures.needed, 0, 0)
    assert figures.most_bytes == source.shape.layers * source.shape.experts // devices * source.shape.expert_bytes


def test_devices_that_are_not_there_are_named_beside_those_that_are() -> None:
    source = RandomMoe()
    with pytest.raises(ConfigError, match="wants cuda:77, and torch finds cpu"):
        PlacedExperts(source, plan_of(source, 2), ["cpu", "cuda:77"])
    with pytest.raises(ConfigError, match="for 2 devices, and 1 are named"):
        PlacedExperts(source, plan_of(source, 2), ["cpu"])


def test_a_plan_for_another_model_is_refused() -> None:
    source = RandomMoe()
    PlacedExperts(source, plan_of(source, 2, fingerprint="random"))
    with pytest.raises(WrongTrunk, match="made for the model other"):
        PlacedExperts(source, plan_of(source, 2, model="other", fingerprint="x"))
    with pytest.raises(ConfigError, match="the model has 1 of 8"):
        PlacedExperts(RandomMoe(layers=1), plan_of(source, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hf_model(tmp_path_factory.mktemp("moe") / "model", "qwen3_moe")


def logits(engine: Any) -> Any:
    first, second = engine.open(), engine.open()
    found = [out.logits.copy() for out in engine.forward([Run(first, 0, [5, 6, 7], 1), Run(second, 0, [8, 9], 2)])]
    return [*found, *(out.logits.copy() for out in engine.forward([Run(first, 3, [10, 11], 2)]))]


def test_the_cloud_places_by_its_settings(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"context": 64, "sequences": 2, "threads": 1}
    made: list[Any] = []

    def kept(source: Any) -> Any:
        from updraft.engine.torch_experts import ResidentExperts

        made.append(source)
        return ResidentExperts(source)

    whole = open_engine(folder, backend="torch", experts=kept, **options)
    wanted, shape, fingerprint = logits(whole), made[0].shape, made[0].fingerprint
    assert fingerprint == whole.info.fingerprint
    whole.shutdown()
    path = tmp_path / "plan.json"
    write_plan(path, PlacementPlan(shape, 2, round_robin(shape, 2), "tiny", fingerprint))
    settings = CloudSettings(model=str(folder), experts=ExpertSettings(placement=path), **options)
    engine = load_engine(settings)
    found = logits(engine)
    numbers = expert_numbers(engine)
    engine.shutdown()
    assert all(np.array_equal(own, other) for own, other in zip(found, wanted, strict=True))
    assert numbers is not None and numbers["sent_bytes_total"] > 0 and numbers["hops_total"] > 0
    write_plan(path, PlacementPlan(shape, 2, round_robin(shape, 2), "tiny", "another"))
    with pytest.raises(WrongTrunk):
        load_engine(settings)


def test_wrong_settings_fail_before_a_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        make_experts(ExpertSettings(placement=tmp_path / "none"))
    (tmp_path / "bad").write_text("{}")
    with pytest.raises(BadModelFile):
        make_experts(ExpertSettings(placement=tmp_path / "bad"))
    with pytest.raises(ValueError, match="exclude each other"):
        ExpertSettings(placement=tmp_path / "bad", budget="50%")
    with pytest.raises(ValueError, match="there is none"):
        ExpertSettings(devices=("cpu", "cpu"))
    named = ExpertSettings.model_validate({"placement": "plan", "devices": "cpu, cuda:1"})
    assert named.devices == ("cpu", "cuda:1")
    with pytest.raises(ValueError):
        ExpertSettings.model_validate({"placement": "plan", "devices": "gpu"})
