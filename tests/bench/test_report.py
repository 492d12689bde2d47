"""The files that benches write, and what they say of the machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from bench.report import cpu_name, environment, run, show, table_of
from updraft import __version__
from updraft.errors import ConfigError, MissingExtra


@dataclass(frozen=True)
class CountingBench:
    """Counts its rounds."""

    rounds: int = 3
    passed: bool = True
    folder: Path = Path("somewhere")
    name = "counting"

    @property
    def steps(self) -> int:
        return self.rounds

    async def measure(self, step: Callable[[str], None]) -> dict[str, Any]:
        for number in range(self.rounds):
            step(f"round {number}")
        return {"rounds": list(range(self.rounds)), "passed": self.passed}

    def tables(self, results: dict[str, Any]) -> list[Table]:
        return [table_of("rounds", [{"number": number} for number in results["rounds"]], {"number": ("no.", "d")})]

    def plot(self, results: dict[str, Any], path: Path) -> bool:
        return False


@dataclass(frozen=True)
class DrawingBench(CountingBench):
    def plot(self, results: dict[str, Any], path: Path) -> bool:
        path.write_bytes(b"drawn")
        return True


@dataclass(frozen=True)
class UndrawnBench(CountingBench):
    def plot(self, results: dict[str, Any], path: Path) -> bool:
        raise MissingExtra("no pencil", remedy="buy one")


def test_a_report_holds_machine_options_and_results(tmp_path: Path) -> None:
    report = run(CountingBench(rounds=2), out=tmp_path / "new" / "folder")
    assert [file.name for file in report.files] == ["counting.json"]
    document = json.loads(report.files[0].read_text(encoding="utf-8"))
    assert document["bench"] == "counting" and document["format"] == 1
    assert document["options"] == {"rounds": 2, "passed": True, "folder": "somewhere"}
    assert document["results"]["rounds"] == [0, 1]
    assert document["environment"].keys() == environment().keys()
    assert report.passed and report.no_plot is None


def test_a_failed_bench_says_so_and_is_written_all_the_same(tmp_path: Path) -> None:
    report = run(CountingBench(passed=False), out=tmp_path)
    assert not report.passed and report.files[0].is_file()


def test_a_plot_lies_beside_the_figures(tmp_path: Path) -> None:
    assert [file.name for file in run(DrawingBench(), out=tmp_path).files] == ["counting.json", "counting.png"]


def test_a_plot_that_cannot_be_drawn_loses_no_figures(tmp_path: Path) -> None:
    report = run(UndrawnBench(), out=tmp_path)
    assert [file.name for file in report.files] == ["counting.json"]
    assert report.no_plot is not None and report.no_plot.remedy == "buy one"


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        run(CountingBench(), out=file / "below")
    assert "--out" in caught.value.remedy


def test_the_machine_is_described() -> None:
    found = environment()
    assert datetime.fromisoformat(found["date"]).tzinfo is not None
    assert found["versions"]["updraft"] == __version__
    assert 1 <= found["usable_cores"] <= found["cores"]
    assert found["command"].startswith("updraft") and found["cpu"]


@pytest.mark.parametrize(
    ("text", "name"), [("vendor_id : x\nmodel name\t: Fast CPU 9\n", "Fast CPU 9"), ("Model : Board 5\n", "Board 5")]
)
def test_the_processor_is_named(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
    assert cpu_name(tmp_path / "cpuinfo") == name
    assert cpu_name(tmp_path / "missing")


def test_people_see_machine_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(CountingBench(rounds=2), out=tmp_path)
    capsys.readouterr()
    show(report)
    shown = capsys.readouterr().out
    assert report.document["environment"]["cpu"] in shown and "no." in shown and __version__ in shown


def test_tables_show_what_is_missing_as_a_dash() -> None:
    table = table_of("t", [{"a": 0.5, "b": "x"}, {"a": None}], {"a": ("share", ".0%"), "b": ("name", "")})
    columns = [list(column.cells) for column in table.columns]
    assert columns == [["50%", "-"], ["x", "-"]]
    assert [column.justify for column in table.columns] == ["right", "left"]
