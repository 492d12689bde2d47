"""Staged models that the tests of the ONNX engine share: 4 layers in 3 stages, exits after the first two."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.staged_model import write_staged_model


@pytest.fixture(scope="session")
def staged_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float32; the model of `tiny_model_path` but for two more layers."""
    folder = tmp_path_factory.mktemp("staged") / "tiny"
    write_staged_model(folder, exits=(1, 2), layers=4)
    return folder


@pytest.fixture(scope="session")
def staged_int4_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with 4-bit weights and activations rounded to 8 bits."""
    folder = tmp_path_factory.mktemp("staged") / "tiny-int4"
    write_staged_model(folder, exits=(1, 2), layers=4, precision="int4")
    return folder
