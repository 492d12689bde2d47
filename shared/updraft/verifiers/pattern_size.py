"""How large a regular expression becomes when it is compiled: `{n}` is written out, and within another one again."""

from __future__ import annotations

import math
import re
from typing import Final

__all__ = ["size_of"]

_ITEM: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d+)(?:,\d*)?\}|.", re.DOTALL)
_SPACED: Final = re.compile(r"\(\?(?:#|[A-Za-z0-9]*x)")  # comments, or flags by which blanks mean nothing
_MOST: Final = 1 << 62


def size_of(pattern: str) -> int:
    """Items of a pattern with all its repetitions written out as often as they come at least, from its text alone."""
    if _SPACED.search(pattern):  # what a repetition belongs to is not clear: as if each were within all others
        counts = [max(1, int(item[1])) for item in _ITEM.finditer(pattern) if item[1] is not None]
        return min(_MOST, len(pattern) * math.prod(counts))
    sizes, last = [0], 0  # of the groups that are open; of the item before
    for item in _ITEM.finditer(pattern):
        if item[0] == "(":
            sizes.append(0)
            last = 0
        elif item[0] == ")" and len(sizes) > 1:
            last = 1 + sizes.pop()
            sizes[-1] += last
        elif item[1] is not None:
            more = last * (max(1, int(item[1])) - 1)
            sizes[-1], last = min(_MOST, sizes[-1] + more), min(_MOST, last + more)
        else:
            last = 1
            sizes[-1] += 1
    return sum(sizes)
