from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from updraft.train.laboratory.export import write_gguf
from updraft.train.laboratory.model import LabModel, lab_shape

TINY = lab_shape(2, 32, 64)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small only lose by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model() -> LabModel:
    """Random, but with logits that differ."""
    made = LabModel(TINY, 1).eval()
    with torch.no_grad():
        for values in made.parameters():
            if values.ndim > 1:
                values.mul_(2)
    return made


@pytest.fixture
def gguf(model: LabModel, tmp_path: Path) -> Path:
    write_gguf(model, "tiny", tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"
