"""Modes over the relay: rows, baselines and plot. Nothing here depends on how fast the machine is."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from bench.modes import COST, SPEED, ModesBench, against_cloud
from bench.plot import plot_modes
from tests.bench.answers import answer
from updraft.errors import ConfigError, MissingExtra, UnknownName


def row(variant: str, mode: str, rate: float, round_trip_ms: float = 0.0) -> dict[str, Any]:
    return {
        "round_trip_ms": round_trip_ms,
        "variant": variant,
        "mode": mode,
        "tokens_per_second": rate,
        "cloud_passes_per_token": 0.5,
    }


def test_rows_are_compared_with_the_cloud() -> None:
    rows = [row("edge", "edge", 50.0), row("cloud", "cloud", 100.0), row("draft", "draft", 80.0)]
    answers = [[answer([1]), answer([9])], [answer([1]), answer([2])], [answer([1]), answer([2])]]
    found = against_cloud(rows, answers)
    assert [one["vs_cloud"] for one in found] == [0.5, 1.0, 0.8]
    assert [one["same"] for one in found] == ["1/2", "2/2", "2/2"]


def test_without_the_cloud_there_is_no_baseline() -> None:
    (found,) = against_cloud([row("edge", "edge", 50.0)], [[answer([1])]])
    assert found["vs_cloud"] is None and found["same"] is None


async def test_every_mode_is_measured_on_every_link(tiny_pair: tuple[Path, Path]) -> None:
    edge, cloud = map(str, tiny_pair)
    bench = ModesBench(
        round_trips_ms=(0.0, 4.0),
        stops=("fixed:3", "risk"),
        prompts=2,
        tokens=8,
        edge_model=edge,
        cloud_model=cloud,
        pin=False,
    )
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps == 1 + 2 * 5 * 2
    rows = results["rows"]
    names = ["edge", "cloud", "draft fixed:3", "draft risk", "span"]
    assert [(one["round_trip_ms"], one["variant"]) for one in rows] == [
        (ms, name) for ms in (0.0, 4.0) for name in names
    ]
    for one in rows:
        assert one["answers"] == 2 and one["tokens"] == 16 and one["degraded"] == 0
        assert one["tokens_per_second"] > 0.0 and one["first_token_ms"] > 0.0
        if one["mode"] == "edge":
            assert one["cloud_passes_per_token"] == one["bytes_up_per_token"] == one["tcp_up_per_token"] == 0.0
        assert one["tcp_up_per_token"] >= one["bytes_up_per_token"]
        assert one["tcp_down_per_token"] >= one["bytes_down_per_token"]
        if one["mode"] in ("cloud", "draft"):
            assert one["bytes_up_per_token"] > 0.0 < one["bytes_down_per_token"]
            assert one["same"] == "2/2"
    assert {table.row_count for table in bench.tables(results)} == {len(rows)}
    assert all(key in one for one in rows for key in (*SPEED, *COST))


def test_a_plot_is_a_png(tmp_path: Path) -> None:
    rows = [
        row(name, name.split()[0], 10.0 + ms, ms)
        for ms in (0.0, 40.0)
        for name in ("cloud", "draft fixed:4", "draft risk")
    ]
    plot_modes(rows, tmp_path / "plot.png", subtitle="two by two")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra) as caught:
        plot_modes([], tmp_path / "plot.png", subtitle="")
    assert "updraft-llm[dev]" in caught.value.remedy


@pytest.mark.parametrize("round_trips", [(), (-1.0,), (20.0, -0.5)])
def test_links_that_cannot_be_are_refused(round_trips: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError):
        ModesBench(round_trips_ms=round_trips)


def test_options_are_checked_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        ModesBench(modes=("fast",))
    with pytest.raises(ConfigError):
        ModesBench(stops=("fast",))
    with pytest.raises(ConfigError):
        ModesBench(prompts=51)


async def test_both_kinds_of_bandwidth_at_once_are_refused(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> None:
    (tmp_path / "link.txt").write_text("0 1\n1 2\n", encoding="utf-8")
    edge, cloud = map(str, tiny_pair)
    bench = ModesBench(
        trace=tmp_path / "link.txt", bandwidth_mbps=1.0, edge_model=edge, cloud_model=cloud, prompts=1, pin=False
    )
    with pytest.raises(ConfigError, match="Both"):
        await bench.measure(lambda _text: None)
