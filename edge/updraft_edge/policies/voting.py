"""A drafter that writes several whole answers at once and lets them vote before it proposes one of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

from updraft.engine.base import Tokenizer
from updraft.errors import Overloaded
from updraft.routing.votes import Ballot, vote
from updraft.sampling import Sampled
from updraft_edge.answer import Answer
from updraft_edge.seams import Drafter

__all__ = ["VotingDrafter"]


class VotingDrafter:
    """Perplexity consistency (RPC, NeurIPS 2025; see `updraft.routing.votes`).

    The first sample is the request's own answer, as the mode `edge` would write it; it is proposed unless another
    answer wins the vote. Samples for which the engine has no place are left out.

    Args:
        samples: one drafter a sample, each far enough ahead to write a whole answer; they are closed with this one.
        stands: where the cloud was asked and wrote nothing, the winner stands after all; else the request's own answer.

    Attributes:
        on_vote: told the outcome, and all answers.
    """

    def __init__(
        self, samples: Sequence[Drafter], answer: Answer, tokenizer: Tokenizer, *, stands: bool = False
    ) -> None:
        self._samples = samples
        self._stands = stands
        self._answer = answer
        self._tokenizer = tokenizer
        self.on_vote: Callable[[Ballot, list[list[Sampled]]], None] = lambda ballot, answers: None
        self._voting: asyncio.Task[Ballot] | None = None
        self._chosen: list[Sampled] | None = None
        self._settled = 0  # tokens of the chosen answer
        self._proposed = 0
        self._overruled = False  # the cloud writes: the first sample's drafter goes on after it
        self._followed = False  # the cloud has written something

    async def confidence(self) -> float:
        """The part of the vote that the winner got; NaN where fewer than two samples could be written."""
        return (await self._vote()).confidence

    async def propose(self) -> Sampled | None:
        if self._overruled:
            return await self._samples[0].propose()
        await self._vote()
        chosen = self._chosen or []
        if self._proposed >= len(chosen):
            raise RuntimeError("the answer goes on after its end")
        self._proposed += 1
        return chosen[self._proposed - 1]

    def available(self) -> bool:
        if self._overruled:
            return self._samples[0].available()
        return self._chosen is not None and self._proposed < len(self._chosen)

    def settle(self, tokens: Sequence[int]) -> None:
        if self._overruled:
            self._followed = self._followed or bool(tokens)
            self._samples[0].settle(tokens)
            return
        self._settled += len(tokens)
        self._proposed = self._settled

    def hold(self, held: bool) -> None:
        if held and not self._overruled:
            self._overruled = True
            self._samples[0].settle([sampled.token for sampled in (self._chosen or [])[: self._settled]])
            for sample in self._samples[1:]:
                sample.close()
        self._samples[0].hold(held)

    def alone(self) -> None:
        if self._stands and self._overruled and not self._followed:
            self._overruled = False

    def close(self) -> None:
        if self._voting is not None:
            self._voting.cancel()
        for sample in self._samples:
            sample.close()

    def _vote(self) -> Awaitable[Ballot]:
        if self._voting is None:
            self._voting = asyncio.create_task(self._hold_vote())
        return asyncio.shield(self._voting)

    async def _hold_vote(self) -> Ballot:
        written = await asyncio.gather(*(self._written(sample) for sample in self._samples), return_exceptions=True)
        errors = [result for result in written if isinstance(result, BaseException)]
        own = written[0]
        if isinstance(own, BaseException):
            raise own
        for error in errors:
            if not isinstance(error, Overloaded):
                raise error
        answers = [result for result in written if not isinstance(result, BaseException)]
        texts = [self.text(answer) for answer in answers]
        ballot = vote(texts, [_mean(answer) for answer in answers])
        self._chosen = answers[ballot.winner]
        ballot = ballot if len(answers) > 1 else Ballot(0, math.nan)
        self.on_vote(ballot, answers)
        return ballot

    async def _written(self, sample: Drafter) -> list[Sampled]:
        """A whole answer of one sample."""
        tokens: list[Sampled] = []
        while len(tokens) < self._answer.room:
            proposed = await sample.propose()
            if proposed is None:
                break
            tokens.append(proposed)
            if proposed.token in self._answer.ends:
                break
        return tokens

    def text(self, answer: Sequence[Sampled]) -> str:
        """What an answer says."""
        pieces = (self._tokenizer.piece(sampled.token) for sampled in answer if sampled.token not in self._answer.ends)
        return b"".join(pieces).decode(errors="replace")


def _mean(answer: Sequence[Sampled]) -> float:
    return sum(sampled.logprob for sampled in answer) / len(answer) if answer else math.nan
