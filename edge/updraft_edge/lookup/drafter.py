"""Drafters that look up: alone (mode `lookup`), and in front of the edge's model."""

from __future__ import annotations

from collections.abc import Sequence

from updraft.generation import Statistics
from updraft.mode_settings import LookupSettings
from updraft.sampling import Sampled
from updraft_edge.drafters import ModelDrafter
from updraft_edge.lookup.memory import LookupEstimate, LookupMemory
from updraft_edge.lookup.predictor import LookedUp, Predictor, Step, Way
from updraft_edge.seams import Branch
from updraft_edge.stopping.costs import Costs

__all__ = ["LookupDrafter", "LookupFirst", "own_tokens"]

_TREE_TOKENS = 48  # of run and branches together: what any cloud takes
_BRANCH_POSITIONS = 3  # that a branch of one token costs: the last verdict's tokens are computed again for it
_BEFORE_MODEL = 0.7  # about what a model's own draft stands with


def own_tokens(run: Sequence[Sampled]) -> list[Sampled]:
    """The tokens of a run that the edge's model drew, up to the first that was looked up."""
    looked_up = (place for place, sampled in enumerate(run) if isinstance(sampled, LookedUp))
    return list(run[: next(looked_up, len(run))])


class LookupDrafter:
    """Proposes what the prompt, the answer so far and past answers suggest; None where they suggest nothing.

    A token is worth drafting while the round that it saves, times the probability that it stands, is more than its own
    place in the cloud's pass costs; both costs and probabilities are measured.

    Args:
        text: token ids of the log so far.
        most: tokens of prompt and answer, at most.
        memory: past answers, to look up in and to put this answer into when it is closed; None for neither. What is
            put there is what was settled: the cloud has written or judged all of it.
    """

    def __init__(
        self,
        settings: LookupSettings,
        text: Sequence[int],
        *,
        most: int,
        costs: Costs,
        estimate: LookupEstimate,
        memory: LookupMemory | None,
        statistics: Statistics,
    ) -> None:
        self._settings = settings
        self._costs = costs
        self._estimate = estimate
        self._memory = memory
        self._statistics = statistics
        self._predictor = Predictor(settings, estimate, most=most, memory=memory)
        self._unread = list(text)  # put when it is needed: a long prompt takes a few milliseconds
        self._answer: list[int] = []
        self._way: Way | None = None
        self._before: list[int] = []  # tokens of others that the way follows
        self._handed: list[LookedUp] = []
        self._branches: list[Branch] = []
        self._passed_over: list[tuple[int, Step]] = []  # found but not drafted, with their places after the log
        self._closed = False

    async def propose(self) -> Sampled | None:
        way = self.look()
        return self.take() if len(self._handed) < len(way.steps) else None

    def available(self) -> bool:
        return True

    def settle(self, tokens: Sequence[int]) -> None:
        self._learn(tokens)
        self._unread.extend(tokens)
        self._answer.extend(tokens)
        self._way = None
        self._before, self._handed, self._branches, self._passed_over = [], [], [], []

    def hold(self, held: bool) -> None:
        pass

    def alone(self) -> None:
        pass

    def close(self) -> None:
        if not self._closed and self._memory is not None and self._answer:
            self._memory.remember(self._answer)
        self._closed = True

    def branches(self, run: Sequence[Sampled]) -> list[Branch]:
        """Other ways that a run of looked-up tokens may go, as many as pay, or as the settings say."""
        way = self._way
        if way is None or self._before or not self._handed or len(run) != len(self._handed):
            return []
        chosen: list[Branch] = []
        room = _TREE_TOKENS - len(run)
        for branch, stand in self._predictor.branches(way, least=self._least):
            if len(chosen) >= (self._settings.branches or 16) - 1 or len(branch.tokens) > room:
                break
            if branch.shared <= len(run) and (self._settings.branches is not None or self._pays(branch, stand)):
                chosen.append(branch)
                room -= len(branch.tokens)
        self._branches = chosen
        self._statistics.lookup_drafted += sum(len(branch.tokens) for branch in chosen)
        return chosen

    def look(self, before: Sequence[int] = ()) -> Way:
        """The way on after the log and tokens that others have drafted; the same one until there are more of those."""
        if self._way is None or len(before) > len(self._before):
            self._predictor.put(self._unread)
            self._unread.clear()
            self._before = list(before)
            self._way = self._predictor.way(least=self._least, turn=self._turn, drafted=before)
            if self._way.first is not None:
                self._passed_over.append((len(before), self._way.first))
        return self._way

    def take(self) -> LookedUp:
        """The next token of the way that was looked up."""
        assert self._way is not None  # noqa: S101  # `look` comes first
        token = self._way.steps[len(self._handed)].sampled()
        if not self._handed:
            self._passed_over.pop()
        self._handed.append(token)
        self._statistics.lookup_drafted += 1
        return token

    @property
    def _least(self) -> float:
        """The least probability of standing that pays for a token's place in the cloud's pass."""
        return min(0.5, max(0.05, self._costs.position_s / (self._costs.round_s + self._costs.position_s)))

    @property
    def _turn(self) -> float:
        """The least probability with which the first token of a branch may pay for it, if about two of it stand."""
        if self._settings.branches is not None:
            return 1.0 if self._settings.branches == 1 else self._least
        return max(self._least, min(1.0, _BRANCH_POSITIONS * self._costs.position_s / (2 * self._costs.round_s)))

    def _pays(self, branch: Branch, stand: float) -> bool:
        """Whether the rounds that a branch is expected to save are worth its positions: in a sequence of its own the
        cloud computes the tokens that it shares with the run again, and those that the last verdict added."""
        positions = _BRANCH_POSITIONS - 1 + branch.shared + len(branch.tokens)
        return stand * self._costs.round_s > positions * self._costs.position_s

    def _learn(self, tokens: Sequence[int]) -> None:
        """What of this verdict's proposals stood; tokens after the first that did not were not judged.

        What was found but passed over teaches, too: else what looks bad at first could never prove to be good.
        """
        for place, found in self._passed_over:
            if place < len(tokens) and list(tokens[:place]) == self._before[:place]:
                self._teach(found, tokens[place] == found.token)
        if list(tokens[: len(self._before)]) != self._before:
            return
        judged = tokens[len(self._before) :]
        self._statistics.lookup_accepted += self._judge(self._handed, judged)
        for branch in self._branches:
            shared = [sampled.token for sampled in self._handed[: branch.shared]]
            if list(judged[: branch.shared]) == shared:
                self._statistics.lookup_accepted += self._judge(branch.tokens, judged[branch.shared :])

    def _judge(self, drafted: Sequence[Sampled], tokens: Sequence[int]) -> int:
        stood = 0
        for sampled, token in zip(drafted, tokens, strict=False):
            same = sampled.token == token
            if isinstance(sampled, LookedUp) and sampled.step is not None:
                self._teach(sampled.step, same)
            if not same:
                break
            stood += 1
        return stood

    def _teach(self, step: Step, stood: bool) -> None:
        self._estimate.learn(step.source, step.match, step.share, step.seen, stood)


