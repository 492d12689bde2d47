"""What step-wise searches share: paths of judged steps under a budget, and the outcome that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import ClassVar, Final, Literal, NamedTuple

from pydantic import Field

from updraft.noise import key_of
from updraft.strategies.base import Strategy
from updraft.strategies.branches import Branch
from updraft.strategies.particle_weights import Floats, odds_weights, uniforms
from updraft.strategies.problem import Outcome, Problem, Sample
from updraft.strategies.tally import conclude, tally
from updraft.strategies.workspace import Workspace
from updraft.verifiers.base import Judgement

__all__ = ["Candidate", "Choice", "Path", "Step", "Stepwise", "Walk", "decide"]

_PRIOR: Final = 0.5  # the reward of what nobody has judged
_SALT: Final = 0x5EA6C4  # keeps a search's draws apart from those of tokens

Choice = Literal["best", "vote"]
"""How the answer is chosen: that of the path with the highest reward, or the one whose paths weigh most together."""


class Stepwise(Strategy):
    """A strategy that writes answers a step at a time and is led by a verifier of steps.

    Attributes:
        step: the text that ends a step; the problem's own, a blank line in requests, when left out.
        step_tokens: a step that is longer is cut here and judged as it is.
        choose: among the answers at the end.
    """

    needs_verifier: ClassVar[bool] = True
    needs_steps: ClassVar[bool] = True

    step: str | None = Field(default=None, min_length=1, max_length=64)
    step_tokens: int = Field(default=256, ge=1, le=4096)
    choose: Choice = "vote"

    def prepared(self, problem: Problem) -> Problem:
        return problem if self.step is None else replace(problem, step=self.step)


class Step(NamedTuple):
    """Where a step ends, in tokens of its answer, and the reward of the answer up to there, 0 to 1."""

    end: int
    reward: float


@dataclass(eq=False, slots=True)
class Path:
    """A branch with what its steps were thought of.

    Attributes:
        judgement: the verifier's on all that is written; None where there is none.
        expanded: how often others have gone on from here.
    """

    branch: Branch
    steps: tuple[Step, ...] = ()
    judgement: Judgement | None = None
    expanded: int = 0

    @property
    def reward(self) -> float:
        return self.steps[-1].reward if self.steps else _PRIOR


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer to choose from, with its reward."""

    sample: Sample
    reward: float
    judgement: Judgement | None = None


