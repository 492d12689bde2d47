"""Results of single answers outlive an interruption, and are never mixed with those of another calibration."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.shared.calibration.tables import measured
from updraft.calibration.results import CLOUD_ONLY, EDGE_ONLY, Results, Table
from updraft.errors import ConfigError, InvalidRequest

ABOUT = {"edge": "aaaa", "cloud": "bbbb", "max_tokens": 16, "round_trip_ms": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made" / "mine.results.jsonl"


def write(path: Path) -> None:
    with contextlib.closing(Results(path, ABOUT)) as results:
        results.add(measured("p0", CLOUD_ONLY, share=1.0, answer=(3, 4, 5)))
        results.add(measured("p0", EDGE_ONLY, disagreement=0.25, score=1.5))


def test_what_was_measured_is_there_again(path: Path) -> None:
    write(path)
    with contextlib.closing(Results(path, ABOUT)) as results:
        assert results.get("p0", CLOUD_ONLY) == measured("p0", CLOUD_ONLY, share=1.0, answer=(3, 4, 5))
        assert results.get("p0", EDGE_ONLY) == measured("p0", EDGE_ONLY, disagreement=0.25, score=1.5)
        assert results.get("p1", EDGE_ONLY) is None
        results.add(measured("p1", EDGE_ONLY))
    with contextlib.closing(Results(path, ABOUT)) as results:
        assert results.get("p1", EDGE_ONLY) is not None
    assert len(path.read_text().splitlines()) == 4


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_that_was_cut_off_is_measured_again(path: Path, cut: int) -> None:
    write(path)
    path.write_bytes(path.read_bytes()[:-cut])
    with contextlib.closing(Results(path, ABOUT)) as results:
        assert results.get("p0", CLOUD_ONLY) is not None
        assert results.get("p0", EDGE_ONLY) is None
        results.add(measured("p0", EDGE_ONLY))
    with contextlib.closing(Results(path, ABOUT)) as results:
        assert results.get("p0", EDGE_ONLY) == measured("p0", EDGE_ONLY)


def test_a_file_whose_first_line_was_cut_off_begins_anew(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"calibra')
    write(path)
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("change", [{"edge": "cccc"}, {"max_tokens": 17}, {"round_trip_ms": 20.0}])
def test_results_of_another_calibration_are_refused(path: Path, change: dict[str, object]) -> None:
    write(path)
    with pytest.raises(ConfigError, match=f"{next(iter(change))} differs"):
        Results(path, {**ABOUT, **change})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{}", "missing"),
        ("[]", ""),
        ("{", ""),
        ('{"prompt": 1, "unknown": 2}', "unexpected"),
    ],
)
def test_damaged_lines_are_named(path: Path, line: str, reason: str) -> None:
    write(path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InvalidRequest, match="line 4 is no result") as caught:
        Results(path, ABOUT)
    assert reason in caught.value.message


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "1.5", "-0.1"])
def test_losses_that_are_no_losses_are_refused(path: Path, bad: str) -> None:
    write(path)
    path.write_text(path.read_text().replace('"disagreement": 0.25', f'"disagreement": {bad}'))
    with pytest.raises(InvalidRequest, match="line 3 is no result: disagreement"):
        Results(path, ABOUT)


def test_a_table_needs_every_result(path: Path) -> None:
    write(path)
    with contextlib.closing(Results(path, ABOUT)) as results:
        assert Table.of(results, ["p0"], [EDGE_ONLY]).metric("disagreement").tolist() == [[0.25]]
        with pytest.raises(InvalidRequest, match="lacks results of the prompt p1"):
            Table.of(results, ["p0", "p1"], [EDGE_ONLY])
