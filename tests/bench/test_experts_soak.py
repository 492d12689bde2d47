"""A few hundred prompts of changing topics through offloaded experts: device bytes and books stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.experts import policy_experts
from bench.experts_soak import ExpertsSoak, answer, footprint, topics
from tests.fakes.hf_model import write_hf_model
from updraft.errors import ConfigError
from updraft_cloud.experts.store import OffloadedExperts

torch = pytest.importorskip("torch")

from updraft.engine.torch import TorchEngine  # noqa: E402  # torch's absence skips before

WARM, PROMPTS = 40, 200
POLICIES = ["draft", "look-ahead", "affinity"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
    return write_hf_model(tmp_path_factory.mktemp("moe") / "model", "olmoe", **sizes)


class _Watched:
    """An engine over a store that is looked at after every prompt."""

    def __init__(self, folder: Path, policy: str) -> None:
        made: list[OffloadedExperts] = []

        def make(source: Any) -> OffloadedExperts:
            made.append(policy_experts(policy, 0.4)(source))
            return made[0]

        self.engine = TorchEngine(folder, experts=make, context=64, sequences=1, threads=1)
        (self.store,) = made
        self._prompts = topics(self.engine)

    def answer(self, prompts: int) -> int:
        """Answer so many more; gives the most that the store's books took after one of them."""
        most = 0
        for prompt in islice(self._prompts, prompts):
            answer(self.engine, prompt, 4, 3)
            self.store.check_integrity()
            assert self.store.device_bytes == self.store.slots * self.store.statistics.expert_bytes
            most = max(most, footprint(self.store))
        return most


@pytest.fixture(params=POLICIES)
def watched(request: pytest.FixtureRequest, folder: Path) -> Iterator[_Watched]:
    torch.set_num_threads(1)
    watched = _Watched(folder, request.param)
    yield watched
    watched.engine.shutdown()


def test_changing_prompts_leave_nothing_behind(watched: _Watched) -> None:
    store = watched.store
    budget = store.device_bytes
    # Once all 320 tokens have been seen, there is nothing more to learn by heart.
    for token in range(watched.engine.info.vocabulary):
        answer(watched.engine, [token], 1, 1)
    warm = watched.answer(WARM)
    later = watched.answer(PROMPTS)
    assert later <= warm + 4096, "books grew"  # announced drafts wait for a few passes, sometimes one more
    assert store.device_bytes == budget
    assert store.statistics.most_bytes == budget
    assert store.statistics.loaded > PROMPTS
    assert len(store._waiting) <= 512
    assert not store._failures
    assert not store._done
    store.check_integrity(deep=True)


def test_growth_would_be_seen(folder: Path) -> None:
    watched = _Watched(folder, "draft")
    warm = footprint(watched.store)
    watched.store._failures = {key: RuntimeError("kept for ever") for key in range(200)}
    assert footprint(watched.store) > warm + 4096
    watched.engine.shutdown()


def test_answers_are_the_models_own(folder: Path) -> None:
    """Guesses that are wrong are rolled back: the text is that of single steps."""
    watched = _Watched(folder, "draft")
    engine = watched.engine
    for prompt in islice(topics(engine), 5):
        assert answer(engine, prompt, 12, 4) == answer(engine, prompt, 12, 1)
    watched.engine.shutdown()


async def test_the_bench_prints_memory_over_time(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    soak = ExpertsSoak(0.02, str(folder), tokens=4)
    steps: list[str] = []
    results = await soak.measure(steps.append)
    assert 3 <= len(results["samples"]) == len(steps) <= soak.steps + 1
    assert results["prompts"] >= len(steps)
    sizes = [sample["device_mib"] for sample in results["samples"]]
    assert len(set(sizes)) == 1
    assert results["rows"][1]["growth"] == pytest.approx(0.0, abs=1e-9)
    assert all(np.diff([sample["seconds"] for sample in results["samples"]]) > 0)
    assert soak.tables(results)[0].row_count == 3
    assert soak.plot(results, tmp_path / "soak.png")


def test_options_out_of_range_are_refused() -> None:
    for options in ({"minutes": 0.0}, {"share": 0.0}, {"tokens": 0}):
        with pytest.raises(ConfigError):
            ExpertsSoak(**{"minutes": 1.0, **options})  # type: ignore[arg-type]


async def test_a_dense_model_has_nothing_to_soak(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no experts"):
        await ExpertsSoak(0.01, str(write_hf_model(tmp_path / "dense", "llama"))).measure(print)
