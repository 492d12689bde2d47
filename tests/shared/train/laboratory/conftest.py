from __future__ import annotations

from pathlib import Path

import pytest
import torch

from updraft.train.laboratory.export import write_gguf
from updraft.train.laboratory.model import LabModel, lab_shape

TINY = lab_shape(2, 32, 64)


@pytest.fixture
def model() -> LabModel:
    """Random, but with logits that differ."""
    made = LabModel(TINY, 1).eval()
    with torch.no_grad():
        for values in made.parameters():
            if values.ndim > 1:
                values *= 2
    return made


@pytest.fixture
def gguf(model: LabModel, tmp_path: Path) -> Path:
    write_gguf(model, "tiny", tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"
