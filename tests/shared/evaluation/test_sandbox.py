"""Programs that a model wrote run with limits, and what they start ends with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from updraft.evaluation import sandbox
from updraft.evaluation.sandbox import Limits, run_program

QUICK = Limits(seconds=5.0, cpu_seconds=3)


async def test_a_program_passes_or_fails_with_its_reason() -> None:
    assert (await run_program("assert 1 + 1 == 2", QUICK)).outcome == "passed"
    failed = await run_program("assert 1 + 1 == 3, 'wrong sum'", QUICK)
    assert (failed.outcome, failed.reason) == ("failed", "AssertionError: wrong sum")
    assert (await run_program("def broken(:", QUICK)).outcome == "failed"
    assert (await run_program("import sys; sys.exit(3)", QUICK)).reason == "status 3"


async def test_a_program_that_does_not_end_is_ended() -> None:
    assert (await run_program("while True: pass", Limits(seconds=0.5))).outcome == "timeout"
    assert (await run_program("import time; time.sleep(60)", Limits(seconds=0.5))).outcome == "timeout"
    assert (await run_program("while True: pass", Limits(seconds=20.0, cpu_seconds=1))).outcome == "timeout"


async def test_memory_and_files_are_limited() -> None:
    assert (await run_program("x = bytearray(10**9)", QUICK)).reason.startswith("MemoryError")
    big = "open('big', 'wb').write(bytes(10**7))"
    assert (await run_program(big, Limits(seconds=5.0, file_bytes=1 << 16))).outcome == "failed"


async def test_it_sees_neither_the_environment_nor_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UPDRAFT_SECRET", "secret")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "planted.py").write_text("")
    here = os.getcwd()
    program = f"""
import os, sys
assert 'UPDRAFT_SECRET' not in os.environ
assert os.getcwd() != {here!r} and sys.flags.isolated
assert os.listdir('.') == ['program.py']
assert sys.stdin.read() == ''
try:
    import planted
except ImportError:
    pass
else:
    raise AssertionError
"""
    verdict = await run_program(program, QUICK)
    assert verdict.outcome == "passed", verdict.reason


async def test_the_network_is_away_where_the_system_allows_it() -> None:
    if not await sandbox._without_network():
        pytest.skip("this system takes no network away from an ordinary user")
    program = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    assert "unreachable" in (await run_program(program, QUICK)).reason


async def test_it_runs_where_the_network_cannot_be_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_network_off", [])
    monkeypatch.setattr(sandbox, "_NO_NETWORK", ("no-such-program",))
    assert (await run_program("pass", QUICK)).outcome == "passed"


async def test_much_output_is_dropped() -> None:
    program = "import sys\nfor _ in range(10**4): sys.stderr.write('x' * 100 + '\\n')\nraise ValueError('end')"
    assert (await run_program(program, QUICK)).reason == "ValueError: end"
