"""Tests that a model wrote, and programs that it wrote, brought together in the sandbox."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Final

from updraft.sandbox import Limits, run_program

__all__ = ["asserts_of", "program_of", "run_tests"]

_FENCED: Final = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_LIMITS: Final = Limits(seconds=5.0, cpu_seconds=4)


def program_of(text: str) -> str | None:
    """The program in an answer: its first fenced block, or the whole text. None if that is no Python."""
    found = _FENCED.search(text)
    program = found.group(1) if found else text
    return program if program.strip() and _parses(program) else None


def asserts_of(text: str) -> list[str]:
    """The lines that begin with assert and are valid Python, each once."""
    lines = (line.strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line.startswith("assert") and _parses(line)))


async def run_tests(text: str, tests: Sequence[str]) -> float | None:
    """The part of the tests that an answer's program passes, 0 to 1; None if there is no program in it."""
    program = program_of(text)
    if program is None:
        return None
    passed = 0
    for test in tests:
        passed += (await run_program(f"{program}\n\n{test}\n", _LIMITS)).outcome == "passed"
    return passed / len(tests) if tests else None


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
