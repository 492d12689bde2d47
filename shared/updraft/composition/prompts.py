"""What components ask the model (after Archon's prompts, arXiv 2409.15254, appendix A)."""

from __future__ import annotations

from collections.abc import Sequence

from updraft.composition.base import Candidate

__all__ = ["CRITIQUE", "FUSE", "RANK", "TESTS", "listed"]

CRITIQUE = """Here is a question and an answer to it.
Say briefly what is right in the answer, and what is wrong or missing.

Question: {question}

Answer: {answer}"""

RANK = """Here is a question and {count} numbered answers to it.

Question: {question}

{answers}

Which answer is best? Reply with its number alone."""

FUSE = """Here is a question and {count} numbered answers to it. Some may be wrong.
Write one answer that is as right and as complete as possible, in the same form as the answers.

Question: {question}

{answers}"""

TESTS = """Write {count} tests for a Python program that solves the following task.
Each test is one line that begins with assert. Write nothing else.

{question}"""


def listed(candidates: Sequence[Candidate], most: int) -> str:
    """Answers with their numbers from 1, and their critiques, each cut to `most` characters."""
    parts = []
    for number, candidate in enumerate(candidates, 1):
        part = f"[{number}] {candidate.sample.text.strip()[:most]}"
        if candidate.critique:
            part += f"\nCritique of [{number}]: {candidate.critique.strip()[:most]}"
        parts.append(part)
    return "\n\n".join(parts)
