"""What the sessions that draft are like, all together: how much of their drafts stands and how long they stay away."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["Crowd", "CrowdFigures"]

_FEW: Final = 8  # sessions, and drafted tokens of one, before they say anything
_LONG: Final = 64  # judged tokens after which a session counts again
_MEMORY: Final = 64.0  # sessions after which one weighs 1/e
_AWAY: Final = 1.0 / 64.0  # weight of one time away
_PAUSE: Final = 4.0  # times the usual time away: a reader who was slow
_TOKENS: Final = 4096.0  # when so many are committed, all counts are halved
_STALE_S: Final = 60.0  # since the last verdict: then nobody knows any more


@dataclass(frozen=True, slots=True)
class CrowdFigures:
    """Attributes:
    acceptance: share of drafted tokens that stand in a session that accepts little: the mean of the sessions less
        one standard deviation, so that what suits these sessions suits nearly all.
    away_s: from a verdict to the next draft.
    prompt: prompt positions that are computed for each token that is committed.
    """

    acceptance: float
    away_s: float
    prompt: float


@dataclass(slots=True)
class _Drafting:
    """One session's drafts since it counted last."""

    run: int = 0
    stood: int = 0
    judged: int = 0
    answered: float | None = None  # when its last verdict went off


class Crowd:
    """Running figures of the sessions of one engine, from what they ask and what they are answered.

    Every edge decides by the same figures whether all drafting or all writing carries more, so that edges decide alike:
    one that saw its own drafts alone would yield where the others do not, and wait for their passes at each token.

    Args:
        clock: seconds, as that of the arrivals.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: dict[int, _Drafting] = {}
        self._count = 0
        self._mean = self._variance = 0.0  # of the sessions' shares
        self._away_s: float | None = None
        self._prompt = self._tokens = 0.0
        self._judged_at = -math.inf

    def asked(self, session: int, run: int, arrived: float) -> None:
        """A draft of `run` tokens has arrived."""
        own = self._sessions.setdefault(session, _Drafting())
        own.run = run
        if own.answered is not None:
            self._note_away(max(0.0, arrived - own.answered))

    def judged(self, session: int, accepted: int) -> None:
        """A verdict goes off: so many of the run's tokens stood, and one more is committed."""
        own = self._sessions.setdefault(session, _Drafting())
        own.answered = self._judged_at = self._clock()
        own.stood += min(own.run, accepted)
        own.judged += min(own.run, accepted + 1)  # tokens after the first rejected one were never judged
        self.wrote(session, accepted + 1, drafting=True)
        if own.judged >= _LONG:
            self._count_in(own)

    def wrote(self, session: int, tokens: int, *, drafting: bool = False) -> None:
        """So many tokens are committed; by the cloud alone unless `drafting`."""
        self._tokens += tokens
        if self._tokens > _TOKENS:
            self._tokens, self._prompt = self._tokens / 2.0, self._prompt / 2.0
        if not drafting and session in self._sessions:
            self._sessions[session].answered = None

    def computed(self, prompt: int) -> None:
        """A pass computed so many positions of prompts."""
        self._prompt += prompt

    def left(self, session: int) -> None:
        """A session has ended."""
        own = self._sessions.pop(session, None)
        if own is not None:
            self._count_in(own)

    @property
    def figures(self) -> CrowdFigures | None:
        """None where too little was seen, or nothing for a minute."""
        stale = self._clock() - self._judged_at > _STALE_S
        if self._count < _FEW or self._away_s is None or stale:
            return None
        low = self._mean - math.sqrt(self._variance)
        return CrowdFigures(min(max(low, 0.0), 1.0), self._away_s, self._prompt / max(1.0, self._tokens))

    def _count_in(self, own: _Drafting) -> None:
        if own.judged < _FEW:
            return
        self._count += 1
        gain = max(1.0 / _MEMORY, 1.0 / self._count)
        above = own.stood / own.judged - self._mean
        self._mean += gain * above
        self._variance = (1.0 - gain) * (self._variance + gain * above * above)
        own.stood = own.judged = 0

    def _note_away(self, seconds: float) -> None:
        if self._away_s is None:
            self._away_s = seconds
            return
        usual = max(self._away_s, 1e-3)
        self._away_s += _AWAY * (min(seconds, _PAUSE * usual) - self._away_s)
