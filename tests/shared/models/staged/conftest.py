from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

# The extra `onnx`: what these modules are about cannot be imported without it.
collect_ignore_glob = [] if all(map(find_spec, ("onnx", "onnxruntime", "safetensors"))) else ["test_*.py"]


@pytest.fixture(scope="session")
def staged_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in float32 with exits after layers 2 and 4 of 6; not to be changed."""
    from tests.fakes.staged_model import write_staged_model

    folder = tmp_path_factory.mktemp("staged") / "tiny"
    write_staged_model(folder)
    return folder


@pytest.fixture(scope="session")
def quantised_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with 4-bit weights."""
    from tests.fakes.staged_model import write_staged_model

    folder = tmp_path_factory.mktemp("staged") / "tiny-int4"
    write_staged_model(folder, precision="int4")
    return folder


@pytest.fixture
def copied(staged_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(staged_folder, tmp_path / "copied"))
