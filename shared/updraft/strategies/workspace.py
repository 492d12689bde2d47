"""What a strategy works with: branches under a budget, samples, a verifier that cannot do harm, and who watches."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, SupportsFloat

from updraft.errors import UpdraftError
from updraft.sampling import SamplingParams
from updraft.strategies.branches import Branch, Forks
from updraft.strategies.problem import Budget, Ended, Problem, Progress, Sample, Spent
from updraft.strategies.prompts import ask
from updraft.verifiers.base import Claim, Judgement, Verifier

__all__ = ["WARM", "Workspace"]

log = logging.getLogger(__name__)

WARM: Final = 0.8  # temperature of samples where the request is greedy: copies of one answer would tell nothing


@dataclass
class Workspace:
    """One request being worked on. Whoever makes it closes its `forks`.

    Attributes:
        verifier_timeout_s: how long one call of the verifier may take; it must not block the event loop.
        ended: which part of the budget stopped the strategy, once one has.
        complaints: what went wrong with the verifier.
        runs_code: programs that the model writes may be run here, in a sandbox.
    """

    problem: Problem
    budget: Budget
    forks: Forks
    verifier: Verifier | None = None
    note: Callable[[Progress], None] = lambda progress: None
    verifier_timeout_s: float = 120.0
    spent: Spent = field(default_factory=Spent)
    ended: Ended | None = None
    complaints: list[str] = field(default_factory=list)
    runs_code: bool = False

    def __post_init__(self) -> None:
        self._began = time.perf_counter()
        self.forks.allowance = self.budget.tokens  # a verifier that writes keeps to it, too
        self._scored: dict[Sample, Judgement] = {}
        seconds = self.budget.seconds
        self._until = None if seconds is None else asyncio.get_running_loop().time() + seconds

    @property
    def tokens_left(self) -> int:
        """Tokens that may still be drawn."""
        return (1 << 30) if self.budget.tokens is None else max(0, self.budget.tokens - self.forks.work.tokens)

    @property
    def calls_left(self) -> int:
        """Claims that may still be judged."""
        return (1 << 30) if self.budget.calls is None else max(0, self.budget.calls - self.spent.verifier_calls)

    @property
    def seconds_left(self) -> float:
        """Seconds that it may still take."""
        return math.inf if self._until is None else max(0.0, self._until - asyncio.get_running_loop().time())

    @property
    def exhausted(self) -> bool:
        """Tokens or time are used up; `ended` says which."""
        if self.tokens_left == 0:
            self.ended = self.ended or "tokens"
        if self.seconds_left == 0.0:
            self.ended = self.ended or "time"
        return self.ended in ("tokens", "time")

    def start(self, prompt: Sequence[int] | None = None, *, temperature: float | None = None) -> Branch:
        """A branch from the problem's prompt, or another one. Without a `temperature`, the first draws as the request
        says, and a greedy request's others are warmed."""
        self.spent.samples += 1
        sampling = self._warmed() if self.spent.samples > 1 else None
        if temperature is not None:
            sampling = replace(self.problem.sampling, temperature=temperature)
        return self.forks.start(self.problem.prompt if prompt is None else prompt, sampling)

    def fork(self, branch: Branch, *, keep: int | None = None) -> Branch:
        """A copy of a branch, or of its first `keep` tokens, that goes its own way; a greedy request's is warmed."""
        return self.forks.fork(branch, self._warmed(), keep=keep)

    def drop(self, branch: Branch) -> None:
        self.forks.drop(branch)

    async def extend(self, branches: Sequence[Branch], *, step: bool = False, most: int | None = None) -> None:
        """Write branches on together: to their end, or by a step; at most `most` tokens each, within the budget.

        What is left of the budget's tokens is shared out evenly before anything is drawn, so that what is drawn does
        not depend on who is quicker.
        """
        open_ones = [branch for branch in branches if self.open(branch)]
        if not open_ones or self.exhausted:
            return
        share = min(self.tokens_left // len(open_ones), most or self.problem.max_tokens)
        if share == 0:
            self.ended = self.ended or "tokens"
            return
        rooms = {branch: min(share, self.problem.max_tokens - len(branch.written)) for branch in open_ones}
        await self.forks.extend(rooms, step=self.problem.step if step else None, until=self._until)

    def open(self, branch: Branch) -> bool:
        """It may be written on: it has not ended, and there is room."""
        written = len(branch.written)
        room = min(self.problem.max_tokens, self.forks.engine.context - len(branch.prompt))
        return not branch.ended and written < room

    async def sample(
        self, count: int, prompt: Sequence[int] | None = None, *, temperature: float | None = None
    ) -> list[Sample]:
        """Whole answers, drawn as `start` says and told to who watches.

        As many are written together as the budget's tokens reach for in any case; fewer than `count` come back where it
        is used up, but the request's first always does.
        """
        samples: list[Sample] = []
        while len(samples) < count and not (self.exhausted and self.spent.samples):
            wave = min(count - len(samples), max(1, self.tokens_left // self.problem.max_tokens))
            branches = [self.start(prompt, temperature=temperature) for _ in range(wave)]
            await self.extend(branches)
            samples += [self.sample_of(branch) for branch in branches]
            for branch in branches:
                self.drop(branch)
            for sample in samples[-wave:]:
                self.tell("sample", branch=sample.branch, text=sample.text)
        return samples

    def sample_of(self, branch: Branch) -> Sample:
        """What a branch says, as far as it is written."""
        text = self.text_of(branch)
        return Sample(
            text,
            tuple(branch.tokens),
            branch.logprob,
            self.problem.extract(text) or None,
            branch.ended,
            branch=branch.number,
            entropy=branch.entropy,
            energy=branch.energy,
            written=tuple(branch.written),
        )

    def ask(self, text: str) -> list[int]:
        """The prompt of a further round: a user's message that says this."""
        return ask(self.forks.engine, text)

    async def write(self, text: str) -> Sample | None:
        """What the model answers to a user's message, drawn as the request says; None where budget or context have no
        room for it."""
        prompt = self.ask(text)
        if len(prompt) >= self.forks.engine.context - 1 or self.exhausted:
            return None
        branch = self.forks.start(prompt)
        await self.extend([branch])
        sample = self.sample_of(branch)
        self.drop(branch)
        return sample if sample.tokens else None

    def text_of(self, branch: Branch) -> str:
        return self.read(branch.tokens)

    def read(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without end tokens."""
        piece = self.forks.engine.tokenizer.piece
        return b"".join(piece(token) for token in tokens if token not in self.forks.ends).decode(errors="replace")

    def claim(self, answer: Sample | Branch) -> Claim:
        """What a verifier is shown of an answer."""
        sample = self.sample_of(answer) if isinstance(answer, Branch) else answer
        prompt = answer.prompt if isinstance(answer, Branch) else self.problem.prompt
        tokens = [token for token in sample.tokens if token not in self.forks.ends]
        return Claim(self.problem.question, prompt, tokens, sample.text, sample.logprob, sample.finished)

    async def judge(self, answers: Sequence[Sample | Branch]) -> list[Judgement]:
        """What the verifier thinks of answers; a whole one that it has scored before is not shown to it again. One that
        crashes, hangs or returns nonsense leaves them unverified, and is complained of; answers for which no calls are
        left are unverified, too."""
        if self.verifier is None:
            raise RuntimeError("the strategy needs a verifier")
        known = [None if isinstance(answer, Branch) else self._scored.get(answer) for answer in answers]
        new = [answer for answer, judgement in zip(answers, known, strict=True) if judgement is None]
        asked = new[: self.calls_left]
        if self.seconds_left == 0.0:
            asked = []
        elif len(asked) < len(new):
            self.ended = self.ended or "calls"
        self.spent.verifier_calls += len(asked)
        fresh = await self._judged([self.claim(answer) for answer in asked]) if asked else []
        self.spent.verifier_positions += sum(judgement.positions for judgement in fresh)
        for answer, judgement in zip(asked, fresh, strict=True):
            if isinstance(answer, Sample) and judgement.score is not None:
                self._scored[answer] = judgement
        rest = iter([*fresh, *[Judgement(None, reason="no calls or no time are left")] * (len(new) - len(asked))])
        judgements = [next(rest) if judgement is None else judgement for judgement in known]
        for answer, judgement in zip(answers, judgements, strict=True):
            number = answer.number if isinstance(answer, Branch) else answer.branch
            self.tell("score", branch=number, value=judgement.score)
        return judgements

    def tell(
        self,
        kind: str,
        *,
        branch: int = -1,
        value: float | None = None,
        source: int | None = None,
        text: str = "",
    ) -> None:
        """Let who watches know."""
        self.note(Progress(kind, branch, value, source, self.forks.work.tokens, text))  # type: ignore[arg-type]

    def bill(self) -> Spent:
        """What was spent so far."""
        work = self.forks.work
        self.spent.tokens = work.tokens
        self.spent.prefilled = max(0, work.positions - work.tokens)
        self.spent.seconds = time.perf_counter() - self._began
        return self.spent

    def _warmed(self) -> SamplingParams | None:
        """What takes the place of greedy parameters; None where the request's own are warm."""
        sampling = self.problem.sampling
        return replace(sampling, temperature=WARM) if sampling.temperature == 0.0 else None

    async def _judged(self, claims: Sequence[Claim]) -> list[Judgement]:
        verifier = self.verifier
        assert verifier is not None  # noqa: S101  # `judge` comes first
        patience = min(self.verifier_timeout_s, self.seconds_left)
        asked = asyncio.ensure_future(verifier.judge(claims))
        try:
            done, _ = await asyncio.wait({asked}, timeout=patience)  # raises where this request is cancelled
        finally:
            asked.cancel()  # without waiting: who hangs may also not listen to this
        if not done:
            return self._complain(f"{verifier.name} took more than {patience:.3g} s", len(claims))
        try:
            given = list(asked.result())
        except UpdraftError as error:
            return self._complain(f"{verifier.name}: {error}", len(claims))
        except (Exception, asyncio.CancelledError) as error:
            where = "".join(traceback.format_tb(error.__traceback__))  # its message may hold text of an answer
            log.error("the verifier %s failed with %s\n%s", verifier.name, type(error).__name__, where)
            return self._complain(f"{verifier.name} failed: {type(error).__name__}", len(claims))
        if len(given) != len(claims):
            return self._complain(f"{verifier.name} gave {len(given)} judgements for {len(claims)}", len(claims))
        judgements = []
        for each in given:
            judgement = _checked(each)
            if isinstance(judgement, str):
                judgements += self._complain(f"{verifier.name} gave {judgement}", 1)
                continue
            if judgement.failed:
                self._complain(f"{verifier.name}: {judgement.reason}", 1)
            judgements.append(judgement)
        return judgements

    def _complain(self, reason: str, count: int) -> list[Judgement]:
        if reason not in self.complaints:
            self.complaints.append(reason)
        return [Judgement(None, reason=reason, failed=True)] * count


def _checked(judgement: object) -> Judgement | str:
    """A judgement with a plain number as its score, or what is wrong with it. Verifiers may be anybody's, so types are
    not relied on."""
    if not isinstance(judgement, Judgement):
        return f"a {type(judgement).__name__} in place of a judgement"
    score: object = judgement.score
    positions: object = judgement.positions
    if not isinstance(positions, int) or positions < 0:
        return "a number of positions that is none"
    if score is None:
        return "a pass without a score" if judgement.passed else judgement
    try:
        if not isinstance(score, SupportsFloat):
            raise TypeError
        value = float(score)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):
        return f"a {type(score).__name__} in place of a score"
    return replace(judgement, score=value) if 0 <= value <= 1 else f"a score of {value:g}"
