"""Tests that a model wrote, and programs that it wrote, brought together in the sandbox."""

from __future__ import annotations

import ast
import asyncio
import math
from collections.abc import Sequence
from typing import Final

from updraft.sandbox import Limits
from updraft.verifiers.blocks import PYTHON, fenced
from updraft.verifiers.unit_tests import run_tested

__all__ = ["asserts_of", "program_of", "run_tests"]

_LIMITS: Final = Limits(seconds=5.0, cpu_seconds=4)


def program_of(text: str) -> str | None:
    """The program in an answer: its last fenced block, as the verifier `unit-tests` reads it, or the whole text. None
    if that is no Python."""
    block = fenced(text, PYTHON)
    program = text if block is None else block
    return program if program.strip() and _parses(program) else None


def asserts_of(text: str) -> list[str]:
    """The lines that begin with assert and are valid Python, each once."""
    lines = (line.strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line.startswith("assert") and _parses(line)))


async def run_tests(text: str, tests: Sequence[str], seconds: float = math.inf) -> float | None:
    """The part of the tests that an answer's program passes, 0 to 1; None if there is no program in it, or not enough
    time for all tests.

    Args:
        seconds: for all tests together.
    """
    program = program_of(text)
    if program is None or not tests:
        return None
    passed = 0
    try:
        async with asyncio.timeout(seconds if math.isfinite(seconds) else None):
            for test in tests:
                passed += (await run_tested(program, test, _LIMITS)).outcome == "passed"
    except TimeoutError:
        return None
    return passed / len(tests)


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
