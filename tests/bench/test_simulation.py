"""The simulation: its cloud batches as the engine loop does, its edges get the recorded text, both regimes show."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.capacity_loads import at_once
from bench.capacity_record import write_scripts
from bench.objective import Objective, crossing
from bench.pass_curve import PassCurve
from bench.simulated_cloud import Job, SimulatedCloud, Time
from bench.simulated_edges import Mode, simulate
from bench.simulation import SimulationBench, assumed_line, bound, simulated_trial
from bench.traffic import Asking, Link
from tests.bench.scripts import scripts
from updraft.engine.scheduler import Priority
from updraft.errors import ConfigError

COMPUTE = PassCurve.line("compute-bound", 0.005, 0.008)
MEMORY = PassCurve.line("memory-bound", 0.05, 0.0005)
CLOUD, DRAFT = Mode("cloud", drafts=False), Mode("draft")
NEAR = [Link("near", 0.01)]


def test_what_waits_shares_a_pass_and_prefills_go_in_chunks() -> None:
    time, ended = Time(), []
    cloud = SimulatedCloud(time, PassCurve.line("line", 1.0, 0.1), sequences=8, chunk=4)
    cloud.submit(Job(Priority.PREFILL, 6, 0, lambda: ended.append(("prefill", time.now))))
    cloud.submit(Job(Priority.VERIFY, 3, 3, lambda: ended.append(("verify", time.now))))
    cloud.submit(Job(Priority.WRITE, 1, 1, lambda: ended.append(("write", time.now)), tokens=2))
    time.run()
    # The prefill found the engine idle; then its rest, the verification and the first token share a pass.
    assert [what for what, _ in ended] == ["prefill", "verify", "write", "write"]
    assert [when for _, when in ended] == pytest.approx([1.4 + 1.6, 3.0, 3.0, 4.1])
    assert cloud.passes == 3 and cloud.positions == 11 and cloud.busy_s == pytest.approx(4.1)


def test_a_pass_has_so_many_places() -> None:
    time, ended = Time(), []
    cloud = SimulatedCloud(time, PassCurve.line("line", 1.0, 0.1), sequences=1)
    for number in range(3):
        cloud.submit(Job(Priority.WRITE, 1, 1, lambda number=number: ended.append(number)))  # type: ignore[misc]
    time.run()
    assert ended == [0, 1, 2] and time.now == pytest.approx(3.3)


def test_a_written_answer_takes_its_passes_and_half_a_round_trip() -> None:
    time = Time()
    cloud = SimulatedCloud(time, PassCurve.line("line", 0.02, 0.001), sequences=4, chunk=64)
    made = scripts(1, prompt=11, tokens=5)
    (seen,) = simulate(cloud, CLOUD, [[Asking(1.0, 0, 5, 0)]], made.scripts, [Link("link", 0.04)])
    assert seen.asked_s == 1.0
    first = 0.02 + (0.02 + 10 * 0.001) + 0.021 + 0.02
    assert seen.arrivals == pytest.approx([first + 0.021 * number for number in range(5)])


@pytest.mark.parametrize(
    "mode", [DRAFT, Mode("four", 4), Mode("unheeded", heeds=False), Mode("there", 4, co_located=True)]
)
def test_every_token_comes_once_and_in_order(mode: Mode) -> None:
    made, time = scripts(), Time()
    clients = at_once(made, 5, 1, each=4)
    cloud = SimulatedCloud(time, COMPUTE, sequences=8)
    seen = simulate(cloud, mode, clients, made.scripts, NEAR)
    assert sorted(len(one.arrivals) for one in seen) == sorted(asking.tokens for own in clients for asking in own)
    assert all(list(one.arrivals) == sorted(one.arrivals) and one.arrivals[0] > 0.0 for one in seen)
    assert cloud.sessions == 0


def test_drafting_carries_more_where_passes_are_memory_bound_and_no_less_where_they_are_not() -> None:
    made = scripts(12, tokens=32)

    def ratio(curve: PassCurve, token_s: float, loads: tuple[int, ...]) -> float:
        objective = Objective(1e9, token_s, 1e9)
        found = {
            mode.name: crossing(
                [simulated_trial(curve, mode, made, load, NEAR, sequences=64) for load in loads], objective
            )
            for mode in (CLOUD, DRAFT)
        }
        return found["draft"] / found["cloud"]

    assert ratio(MEMORY, 1.15 * 0.0505, (1, 2, 3, 4, 6, 8, 12, 16)) > 2.0
    assert ratio(COMPUTE, 0.1, (1, 2, 3, 4, 6, 8)) > 0.9


def test_the_bound_of_speculation_at_a_distance() -> None:
    assert bound(PassCurve.line("line", 0.016, 0.001), 4, 0.005) == pytest.approx(1 + 4 * 0.005 / 0.021)


async def test_the_bench(tmp_path: Path) -> None:
    write_scripts(scripts(), tmp_path / "drafts.json")
    (tmp_path / "passes.json").write_text(json.dumps({"results": {"curves": [asdict(MEMORY)]}}))
    bench = SimulationBench(
        recording=tmp_path / "drafts.json",
        curves=(tmp_path / "passes.json",),
        round_trips_ms=(5.0,),
        lengths=(4,),
        tightness=(1.1, 1.2),
    )
    steps: list[str] = []
    results = await bench.measure(steps.append)
    assert len(steps) == bench.steps == 5
    rows = {(row["mode"], row["tightness"]): row for row in results["rows"]}
    assert results["simulation"] is True and len(rows) == 10
    assert rows["cloud", 1.2]["vs_cloud"] == 1.0 and rows["draft", 1.2]["vs_cloud"] > 1.0
    assert rows["draft 4", 1.2]["bound"] > 1.0 and rows["draft 4", 1.2]["vs_co_located"] > 0.0
    assert "SIMULATED" in str(bench.tables(results)[0].title)
    assert bench.plot(results, tmp_path / "simulation.png")


def test_an_assumed_line_says_that_it_is_one() -> None:
    curve = assumed_line("50:0.5")
    assert curve.seconds(3, 10, 10) == pytest.approx(0.055) and "assumed" in curve.name
    (only,) = SimulationBench(curves=(), lines=("50:0.5",))._curves
    assert only == curve


@pytest.mark.parametrize("line", ["", "50", "50:", "50:0", "-1:1", "nan:1", "1:inf", "1:2:3"])
def test_what_is_no_line(line: str) -> None:
    with pytest.raises(ConfigError, match="no line"):
        assumed_line(line)


@pytest.mark.parametrize("options", [{"curves": ()}, {"round_trips_ms": (-1.0,)}, {"tightness": (0.9,)}])
def test_options_that_make_no_sense(options: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ConfigError):
        SimulationBench(**options)  # type: ignore[arg-type]
