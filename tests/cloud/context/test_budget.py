"""The budget of the KV cache in bytes decides how many sequences there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from updraft.config import CloudSettings
from updraft.config.kv import KvSettings
from updraft.errors import ConfigError
from updraft.models.cache_size import cache_bytes
from updraft_cloud.context.budget import sequences_within


def settings(path: Path, budget: int | None) -> CloudSettings:
    return CloudSettings(model=str(path), context=512, sequences=5, kv=KvSettings(bytes=budget))


def test_without_a_budget_the_settings_say_how_many(tiny_model_path: Path) -> None:
    assert sequences_within(settings(tiny_model_path, None)) == 5


@pytest.mark.parametrize(("times", "sequences"), [(1, 1), (3.9, 3), (1000, 256)])
def test_as_many_fit_as_there_is_room_for(tiny_model_path: Path, times: float, sequences: int) -> None:
    one = cache_bytes(tiny_model_path, 512, 1)
    assert sequences_within(settings(tiny_model_path, int(one * times))) == sequences


def test_a_budget_for_less_than_one_is_refused(tiny_model_path: Path) -> None:
    one = cache_bytes(tiny_model_path, 512, 1)
    with pytest.raises(ConfigError, match=f"one sequence of 512 tokens takes {one} bytes"):
        sequences_within(settings(tiny_model_path, one - 1))
