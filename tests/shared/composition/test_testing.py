"""Tests that a model wrote, run on programs that it wrote."""

from __future__ import annotations

from updraft.composition.testing import asserts_of, program_of, run_tests

DOUBLE = "Here:\n```python\ndef double(x):\n    return 2 * x\n```\nDone."


def test_tests_are_the_lines_that_assert_something_valid() -> None:
    text = "Sure!\nassert double(2) == 4\n  assert double(0) == 0\nassert double(2) == 4\nassert (\nimport os\n"
    assert asserts_of(text) == ["assert double(2) == 4", "assert double(0) == 0"]


def test_a_program_is_the_last_fenced_block_or_all_of_it() -> None:
    assert program_of(f"```\nx = 1\n```\nor better\n{DOUBLE}") == program_of(DOUBLE)
    assert program_of(DOUBLE) == "def double(x):\n    return 2 * x\n"
    assert program_of("x = 1") == "x = 1"
    assert program_of("```\nx = 1") == "x = 1"
    assert program_of("I cannot do that.") is None and program_of("") is None


async def test_the_score_is_the_part_that_passes() -> None:
    tests = ["assert double(2) == 4", "assert double(2) == 5", "assert double(1) == 2", "assert triple(1)"]
    assert await run_tests(DOUBLE, tests) == 0.5
    assert await run_tests("I cannot.", tests) is None


async def test_a_program_that_ends_itself_passes_nothing() -> None:
    assert await run_tests("import os\nos._exit(0)", ["assert False"]) == 0.0


async def test_what_has_no_time_for_all_tests_has_no_score() -> None:
    assert await run_tests("import time\ntime.sleep(4)", ["assert True"] * 8, seconds=0.2) is None
