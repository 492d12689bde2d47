"""The capacity bench on a tiny pair: real sessions of replayed drafts. Nothing here depends on the machine's speed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.capacity import CapacityBench
from bench.capacity_record import read_scripts, record_scripts
from bench.replay_edges import ReplayDrafter, ReplayPool
from bench.stopping_record import Asked
from bench.traffic import Asking, Link
from tests.bench.scripts import script, scripts
from tests.fakes.tiers import running_cloud
from updraft.engine import open_engine
from updraft.errors import CloudUnavailable, ConfigError
from updraft_edge.stopping.costs import Costs

MODES = ("cloud", "draft", "draft, load unheeded", "draft 3")


async def test_a_drafter_proposes_what_was_recorded() -> None:
    one = script(stands=1.0, tokens=10, draft_s=0.0)
    drafter = ReplayDrafter(one, Costs(), 0)
    first = [await drafter.propose() for _ in range(3)]
    assert [sampled and sampled.token for sampled in first] == [0, 1, 2]
    drafter.settle([0, 1, 2, 3])
    again = await drafter.propose()
    assert again is not None and again.token == 4
    drafter.settle([4, 5, 6, 7, 8])
    assert (await drafter.propose()) is not None and (await drafter.propose()) is None  # the text ends
    with pytest.raises(CloudUnavailable):
        drafter.alone()


@pytest.mark.parametrize("mode", MODES)
async def test_replayed_edges_get_the_text_that_was_recorded(mode: str, tiny_pair: tuple[Path, Path]) -> None:
    edge, cloud = map(str, tiny_pair)
    sizes = {"each": 3, "longest_prompt": 200, "tokens": 16, "tail": 16, "context": 256, "threads": 1}
    asked = [Asked("a", "Hello you"), Asked("a", "What is it?"), Asked("a", "Why?")]
    made = record_scripts(edge, cloud, asked, **sizes, done=lambda what: None)
    engine = open_engine(cloud, context=256, sequences=4)
    links = [Link("a", 0.0), Link("b", 0.002)]
    async with running_cloud(engine) as server, ReplayPool(server.address, mode, made, links, 5.0) as pool:
        tokens = [len(one.recording.text) for one in made.scripts]
        clients = [[Asking(0.0, (n + k) % 3, tokens[(n + k) % 3], n % 2) for k in range(3)] for n in range(4)]
        seen = await pool.run(clients)
        assert len(pool.costs) == 4
    assert len(seen) == 12
    for one in seen:
        assert one.same and one.refused_s is None
    assert sorted(len(one.arrivals) for one in seen) == sorted(own.tokens for client in clients for own in client)


async def test_a_cloud_that_is_not_there_refuses(tiny_pair: tuple[Path, Path]) -> None:
    made = scripts(1)
    async with ReplayPool("127.0.0.1:9", "draft", made, [Link("a", 0.0)], 0.1) as pool:
        (seen,) = await pool.run([[Asking(0.0, 0, 8, 0)]])
    assert seen.refused_s is not None and not seen.answered


async def test_the_bench(tiny_pair: tuple[Path, Path], tmp_path: Path) -> None:
    edge, cloud = map(str, tiny_pair)
    bench = CapacityBench(
        keep=tmp_path,
        edge_model=edge,
        cloud_model=cloud,
        each=1,
        tokens=12,
        longest_prompt=200,
        sessions=(1, 3),
        loads=(0.2,),
        overload=(1.0, 2.0),
        rounds=1,
        seconds=0.5,
        first_ms=20_000,
        token_ms=5_000,
        pause_ms=20_000,
        links=2,
        context=256,
        sequences=4,
        pin=False,
    )
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) <= bench.steps
    assert [row["load"] for row in results["carried"]] == ["at once", "arriving"]
    assert {row["mode"] for row in results["at_once"]} == set(MODES[:3])
    assert not any(row["wrong"] for row in results["at_once"] + results["arriving"] + results["overload"])
    assert results["position_ms"] >= 0.0 and results["pass_ms"] + results["position_ms"] > 0.0
    assert read_scripts(tmp_path / "drafts.json").cloud == cloud
    assert bench.tables(results) and bench.plot(results, tmp_path / "capacity.png")


@pytest.mark.parametrize(
    "options", [{"sessions": (2,)}, {"loads": (0.0,)}, {"rounds": 0}, {"longest_prompt": 500}, {"links": 0}]
)
def test_options_that_make_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        CapacityBench(**options)  # type: ignore[arg-type]