class Walk:
    """Takes paths step by step within the budget.

    Steps that the verifier could not judge have the median of those beside them, or the reward before. When it can
    judge none of them (it failed, or no calls are left) it is asked no more. While no answer is whole, the tokens that
    one needs are kept back, but not more than half of the budget.

    Attributes:
        over: the search has to end: tokens or time are used up, or nobody judges any more.
        whole: an answer has ended.
        drawn: steps so far, of all paths.
    """

    def __init__(self, work: Workspace, step_tokens: int) -> None:
        self.work = work
        self.whole = False
        self.drawn = 0
        self._step_tokens = step_tokens
        self._blind = False
        self._short = False
        self._draws = 0

    @property
    def over(self) -> bool:
        return self._blind or self._short or self.work.exhausted

    def open(self, paths: Sequence[Path]) -> list[Path]:
        """Those that may be written on."""
        return [path for path in paths if self.work.open(path.branch)]

    def fork(self, path: Path, depth: int | None = None) -> Path:
        """A copy that goes its own way after the first `depth` steps, after all of them when left out."""
        if depth is None or depth >= len(path.steps):
            return replace(path, branch=self.work.fork(path.branch), expanded=0)
        steps = path.steps[:depth]
        return Path(self.work.fork(path.branch, keep=steps[-1].end if steps else 0), steps)

    def drop(self, path: Path) -> None:
        """Give a path up and free what it holds."""
        self.work.tell("prune", branch=path.branch.number, value=path.reward)
        self.work.drop(path.branch)

    def distinct(self, paths: Sequence[Path], said: set[tuple[int, ...]]) -> list[Path]:
        """The first of those that say the same, and only what was not `said` before; the others are given up."""
        new: list[Path] = []
        for path in paths:
            tokens = tuple(path.branch.tokens)
            if tokens in said:
                self.drop(path)
            else:
                said.add(tokens)
                new.append(path)
        return new

    async def step(self, paths: Sequence[Path]) -> None:
        """Write those that are open on by a step, all together, and have them judged."""
        paths = self.open(paths)
        most = self._most(len(paths))
        if most == 0:
            self._short = True
            return
        await self.work.extend([path.branch for path in paths], step=True, most=most)
        await self._judge(paths)

    async def finish(self, paths: Sequence[Path]) -> None:
        """Write paths to their ends, without asking in between: the best ones that the budget's tokens reach for in any
        case, and at least one."""
        reach = max(1, self.work.tokens_left // self.work.problem.max_tokens)
        paths = sorted(self.open(paths), key=lambda path: -path.reward)[:reach]
        await self.work.extend([path.branch for path in paths])
        await self._judge(paths)
        if self._short:
            self.work.ended = self.work.ended or "tokens"

    def uniforms(self, count: int) -> Floats:
        """Numbers in [0, 1), shape (count,), that follow from the request's seed and how often it was asked."""
        self._draws += 1
        return uniforms(key_of(self.work.forks.seed ^ key_of(_SALT + self._draws)), count)

    def candidate(self, path: Path, reward: float | None = None) -> Candidate:
        """A path as an answer to choose from; its reward is the last step's when left out."""
        sample = self.work.sample_of(path.branch)
        return Candidate(sample, path.reward if reward is None else reward, path.judgement)

    async def given(self) -> list[Candidate]:
        """The answers that came with the request, judged."""
        samples = self.work.problem.given
        if self._blind or not samples:
            return [Candidate(sample, _PRIOR) for sample in samples]
        judged = await self.work.judge(samples)
        return [
            Candidate(sample, _PRIOR if verdict.score is None else verdict.score, _known(verdict))
            for sample, verdict in zip(samples, judged, strict=True)
        ]

    def _most(self, count: int) -> int:
        """Tokens that each of so many paths may have for its next step."""
        limit, left = self.work.budget.tokens, self.work.tokens_left
        kept = 0 if self.whole or limit is None else min(self.work.problem.max_tokens, limit // 2)
        return min(self._step_tokens, max(0, left - kept) // max(1, count))

    async def _judge(self, paths: Sequence[Path]) -> None:
        """Note the new steps of paths that have one."""
        grown = [path for path in paths if len(path.branch.written) > (path.steps[-1].end if path.steps else 0)]
        if not grown:
            return
        self.drawn += len(grown)
        judged = [Judgement(None)] * len(grown) if self._blind else await self._ask(grown)
        known = [verdict.score for verdict in judged if verdict.score is not None]
        self._blind = not known
        for path, verdict in zip(grown, judged, strict=True):
            usual = median(known) if known else path.reward
            reward = usual if verdict.score is None else verdict.score
            self._note(path, reward, verdict)

    async def _ask(self, paths: Sequence[Path]) -> list[Judgement]:
        return await self.work.judge([path.branch for path in paths])

    def _note(self, path: Path, reward: float, verdict: Judgement) -> None:
        branch, begin = path.branch, path.steps[-1].end if path.steps else 0
        path.steps += (Step(len(branch.written), reward),)
        path.judgement = _known(verdict)
        self.work.tell("step", branch=branch.number, text=self.work.read(branch.tokens[begin:]))
        if branch.ended:
            self.whole = True
            self.work.tell("sample", branch=branch.number, text=self.work.text_of(branch))


def decide(work: Workspace, candidates: Sequence[Candidate], choose: Choice, temperature: float = 1.0) -> Outcome:
    """The outcome among candidates: among those that the model ended, where there are any.

    Votes weigh softmax(logit(reward) / temperature). An answer that cannot be read has no vote and is counted; where
    none can be read, the text with the highest reward is the answer, with confidence 0.
    """
    whole = [one for one in candidates if one.sample.finished] or list(candidates)
    ranked = sorted(whole, key=lambda one: -one.reward)
    samples = [one.sample for one in ranked]
    scores = [one.reward if one.judgement else None for one in ranked]
    weights = odds_weights([one.reward for one in ranked], temperature).tolist()
    found = tally(samples, weights, scores)
    if choose == "best" and found:
        leader = next(sample.answer for sample in samples if sample.answer is not None)
        found.sort(key=lambda alternative: alternative.sample.answer != leader)
    sample = found[0].sample if found else samples[0]
    judgement = ranked[samples.index(sample)].judgement
    outcome = conclude(
        work,
        samples,
        found,
        confidence=lambda best: best.weight if choose == "vote" or best.score is None else best.score,
        verified=judgement.passed if judgement and sample.finished else None,
    )
    work.tell("answer", branch=sample.branch, value=outcome.confidence, text=sample.answer or "")
    return outcome


def _known(judgement: Judgement) -> Judgement | None:
    return None if judgement.score is None else judgement
