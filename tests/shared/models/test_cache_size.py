"""What caches take in memory, by the model's file and by the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.staged_model import write_staged_model
from tests.fakes.tiny_model import write_tiny_model
from updraft.engine.base import Run
from updraft.engine.llama import LlamaEngine
from updraft.models.cache_size import cache_bytes, position_bytes


def test_cache_bytes_follow_the_heads_of_the_file(tmp_path: Path, tiny_model_path: Path) -> None:
    once = position_bytes(tiny_model_path)
    assert once > 0 and once % 4 == 0  # keys and values of 2 bytes
    assert cache_bytes(tiny_model_path, 512, 3) == 512 * 3 * once
    assert cache_bytes(tiny_model_path, 257, 1) == 512 * once
    deeper = write_tiny_model(tmp_path / "deep.gguf", layers=4)
    assert position_bytes(deeper) == 2 * once


def test_cache_bytes_of_a_staged_model_count_its_exits(tmp_path: Path) -> None:
    manifest = write_staged_model(tmp_path / "staged", exits=(2, 4), layers=6)
    numbers = (6 + 2) * manifest.kv_heads * 2 * manifest.head_size
    assert cache_bytes(tmp_path / "staged", 3, 2) == 4 * 3 * 2 * numbers


def saved_bytes(path: Path, positions: int) -> int:
    engine = LlamaEngine(path, context=256, sequences=1, threads=1)
    try:
        sequence = engine.open()
        engine.forward([Run(sequence, 0, list(range(10, 10 + positions)))])
        return len(engine.save(sequence))
    finally:
        engine.shutdown()


def test_a_position_takes_what_llama_cpp_saves_of_it(tiny_model_path: Path) -> None:
    per_position = (saved_bytes(tiny_model_path, 48) - saved_bytes(tiny_model_path, 16)) / 32
    assert position_bytes(tiny_model_path) <= per_position <= position_bytes(tiny_model_path) + 64


@pytest.mark.smollm2
def test_a_position_of_the_real_model_takes_what_llama_cpp_saves_of_it(smollm2_path: Path) -> None:
    assert position_bytes(smollm2_path) == 30 * 3 * (64 + 64) * 2
    per_position = saved_bytes(smollm2_path, 32) / 32
    assert position_bytes(smollm2_path) <= per_position <= position_bytes(smollm2_path) * 1.02
