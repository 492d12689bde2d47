"""A friendly error where a verb needs libraries of an extra that is not installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from updraft.errors import MissingExtra

__all__ = ["needs_extra"]


@contextlib.contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around imports. Raises MissingExtra naming the extra if a library that it holds is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing.startswith("updraft"):
            raise
        raise MissingExtra(
            f"The library {missing} is not installed.", remedy=f'Install it with `pip install "updraft-llm[{extra}]"`.'
        ) from error
