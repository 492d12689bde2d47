"""Experts over devices: fewer hops cross than at random, and as few as can be where that is known."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.routing import Routing, make_trace
from updraft.engine.experts import MoeShape
from updraft.errors import BadModelFile, ConfigError, ModelNotFound
from updraft_cloud.experts.placement import (
    PlacementPlan,
    crossing_share,
    hops,
    place,
    random_plan,
    read_plan,
    round_robin,
    write_plan,
)

pytest.importorskip("scipy")

SHAPE = MoeShape(3, 8, 2, 4, 4, 100)


def cliques(devices: int) -> Any:
    """Hops within hidden groups alone, one a device, scattered anew in every layer."""
    hidden = random_plan(SHAPE, devices, seed=9)
    counts = np.zeros((2, 8, 8))
    for layer in range(2):
        counts[layer][hidden[layer][:, None] == hidden[layer + 1]] = 5.0
    return counts


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_hidden_groups_are_found(devices: int) -> None:
    counts = cliques(devices)
    found = place(counts, SHAPE, devices)
    PlacementPlan(SHAPE, devices, found)
    assert crossing_share(counts, found) == 0.0


def test_it_is_nearly_as_good_as_trying_all() -> None:
    small = MoeShape(3, 4, 1, 4, 4, 100)
    for seed in range(5):
        counts = np.random.default_rng(seed).integers(0, 20, (2, 4, 4)).astype(float)
        rows = sorted(set(itertools.permutations([0, 0, 1, 1])))
        best = min(crossing_share(counts, np.array(choice)) for choice in itertools.product(rows, repeat=3))
        assert crossing_share(counts, place(counts, small, 2)) <= 1.03 * best


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_a_trace_with_affinity_crosses_less_than_at_random(devices: int) -> None:
    trace = make_trace(600, Routing(layers=4, experts=16, active=1, token=0.5, affinity=3.0, noise=0.3))
    half = trace.pass_count // 2
    learned, rest = hops(trace.part(0, half)), hops(trace.part(half, trace.pass_count))
    found = crossing_share(rest, place(learned, trace.shape, devices))
    chance = crossing_share(rest, random_plan(trace.shape, devices))
    assert found < 0.75 * chance
    assert found < 0.75 * crossing_share(rest, round_robin(trace.shape, devices))


def test_hops_are_counted() -> None:
    trace = make_trace(8, Routing(layers=2, experts=4, active=2, vocabulary=4))
    counts = hops(trace)
    assert counts.sum() == len(trace) * 4
    first = trace.routes[0].astype(int)
    assert counts[0, first[0, 0], first[1, 1]] >= 1
    flat = make_trace(4, Routing(layers=1, experts=4, active=1))
    assert crossing_share(hops(flat), np.zeros((1, 4), np.int64)) == 0.0


def test_devices_must_divide_the_experts() -> None:
    with pytest.raises(ConfigError, match="8 experts of a layer"):
        place(cliques(2), SHAPE, 3)


def test_plans_are_read_as_written_and_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan = PlacementPlan(SHAPE, 2, random_plan(SHAPE, 2), "model", "ab")
    write_plan(path, plan)
    again = read_plan(path)
    assert np.array_equal(again.device, plan.device)
    assert (again.shape, again.devices, again.model, again.fingerprint) == (SHAPE, 2, "model", "ab")
    good = json.loads(path.read_text())
    changes: list[dict[str, Any]] = [
        {"format": "x"},
        {"devices": 3},
        {"devices": "x"},
        {"device": [[0] * 8] * 3},
        {"device": [[0.5] * 8] * 3},
        {"shape": {}},
        {"shape": 3},
    ]
    for change in changes:
        path.write_text(json.dumps(good | change))
        with pytest.raises(BadModelFile) as caught:
            read_plan(path)
        assert caught.value.message.count("is not a placement") == 1
    for text in ("", "[1]", "{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(BadModelFile):
            read_plan(path)
    with pytest.raises(ModelNotFound):
        read_plan(tmp_path / "none")
