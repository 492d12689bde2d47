"""Experts offloaded by settings, under the torch engine: the text of resident experts, and refusals in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.hf_model import write_hf_model
from tests.fakes.moe_source import RandomMoe
from updraft.config import CloudSettings
from updraft.config.experts import ExpertSettings, budget_bytes
from updraft.engine import Run, open_engine
from updraft.errors import BadModelFile, ConfigError, ModelNotFound, UnknownName
from updraft_cloud.engine.host import load_engine
from updraft_cloud.experts.factory import make_experts
from updraft_cloud.experts.store import OffloadedExperts

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("moe") / "model"
    write_hf_model(path, "qwen3_moe")
    return path


def logits(engine: Any) -> Any:
    """Rows of two sequences in shared passes, and of a draft whose tail is cut."""
    first, second = engine.open(), engine.open()
    found = [out.logits.copy() for out in engine.forward([Run(first, 0, [5, 6, 7], 1), Run(second, 0, [8, 9], 2)])]
    if hasattr(engine, "expect"):
        engine.expect([10, 11])
    found += [out.logits.copy() for out in engine.forward([Run(first, 3, [10, 11], 2)])]
    engine.truncate(first, 4)
    return [*found, *(out.logits.copy() for out in engine.forward([Run(first, 4, [12], 1), Run(second, 2, [3], 1)]))]


@pytest.mark.parametrize("budget", ["15%", "50%", "100%"])
def test_the_cloud_serves_the_same_bits_under_a_budget(folder: Path, budget: str) -> None:
    options: dict[str, Any] = {"context": 64, "sequences": 2, "threads": 1}
    whole = open_engine(folder, **options)
    wanted = logits(whole)
    whole.shutdown()
    settings = CloudSettings(model=str(folder), experts=ExpertSettings(budget=budget), **options)
    engine = load_engine(settings)
    found = logits(engine)
    engine.shutdown()
    assert all(np.array_equal(own, other) for own, other in zip(found, wanted, strict=True))


def test_a_budget_needs_a_model_that_torch_computes(tiny_model_path: Path) -> None:
    settings = CloudSettings(model=str(tiny_model_path), context=64, experts=ExpertSettings(budget="1MiB"))
    with pytest.raises(ConfigError, match="experts is set"):
        load_engine(settings)


def test_a_budget_that_is_too_small_says_what_works(folder: Path) -> None:
    settings = CloudSettings(model=str(folder), context=64, sequences=1, experts=ExpertSettings(budget="1000"))
    with pytest.raises(ConfigError) as refused:
        load_engine(settings)
    assert "Give at least" in refused.value.remedy


@pytest.mark.parametrize(
    ("text", "size"), [("2GiB", 2 << 30), ("1.5 KiB", 1536), ("1000", 1000), ("25%", 250), ("100%", 1000), ("7B", 7)]
)
def test_amounts_are_read(text: str, size: int) -> None:
    assert budget_bytes(text, 1000) == size


@pytest.mark.parametrize("text", ["", "2GB", "-1", "0%", "101%", "1e9", "GiB", "1 % 2"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ExpertSettings(budget=text)


def test_wrong_settings_fail_before_a_model_is_loaded(tmp_path: Path) -> None:
    assert make_experts(ExpertSettings()) is None
    with pytest.raises(UnknownName, match="hope"):
        make_experts(ExpertSettings(budget="50%", policy="hope"))
    with pytest.raises(ConfigError, match="trained predictor"):
        make_experts(ExpertSettings(budget="50%", policy="trained"))
    with pytest.raises(ModelNotFound):
        make_experts(ExpertSettings(budget="50%", policy="trained", predictor=tmp_path / "none"))
    (tmp_path / "bad").write_bytes(b"12345678")
    with pytest.raises(BadModelFile):
        make_experts(ExpertSettings(budget="50%", policy="trained", predictor=tmp_path / "bad"))


def test_costs_are_measured_where_the_host_may_compute() -> None:
    make = make_experts(ExpertSettings(budget="30%", on_host=True, link_bytes_per_s=1e5))
    assert make is not None
    source = RandomMoe()
    store = make(source)
    source.forward(store, [1, 2, 3])
    assert isinstance(store, OffloadedExperts)
    assert store.statistics.on_host > 0  # a copy takes 46 ms here
    store.check_integrity(deep=True)
    store.close()
