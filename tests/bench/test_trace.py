"""Traces: reading them, and how long a transfer takes under them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from bench.trace import Trace
from updraft.errors import ConfigError

STEPS = Trace(((5.0, 1.0), (6.0, 0.0), (8.0, 2.0), (9.0, 4.0)))  # starts at 5 s; the last row holds 1 s

gaps_and_rates = some.lists(
    some.tuples(some.floats(0.01, 10.0), some.floats(0.0, 100.0)), min_size=1, max_size=8
).filter(lambda rows: max(rate for _, rate in rows) > 0.01)


def trace_of(gaps: list[tuple[float, float]]) -> Trace:
    time, rows = 0.0, []
    for gap, rate in gaps:
        rows.append((time, rate))
        time += gap
    return Trace(tuple(rows))


def test_rates_hold_until_the_next_row_and_repeat() -> None:
    assert STEPS.period_s == 5.0
    rates = [STEPS.bits_per_second(time) for time in (0.0, 0.9, 1.0, 2.9, 3.0, 4.0, 4.9, 5.0, 10.5, 11.0)]
    assert rates == [1e6, 1e6, 0.0, 0.0, 2e6, 4e6, 4e6, 1e6, 1e6, 0.0]


@pytest.mark.parametrize(
    ("start", "bits", "finish"),
    [
        (0.0, 0.5e6, 0.5),
        (0.0, 1e6, 1.0),
        (0.5, 1e6, 3.25),  # half before the silence, half after
        (1.5, 2e6, 4.0),
        (0.0, 7e6, 5.0),  # one period
        (0.0, 7e6 * 1000 + 0.5e6, 5000.5),
        (4.0, 0.0, 4.0),
    ],
)
def test_a_transfer_waits_out_what_the_trace_says(start: float, bits: float, finish: float) -> None:
    assert STEPS.finish(start, bits) == pytest.approx(finish)


@given(gaps_and_rates, some.floats(0.0, 1000.0), some.floats(0.0, 1e9), some.floats(0.0, 1e9))
def test_two_transfers_in_a_row_take_as_long_as_one(
    gaps: list[tuple[float, float]], start: float, first: float, second: float
) -> None:
    trace = trace_of(gaps)
    in_parts = trace.finish(trace.finish(start, first), second)
    at_once = trace.finish(start, first + second)
    # Where the rate is 0, time may jump: compare what has passed by then, not the times.
    assert math.isfinite(in_parts)
    assert start <= at_once
    slack = 1e-3 + 1e-6 * (first + second)
    assert abs(passed(trace, at_once) - passed(trace, in_parts)) <= slack + 100e6 * math.ulp(at_once) * 1000


def passed(trace: Trace, until: float) -> float:
    """Bits that a busy link carries from 0 to `until`, by adding up rows."""
    starts = [time - trace.rows[0][0] for time, _ in trace.rows]
    spans = list(zip(starts, [*starts[1:], trace.period_s], (rate * 1e6 for _, rate in trace.rows), strict=True))
    whole, phase = divmod(until, trace.period_s)
    in_period = sum((end - start) * rate for start, end, rate in spans)
    return whole * in_period + sum(max(0.0, min(end, phase) - start) * rate for start, end, rate in spans)


@given(gaps_and_rates, some.floats(0.0, 1e9))
def test_a_transfer_ends_when_its_bits_have_passed(gaps: list[tuple[float, float]], bits: float) -> None:
    trace = trace_of(gaps)
    assert passed(trace, trace.finish(0.0, bits)) == pytest.approx(bits, rel=1e-6, abs=1.0)


def test_reading_the_two_formats(tmp_path: Path) -> None:
    objects = tmp_path / "many.jsonl"
    objects.write_text(
        "\n".join(json.dumps({"name": n, "t_s": [0.5, 1.5], "mbps": [r, 0.0]}) for n, r in (("one", 1.0), ("two", 2.0)))
    )
    assert Trace.read(objects) == Trace(((0.5, 1.0), (1.5, 0.0)), "one")
    assert Trace.read(objects, "two") == Trace(((0.5, 2.0), (1.5, 0.0)), "two")
    columns = tmp_path / "bus.csv"
    columns.write_text("# seconds, Mbit/s\n0.5, 1.0\n\n1.5\t0.0\n")
    assert Trace.read(columns) == Trace(((0.5, 1.0), (1.5, 0.0)), "bus")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", ""),
        ("a.jsonl", "{"),
        ("a.jsonl", '{"name": "x", "t_s": [0], "mbps": [1, 2]}'),
        ("a.jsonl", '{"name": "x", "t_s": 0, "mbps": 1}'),
        ("a.jsonl", '{"t_s": [0]}'),
        ("a.csv", "# nothing"),
        ("a.csv", "1 2 3"),
        ("a.csv", "0 x"),
        ("a.csv", "0 nan"),
        ("a.csv", "0 -1"),
        ("a.csv", "0 0\n1 0"),
        ("a.csv", "1 1\n1 2"),
    ],
)
def test_malformed_traces_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=r"race|rate"):
        Trace.read(tmp_path / name)


def test_a_missing_file_or_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.csv"):
        Trace.read(tmp_path / "none.csv")
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"name": "one", "t_s": [0], "mbps": [1]}))
    with pytest.raises(ConfigError, match="'two'"):
        Trace.read(path, "two")
