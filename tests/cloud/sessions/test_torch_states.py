"""Hidden sessions on a mixture of experts under torch: two engines on one folder are the model run whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cloud.sessions.test_session import PROMPT, opening
from tests.fakes.hf_model import write_hf_model
from updraft.config import CloudSettings
from updraft.config.experts import ExpertSettings
from updraft.engine.base import Run
from updraft.errors import TrunkMismatch
from updraft.exits.carry import CARRIES, Carry, pack, unpack
from updraft.token_log import TokenLog
from updraft_cloud.context import ContextManager
from updraft_cloud.engine.host import load_engine
from updraft_cloud.experts.store import OffloadedExperts
from updraft_cloud.frames import Draft, Hidden, HiddenEntry, Open
from updraft_cloud.sessions.pending_states import entry_stages
from updraft_cloud.sessions.session import Session

torch = pytest.importorskip("torch")

from updraft.engine.torch import TorchEngine  # noqa: E402  # torch's absence skips before

TOKENS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hf_model(tmp_path_factory.mktemp("moe") / "model", "olmoe", num_hidden_layers=4)


@pytest.fixture
def cloud(folder: Path) -> Iterator[TorchEngine]:
    """All layers, with a quarter of the experts on the device."""
    torch.set_num_threads(1)
    experts = ExpertSettings(budget="25%")
    engine = load_engine(CloudSettings(model=str(folder), context=64, sequences=2, threads=1, experts=experts))
    assert isinstance(engine, TorchEngine)
    yield engine
    assert isinstance(engine.experts, OffloadedExperts)
    engine.experts.check_integrity(deep=True)
    engine.shutdown()


class _Stepped:
    """A session that is asked for one token after another."""

    def __init__(self, engine: TorchEngine, frame: Open) -> None:
        frame.check_model(engine.info, entry_stages(engine))
        self._engine, self._frames = engine, list[Any]()
        self.session = Session(engine, ContextManager(engine), frame, self._frames.append, chunk=7)
        self.log = TokenLog(PROMPT)
        self.layers = 0

    def next(self) -> int:
        self.session.take_draft(Draft(len(self.log), [], self.log.hash, []))
        while not self._frames:
            planned = self.session.plan()
            assert planned is not None
            (output,) = self._engine.forward([planned.run])
            self.session.consume(planned.run, output)
        verdict = self._frames.pop()
        self.log.extend([verdict.token])
        self.layers += verdict.spent.layers
        return int(verdict.token)


def _plain(engine: TorchEngine) -> tuple[list[int], int]:
    whole = _Stepped(engine, opening(tokenizer_hash=engine.info.tokenizer_hash))
    tokens = [whole.next() for _ in range(TOKENS)]
    whole.session.close()
    return tokens, whole.layers


@pytest.mark.parametrize("carry", CARRIES)
@pytest.mark.parametrize("layers", [1, 3])
def test_two_torch_engines_are_the_model_run_whole(folder: Path, cloud: TorchEngine, layers: int, carry: Carry) -> None:
    split: dict[str, Any] = {"split": layers - 1, "carry": carry}
    edge = TorchEngine(folder, context=64, sequences=1, threads=1, **split)
    whole = TorchEngine(folder, context=64, sequences=2, threads=1, **split)
    want, all_layers = _plain(whole)
    entry = HiddenEntry(layers, carry, edge.info.fingerprint)
    pair = _Stepped(cloud, opening(tokenizer_hash=cloud.info.tokenizer_hash, entry=entry))
    sequence, found = edge.open(), []
    for _ in range(TOKENS):
        start, log = edge.length(sequence), pair.log.tokens
        edge.forward([Run(sequence, start, log[start:], depth=layers - 1)])
        states = unpack(pack(edge.boundary(sequence, layers - 1, start, len(log)), carry))
        pair.session.take_hidden(Hidden(start, carry, states))
        found.append(pair.next())
    assert found == want
    assert pair.layers * 4 == all_layers * (4 - layers)
    counts = cloud.experts.statistics.layers if isinstance(cloud.experts, OffloadedExperts) else []
    assert [layer.hits + layer.late + layer.misses > 0 for layer in counts] == [False] * layers + [True] * (4 - layers)
    pair.session.close()
    for engine in (edge, whole):
        engine.shutdown()


def test_an_offloaded_cloud_loads_nothing_for_the_layers_below_an_entry(cloud: TorchEngine) -> None:
    """Also once the policy has learned which experts tokens choose, in a session without hidden states."""
    assert isinstance(cloud.experts, OffloadedExperts)
    _plain(cloud)
    book = cloud.experts._book
    book.begin(np.array(PROMPT), 3)
    assert book._now.wanted[-8:].any()
    assert not book._now.wanted[:-8].any()
    book.end()


def test_states_of_another_type_or_of_other_bits_are_refused(folder: Path, cloud: TorchEngine) -> None:
    for options in ({"dtype": "bfloat16"}, {"expert_bits": 8}):
        edge = TorchEngine(folder, context=64, sequences=1, threads=1, **options)
        entry = HiddenEntry(1, "float32", edge.info.fingerprint)
        with pytest.raises(TrunkMismatch, match="hidden states are of model"):
            _Stepped(cloud, opening(tokenizer_hash=cloud.info.tokenizer_hash, entry=entry))
        edge.shutdown()
    with pytest.raises(TrunkMismatch, match="takes them after 1-3"):
        _Stepped(
            cloud,
            opening(tokenizer_hash=cloud.info.tokenizer_hash, entry=HiddenEntry(4, "float32", cloud.info.fingerprint)),
        )
