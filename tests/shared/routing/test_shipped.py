"""The routers that come with Updraft."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import updraft.models
from updraft.routing.features import TOKEN_FEATURES
from updraft.routing.router import find_router, read_router, shipped_routers

FILES = sorted((Path(updraft.models.__file__).parent / "routers").glob("*.safetensors"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_router_is_small_and_has_its_card(path: Path) -> None:
    assert path.stat().st_size < 100_000
    router = read_router(find_router(path.stem))
    card = json.loads(path.with_suffix(".json").read_text())
    assert router.facts == card
    assert card["auc"]["router"]["area"] > card["auc"]["entropy"]["area"]
    sure, unsure = np.zeros((2, len(TOKEN_FEATURES)), np.float32)
    sure[:] = unsure[:] = 0
    for name, high, low in (("margin", 0.99, 0.02), ("top_probability", 0.99, 0.2), ("gap", 8, 0.1), ("mass", 1, 0.8)):
        sure[TOKEN_FEATURES.index(name)], unsure[TOKEN_FEATURES.index(name)] = high, low
    unsure[TOKEN_FEATURES.index("entropy")] = 3
    for row in (sure, unsure):
        row[TOKEN_FEATURES.index("energy")] = row[TOKEN_FEATURES.index("energy_5")] = 20
        row[TOKEN_FEATURES.index("energy_16")] = 20
    assert router.token(sure).rejected < router.token(unsure).rejected


def test_there_is_one_for_each_shipped_pair() -> None:
    pairs = [(router.edge, router.cloud) for router in shipped_routers()]
    assert len(set(pairs)) == len(pairs) == len(FILES) >= 1
