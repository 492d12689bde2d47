"""A `HashEngine` whose next byte follows a script: what a model would say, without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.fakes.byte_engine import END, ByteTokenizer
from tests.fakes.engine import HashEngine

__all__ = ["Script", "ScriptedEngine", "spoken", "tree"]

Script = Callable[[str], Mapping[str, float]]
"""From all text so far, the prompt's included, to weights of the next characters; "" ends the answer."""

_NEVER = -1e4


class ScriptedEngine(HashEngine):
    """An engine of bytes that draws by a script. `changes` are HashEngine's."""

    def __init__(self, script: Script, **changes: Any) -> None:
        super().__init__(**{"vocabulary": END + 1, "context": 2048, "tokenizer_hash": "bytes", **changes})
        self.tokenizer = ByteTokenizer()  # type: ignore[assignment]
        self._script = script

    def _row(self, prefix: tuple[int, ...]) -> NDArray[np.float32]:
        row = np.full(END + 1, _NEVER, np.float32)
        text = bytes(token for token in prefix if token < END).decode(errors="replace")
        for character, weight in self._script(text).items():
            row[ord(character) if character else END] = np.log(weight)
        return row


def spoken(line: str, text: str) -> Mapping[str, float]:
    """The next character of a line of which `text` is the beginning; its end after the last."""
    return {line[len(text) : len(text) + 1]: 1.0}


def tree(fan: int, depth: int, mark: str = ">") -> Script:
    """Answers after the last `mark` are `depth` steps, each of `fan` letters, equally probable, and a newline."""

    def script(text: str) -> Mapping[str, float]:
        answer = text.rpartition(mark)[2]
        if len(answer) % 2:
            return {"\n": 1.0}
        if len(answer) == 2 * depth:
            return {"": 1.0}
        return {chr(ord("a") + letter): 1.0 for letter in range(fan)}

    return script
