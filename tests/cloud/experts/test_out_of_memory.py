"""Memory that runs out, while a model is loaded and while it works: an error with a way out, and nothing half open."""

from __future__ import annotations

import errno
import gc
import mmap
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cloud.sessions.test_session import PROMPT, opening
from tests.fakes.hf_model import write_hf_model
from tests.fakes.moe_source import RandomMoe
from updraft.config import CloudSettings
from updraft.config.experts import ExpertSettings
from updraft.engine.base import Run
from updraft.engine.loop import EngineLoop
from updraft.errors import ConfigError, EngineFailure, ModelNotFound
from updraft.token_log import TokenLog
from updraft_cloud.context import ContextManager
from updraft_cloud.engine.host import load_engine
from updraft_cloud.experts.carriers import ThrottledCarrier
from updraft_cloud.experts.host_weights import HostWeights
from updraft_cloud.experts.policies.registry import make_policy
from updraft_cloud.experts.store import OffloadedExperts
from updraft_cloud.frames import Draft, Failed, Verdict
from updraft_cloud.sessions.session import Session

torch = pytest.importorskip("torch")

FULL = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hf_model(tmp_path_factory.mktemp("moe") / "model", "olmoe", kind="BF16")


def load(folder: Path, **changes: Any) -> Any:
    experts = ExpertSettings(budget=changes.pop("budget", "50%"))
    sizes: dict[str, Any] = {"context": 64, "sequences": 2, "threads": 1}
    return load_engine(CloudSettings(model=str(folder), experts=experts, **{**sizes, **changes}))


def failing(after: int, error: Exception, whole: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which fails from its call `after` on."""
    left = [after]

    def call(*given: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise type(error)(*error.args)  # a fresh one: an error keeps what its traceback holds
        return whole(*given, **options)

    return call


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name == "experts"}


def mapped(folder: Path) -> int:
    """How often this process has mapped the folder's weights; 0 where the system does not say."""
    gc.collect()
    maps = Path("/proc/self/maps")
    return maps.read_text().count(f"{folder.resolve()}/model.safetensors") if maps.exists() else 0


@pytest.fixture
def nothing_left(folder: Path) -> Iterator[None]:
    """The test leaves no thread and no map of the file."""
    before = mapped(folder)
    yield
    assert threads() == set()
    assert mapped(folder) == before


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError(FULL)], ids=["python", "torch"])
@pytest.mark.parametrize("after", [0, 3, 20])
def test_weights_that_do_not_fit(folder: Path, monkeypatch: pytest.MonkeyPatch, after: int, error: Exception) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "to", failing(after, error, torch.Tensor.to))
        with pytest.raises(EngineFailure, match="could not load .*memory") as refused:
            load(folder)
    assert "--expert-budget" in refused.value.remedy
    assert refused.value.__cause__ is refused.value.__context__ is None  # which would keep what was loaded
    load(folder).shutdown()


@pytest.mark.usefixtures("nothing_left")
def test_a_dense_model_is_not_told_of_experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = write_hf_model(tmp_path / "dense", "llama")
    monkeypatch.setattr(torch.Tensor, "to", failing(2, MemoryError(), torch.Tensor.to))
    with pytest.raises(EngineFailure, match="out of memory") as refused:
        load_engine(CloudSettings(model=str(dense), context=64, sequences=1, threads=1))
    assert "smaller model" in refused.value.remedy
    assert "expert" not in refused.value.remedy


