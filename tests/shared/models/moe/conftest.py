from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.tiny_model import write_tiny_model
from tests.fakes.tiny_moe import packed_tiny_moe
from updraft.models.moe.packed import PackedMoe
from updraft.models.weights import Weights, read_weights


@pytest.fixture(scope="session")
def trunk_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("trunk") / "tiny.gguf")


@pytest.fixture(scope="session")
def trunk(trunk_path: Path) -> Weights:
    return read_weights(trunk_path)


@pytest.fixture(scope="session")
def moe(trunk: Weights) -> PackedMoe:
    return packed_tiny_moe(trunk)
