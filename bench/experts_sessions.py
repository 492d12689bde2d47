"""Sessions of a real model that share passes in the engine's loop: in turn, or by the experts that they need."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from updraft.engine import open_engine
from updraft.engine.base import Engine, Output, Run
from updraft.engine.loop import EngineLoop, Priority, Want
from updraft.errors import UpdraftError

if TYPE_CHECKING:
    from updraft.engine.experts import MakeExperts

__all__ = ["GROUPINGS", "GROUPING_COLUMNS", "Crowd", "grouping_rows", "session_texts"]

GROUPINGS: Final = {"all in one pass": None, "in turn": False, "by experts": True}
"""How sessions share passes, and whether the scheduler asks the store; None: a pass holds all."""

GROUPING_COLUMNS: Final = {
    "budget_share": ("budget", ".0%"),
    "way": ("passes", ""),
    "tokens_per_second": ("tok/s", ".1f"),
    "vs_turn": ("x in turn", ".2f"),
    "kib_per_token": ("KiB/token", ".0f"),
    "needed_per_pass": ("experts a pass", ".1f"),
    "hit_rate": ("hits", ".1%"),
    "most_waited": ("longest wait, passes", ""),
    "same": ("bits as in turn", ""),
}

_BASELINE: Final = "in turn"

_SEEN: Final = 64  # logits of a row that are compared


@dataclass(frozen=True, slots=True)
class Crowd:
    """Sessions that each have a text verified, run by run, to its end; every run stands.

    All are computed to the end, so that a way cannot look good by putting off what costs most.

    Attributes:
        texts: token ids of each.
        draft: tokens of a run.
        pause: turns of the loop that a session's edge takes to draft the next one.
    """

    model: str
    texts: Sequence[Sequence[int]]
    draft: int
    pause: int = 1
    threads: int = 1

    def read(self, make: MakeExperts, pass_tokens: int, *, grouped: bool) -> dict[str, Any]:
        """Compute all texts in passes of so many tokens; figures, and a digest of all logits of each session.

        Args:
            make: the holder of the experts; its `grouping` is asked if `grouped`.
        """
        longest = max(map(len, self.texts))
        engine = open_engine(
            self.model,
            backend="torch",
            experts=make,
            sequences=len(self.texts),
            context=longest,
            batch_tokens=pass_tokens,
            threads=self.threads,
        )
        experts: Any = engine.experts  # type: ignore[attr-defined]
        loop = EngineLoop(engine, pass_tokens=pass_tokens, grouping=experts.grouping if grouped else None)
        readers = [_Reader(loop, text, self.draft, self.pause) for text in self.texts]
        try:
            for reader in readers:
                loop.add(reader)
            start = time.perf_counter()
            while not all(reader.done for reader in readers):
                loop.turn()
            seconds = time.perf_counter() - start
            counts = experts.statistics
            return {
                "seconds": seconds,
                "tokens": loop.statistics.positions,
                "passes": loop.statistics.passes,
                "bytes_moved": counts.bytes_moved,
                "needed": counts.needed,
                "hit_rate": counts.hit_rate,
                "most_waited": max(reader.most_waited for reader in readers),
                "digests": [reader.digest.hexdigest() for reader in readers],
            }
        finally:
            engine.shutdown()


class _Reader:
    """A task of the loop: one session.

    Attributes:
        most_waited: passes that one of its runs waited for a place, at most.
    """

    def __init__(self, loop: EngineLoop, text: Sequence[int], draft: int, pause: int) -> None:
        self._loop, self._text, self._draft, self._pause = loop, text, draft, pause
        self._sequence = loop.engine.open()
        self._expect: Callable[[Sequence[int]], None] = loop.engine.expect  # type: ignore[attr-defined]
        self._run: Run | None = None
        self._pausing = self._asked = 0
        self.most_waited = 0
        self.digest = hashlib.sha256()

    @property
    def done(self) -> bool:
        return self._loop.engine.length(self._sequence) == len(self._text)

    def plan(self) -> Want | None:
        if self._pausing:
            self._pausing -= 1
            return None
        if self._run is None:
            start = self._loop.engine.length(self._sequence)
            tokens = self._text[start : start + self._draft]
            self._run = Run(self._sequence, start, tokens, len(tokens))
            self._expect(tokens)
        self._asked += 1
        return Want(Priority.VERIFY, self._run)

    def consume(self, run: Run, output: Output) -> None:
        self.digest.update(np.ascontiguousarray(output.logits[:, :_SEEN]).tobytes())
        self.most_waited = max(self.most_waited, self._asked - 1)
        self._run, self._asked, self._pausing = None, 0, self._pause
        if self.done:
            self._loop.remove(self)

    def fail(self, error: UpdraftError) -> None:
        raise error


def session_texts(model: str, prompts: Sequence[str], tokens: int, threads: int) -> list[list[int]]:
    """So many token ids of each prompt, continued by the model's own greedy text where it is shorter."""
    engine = open_engine(model, backend="torch", sequences=1, context=tokens, threads=threads)
    try:
        return [_continued(engine, engine.tokenizer.encode(prompt, start=True)[:tokens], tokens) for prompt in prompts]
    finally:
        engine.shutdown()


def _continued(engine: Engine, text: list[int], tokens: int) -> list[int]:
    sequence = engine.open()
    while len(text) < tokens:
        start = engine.length(sequence)
        part = text[start : start + engine.max_run]
        (output,) = engine.forward([Run(sequence, start, part, 1)])
        if start + len(part) == len(text):
            text.append(int(output.logits[-1].argmax()))
    engine.close(sequence)
    return text


def grouping_rows(runs: dict[tuple[float, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Medians over the rounds of each budget and way; ratios are of runs of the same round."""
    rows = []
    for (share, way), own in runs.items():
        turn, last = runs[share, _BASELINE], own[-1]
        speeds = [run["tokens"] / run["seconds"] for run in own]
        base = [run["tokens"] / run["seconds"] for run in turn]
        rows.append(
            {
                "budget_share": share,
                "way": way,
                "tokens": last["tokens"],
                "passes": last["passes"],
                "tokens_per_second": median(speeds),
                "vs_turn": median(speed / other for speed, other in zip(speeds, base, strict=True)),
                "kib_per_token": median(run["bytes_moved"] / run["tokens"] for run in own) / 1024,
                "needed_per_pass": last["needed"] / last["passes"],
                "hit_rate": last["hit_rate"],
                "most_waited": max(run["most_waited"] for run in own),
                "same": all(run["digests"] == turn[0]["digests"] for run in own),
            }
        )
    return rows