@pytest.mark.usefixtures("nothing_left")
def test_files_that_cannot_be_mapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = OSError(errno.ENOMEM, "Cannot allocate memory")
    monkeypatch.setattr("updraft.models.hf.folder.mmap.mmap", failing(0, refusal, mmap.mmap))
    with pytest.raises(EngineFailure, match="model.safetensors cannot be mapped"):
        load(folder)
    monkeypatch.setattr("updraft.models.hf.folder.mmap.mmap", failing(0, OSError(errno.EACCES, "no"), mmap.mmap))
    with pytest.raises(ModelNotFound, match="cannot be read"):
        load(folder)


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("after", [0, 5])
def test_a_budget_that_the_device_has_no_room_for(folder: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty_like", failing(after, RuntimeError(FULL), torch.empty_like))
        with pytest.raises(EngineFailure, match=r"cpu has no room for 12 experts of 12288 bytes each") as refused:
            load(folder)
    assert "smaller budget" in refused.value.remedy
    load(folder).shutdown()


@pytest.mark.usefixtures("nothing_left")
def test_caches_that_do_not_fit_take_the_store_with_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("updraft.engine.torch_cache.torch.empty", failing(1, RuntimeError(FULL), torch.empty))
    with pytest.raises(EngineFailure, match="no room for 2 sequences of 64 tokens"):
        load(folder)


@pytest.mark.usefixtures("nothing_left")
def test_quantised_experts_that_do_not_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from updraft.config.engines import TorchSettings
    from updraft.engine.torch_quantised import quantise

    monkeypatch.setattr("updraft.engine.torch_load.quantise", failing(10, MemoryError(), quantise))
    with pytest.raises(EngineFailure, match="out of memory"):
        load(folder, torch=TorchSettings(expert_bits=8))


def test_a_budget_below_one_expert_a_layer_says_the_least_that_works(folder: Path) -> None:
    least = 2 * 12288
    with pytest.raises(ConfigError) as refused:
        load(folder, budget=str(least - 1))
    assert refused.value.remedy == f"Give at least {least} bytes."
    engine = load(folder, budget=str(least))
    assert engine.experts.slots == 2
    engine.shutdown()


class _Pinless(RandomMoe):
    """Says that it is on a GPU, whose driver gives page-locked memory for `pinned` tensors."""

    def __init__(self, pinned: int) -> None:
        super().__init__()
        self.left = pinned

    def give_back(self) -> None:
        self.left += 1

    @property
    def device(self) -> Any:
        return torch.device("cuda")

    def weights(self, layer: int, expert: int) -> Any:
        return {name: _Lockable(values, self) for name, values in super().weights(layer, expert).items()}


class _Lockable:
    def __init__(self, values: Any, owner: _Pinless) -> None:
        self.values, self.owner, self.nbytes = values, owner, values.nbytes

    def is_pinned(self) -> bool:
        return False

    def pin_memory(self) -> Any:
        if not self.owner.left:
            raise RuntimeError("CUDA error: out of memory")
        locked = self.values.clone()
        self.owner.left -= 1
        weakref.finalize(locked, self.owner.give_back)
        return locked


def test_experts_that_cannot_be_pinned_are_read_as_they_are_needed(caplog: pytest.LogCaptureFixture) -> None:
    source = _Pinless(pinned=40)
    host = HostWeights(source, 1 << 40)
    assert not host._pinned
    assert set(host._staging) == set(source.weights(0, 0))
    assert "cannot be pinned" in caplog.text


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError(FULL)], ids=["python", "torch"])
def test_an_expert_that_has_no_room_on_its_way_fails_its_request_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Computed in another type than the files', an expert is converted when it is fetched."""
    from updraft.config.engines import TorchSettings
    from updraft.engine.torch_load import FolderExperts

    engine = load(folder, torch=TorchSettings(dtype="float32"), budget="30%")
    run = Run(engine.open(), 0, [5, 6, 7], rows=3)
    with monkeypatch.context() as patch:
        patch.setattr(FolderExperts, "weights", failing(2, error, FolderExperts.weights))
        with pytest.raises(EngineFailure, match="An expert could not be loaded"):
            engine.forward([run])
    assert engine.length(run.sequence) == 0
    engine.experts.check_integrity(deep=True)
    (found,) = engine.forward([run])
    whole = load_engine(
        CloudSettings(model=str(folder), context=64, sequences=1, threads=1, torch=TorchSettings(dtype="float32"))
    )
    (want,) = whole.forward([Run(whole.open(), 0, [5, 6, 7], rows=3)])
    assert np.array_equal(found.logits, want.logits)
    whole.shutdown()
    engine.shutdown()


def test_a_copy_that_fails_ends_one_session_and_the_next_has_the_right_tokens(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session in the engine's loop, as the cloud runs it."""
    engine = load(folder, budget="30%")
    loop = EngineLoop(engine)
    context = ContextManager(engine)

    def ask() -> Any:
        frames: list[Any] = []
        frame = opening(tokenizer_hash=engine.info.tokenizer_hash)
        session = Session(engine, context, frame, frames.append, chunk=7)
        log = TokenLog(PROMPT)
        session.take_draft(Draft(len(log), [], log.hash, []))
        loop.add(session)
        while not frames and loop.turn():
            pass
        loop.remove(session)
        session.close(keep=False)
        return frames[0]

    want = ask()
    assert isinstance(want, Verdict)
    with monkeypatch.context() as patch:
        patch.setattr(ThrottledCarrier, "carry", failing(1, OSError("the link is gone"), ThrottledCarrier.carry))
        failed = ask()
    assert isinstance(failed, Failed)
    assert "the link is gone" in failed.message
    engine.experts.check_integrity(deep=True)
    assert (again := ask()) == want or (isinstance(again, Verdict) and again.token == want.token)
    assert engine.experts.statistics.failures > 0
    engine.shutdown()


def test_a_store_that_cannot_be_made_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty_like", failing(1, MemoryError(), torch.empty_like))
    with pytest.raises(EngineFailure, match="no room for 4 experts"):
        source = RandomMoe()
        OffloadedExperts(
            source, lambda s, n: make_policy("lru", s, n), 4 * source.shape.expert_bytes, ThrottledCarrier()
        )
    assert threads() == set()