class LookupFirst:
    """Looks up before the edge's model is asked: a run is the model's tokens, ended by looked-up ones where they are
    about as safe as the model's own.

    The model drafts on meanwhile and keeps what agrees with the verdict.
    """

    def __init__(self, lookup: LookupDrafter, model: ModelDrafter) -> None:
        self._lookup: LookupDrafter | None = lookup
        self._model = model
        self._drawn: list[int] = []  # the model's tokens of this run
        self._found = False

    async def propose(self) -> Sampled | None:
        if self._lookup is not None and not self._found:
            steps = self._lookup.look(self._drawn).steps
            self._found = bool(steps) and steps[0].probability >= _BEFORE_MODEL
        if self._lookup is not None and self._found:
            return await self._lookup.propose()
        sampled = await self._model.propose()
        if sampled is not None:
            self._drawn.append(sampled.token)
        return sampled

    def available(self) -> bool:
        return self._found or self._model.available()

    def settle(self, tokens: Sequence[int]) -> None:
        if self._lookup is not None:
            self._lookup.settle(tokens)
        self._model.settle(tokens)
        self._drawn, self._found = [], False

    def hold(self, held: bool) -> None:
        self._model.hold(held)

    def alone(self) -> None:
        """The cloud is away: nobody would judge what is looked up."""
        if self._lookup is not None:
            self._lookup.close()
        self._lookup, self._found = None, False
        self._model.alone()

    def close(self) -> None:
        if self._lookup is not None:
            self._lookup.close()
        self._model.close()

    def branches(self, run: Sequence[Sampled]) -> list[Branch]:
        """Other ways a run of looked-up tokens may go; the model's own runs have none."""
        return self._lookup.branches(run) if self._lookup is not None and self._found else []
