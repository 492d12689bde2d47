"""Several drafting edge models against one cloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.pairs import PairsBench
from tests.fakes.tiny_model import write_tiny_model
from updraft.errors import ConfigError


async def test_each_pair_has_its_agent_and_all_write_the_clouds_text(
    tiny_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    near, cloud = map(str, tiny_pair)
    far = str(write_tiny_model(tmp_path / "far.gguf", noise=0.6))
    bench = PairsBench(
        round_trips_ms=(0.0,),
        edge_models=(near, far),
        cloud_model=cloud,
        prompts=2,
        tokens=12,
        context=512,
        alone=True,
        pin=False,
    )
    steps: list[str] = []
    results = await bench.measure(steps.append)
    rows = {one["variant"]: one for one in results["rows"]}
    names = [Path(near).name, "far.gguf"]
    drafts, alone = [[f"{mode} {name}" for name in names] for mode in ("draft", "edge")]
    assert list(rows) == ["cloud", *drafts, *alone]
    assert len(steps) == bench.steps == 1 + 5 * 2
    assert all(rows[name]["same"] == "2/2" for name in ("cloud", *drafts))
    near_passes, far_passes = (rows[name]["cloud_passes_per_token"] for name in drafts)
    assert near_passes < far_passes <= rows["cloud"]["cloud_passes_per_token"] == 1.0
    assert all(one["wall_ms_per_token"] > 0.0 for one in rows.values())
    assert all(rows[name]["cloud_passes_per_token"] == 0.0 for name in alone)
    assert "far.gguf" in str(bench.tables(results)[0].title)
    assert bench.plot(results, tmp_path / "pairs.png")


@pytest.mark.parametrize("models", [(), ("a", "a")])
def test_each_edge_model_once(models: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="each once"):
        PairsBench(edge_models=models)
