"""The replay of `updraft bench auto`: exact regret, comparable policies, and a bench that runs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from bench.auto import AutoBench
from bench.auto_replay import Recorded, replay, replay_goal
from tests.shared.auto.situations import outcome, situation
from updraft.errors import ConfigError


def recorded() -> list[Recorded]:
    """Near, drafting is best; far away the edge is."""
    found = []
    for trip in (0.001, 0.002, 0.1, 0.12):
        edge = outcome(seconds=0.4, unverified=64, probability=0.9, cloud_tokens=0, cloud_passes=0)
        draft = outcome(seconds=0.5 if trip < 0.05 else 30.0, cloud_passes=12)
        cloud = outcome(seconds=3.0, cloud_passes=64, cloud_tokens=64)
        found.append(Recorded(situation(round_trip_s=trip), {"edge": edge, "cloud": cloud, "draft": draft}))
    return found


def test_regret_is_exact_and_learned_away() -> None:
    result = replay_goal(recorded(), "balanced", rounds=200, repetitions=3, seed=0)
    rows = {row["policy"]: row for row in result["rows"]}
    assert set(rows) == {"auto", "auto, no drawing", "defaults alone", "random"} | {
        f"always {name}" for name in ("edge", "cloud", "draft")
    }
    learned = rows["auto, no drawing"]
    assert learned["regret"] < 0.25 * rows["random"]["regret"]
    assert learned["late_regret_a_choice"] < learned["regret_a_choice"]
    assert rows["random"]["of_oracle_gain"] == 0.0 and 0.5 < learned["of_oracle_gain"] <= 1.0
    for curve in result["curves"].values():
        assert len(curve) == 200 and all(later >= earlier for earlier, later in pairwise(curve))


def test_a_policy_is_told_the_reward_of_its_choice() -> None:
    group = recorded()
    tables = [one.rewards("cost") for one in group]
    rewards = replay(group, tables, [0, 3, 3], lambda one, table: table["edge"])
    assert rewards.tolist() == [tables[0]["edge"], tables[3]["edge"], tables[3]["edge"]]


def test_the_replay_is_repeatable() -> None:
    first, again = (replay_goal(recorded(), "cost", rounds=40, repetitions=2, seed=5) for _ in range(2))
    assert first["rows"] == again["rows"] and first["curves"] == again["curves"]


async def test_every_arm_answers_every_prompt(tiny_pair: tuple[Path, Path], tmp_path: Path) -> None:
    edge, cloud = map(str, tiny_pair)
    bench = AutoBench(
        round_trips_ms=(0.0,),
        modes=("edge", "cascade"),
        prompts=2,
        tokens=6,
        rounds=12,
        repetitions=2,
        edge_model=edge,
        cloud_model=cloud,
        pin=False,
    )
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps == 1 + 2 * 3 + 4
    assert [row["arm"] for row in results["arms"]] == ["edge", "cascade 0.3", "cascade 0.6"]
    assert results["situations"] == 2 and sum(row["best"] for row in results["arms"]) == 2
    assert [one["goal"] for one in results["goals"]] == ["balanced", "quality", "latency", "cost"]
    assert len(bench.tables(results)) == 5
    pytest.importorskip("matplotlib")
    assert bench.plot(results, tmp_path / "auto.png") and (tmp_path / "auto.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "options",
    [{"round_trips_ms": ()}, {"round_trips_ms": (-1.0,)}, {"modes": ("auto",)}, {"rounds": 4}, {"prompts": 0}],
)
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AutoBench(**options)  # type: ignore[arg-type]
