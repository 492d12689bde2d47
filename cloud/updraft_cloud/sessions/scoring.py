"""How probable tokens are after a log, without writing them (SpecReason's rubric, arXiv 2504.07891)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from updraft.engine.base import Engine, FloatRows, Run
from updraft.engine.loop import Priority, Want
from updraft.errors import ProtocolViolation
from updraft.sampling import Sampled, Sampler, SamplingParams
from updraft_cloud.frames import Report, Score, Scored, Spent

__all__ = ["Scoring", "report_of"]


class Scoring:
    """A Score under way: its tokens are computed after the log in the session's own sequence, and cut away at the end.

    Cutting is exact and costs nothing; a fork would copy the whole cache. The distributions are the model's own, before
    temperature, penalties and bias.

    Args:
        frame: the checked Score frame.
        log: token ids of the log.

    Raises ProtocolViolation where the tokens do not fit the context.
    """

    def __init__(self, frame: Score, log: Sequence[int], engine: Engine, *, chunk: int) -> None:
        if len(log) + len(frame.tokens) > engine.context:
            raise ProtocolViolation(
                f"{len(frame.tokens)} tokens to score after a log of {len(log)}; the context holds {engine.context}."
            )
        self._frame = frame
        self._engine = engine
        self._chunk = min(chunk, engine.max_run)
        self._all = [*log, *frame.tokens]
        self._base = len(log) - 1
        # The row of the last token is asked for by choices alone.
        self._end = len(self._all) if frame.choices else len(self._all) - 1
        self._first_row = self._base if frame.each else self._end - 1
        self._measuring = Sampler(SamplingParams(seed=0), top_logprobs=frame.top_logprobs)
        self._reports: list[Report] = []
        self._choices: list[float] = []

    def plan(self, sequence: int) -> Want:
        """The next run; the cache holds at least the log without its last token."""
        start = self._engine.length(sequence)
        last = self._end - start <= self._engine.max_run
        stop = self._end if last else start + self._chunk
        run = Run(sequence, start, self._all[start:stop], max(0, stop - max(start, self._first_row)))
        return Want(Priority.SCORE if run.rows else Priority.PREFILL, run)

    def take(self, run: Run, rows: FloatRows) -> bool:
        """Read the rows of a run; whether it was the last."""
        stop = run.position + len(run.tokens)
        for place, row in enumerate(rows, stop - run.rows):
            following = self._all[place + 1] if self._frame.each and place + 1 < len(self._all) else None
            self._read(row, following, choices=place == len(self._all) - 1)
        return stop == self._end

    def answer(self, spent: Spent) -> Scored:
        return Scored(self._choices, self._reports, spent)

    def _read(self, row: FloatRows, following: int | None, *, choices: bool) -> None:
        sampled = self._measuring.draw(row, 0)
        energy = sampled.distribution.energy
        if following is not None:
            given = replace(sampled, token=following, logprob=float(row[following]) - energy)
            self._reports.append(report_of(_finite(given)))
        if choices:
            self._choices = [max(_LEAST, float(row[choice]) - energy) for choice in self._frame.choices]


def report_of(sampled: Sampled) -> Report:
    distribution = sampled.distribution
    return Report(sampled.logprob, distribution.entropy, distribution.energy, list(sampled.top))


_LEAST = -1e4  # a token that the model rules out has -inf, which is no number to send


def _finite(sampled: Sampled) -> Sampled:
    return sampled if sampled.logprob >= _LEAST else replace(sampled, logprob=_LEAST)
