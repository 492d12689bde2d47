"""Best-first expansion: from the last tokens of a text to what most probably follows, and to other ways it may go."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from updraft.mode_settings import LookupSettings
from updraft.sampling import Distribution, Sampled
from updraft_edge.lookup.memory import DEPTH, LookupEstimate, LookupMemory
from updraft_edge.lookup.trie import Node, SuffixTrie
from updraft_edge.lookup.trigram import TrigramTable
from updraft_edge.seams import Branch

__all__ = ["LookedUp", "Predictor", "Step", "Way"]

_ROWS = 16_384
_TAIL = 8
_WIDTH = 4  # other ways that are looked at from one place

Places = tuple[tuple[SuffixTrie, Node | int], ...]
Found = tuple[float, int, int, Places]  # weight, token, tokens matched before it, the places after it


@dataclass(frozen=True, slots=True)
class LookedUp(Sampled):
    """A drafted token that no model has drawn: `logprob` and `distribution` say how probably it stands."""

    step: Step | None = None


@dataclass(slots=True)
class Step:
    """A token that may follow.

    Attributes:
        chance: the probability that it stands if all before it do, as far as verdicts tell.
        probability: that the whole way up to it stands.
        source: where it was found.
        match: tokens before it that were matched.
        share: its share of what followed them, 0 to 1.
        seen: how often it did.
        places, tail: what it leads to.
    """

    token: int
    chance: float
    probability: float
    source: str
    match: int
    share: float
    seen: float
    places: Places
    tail: tuple[int, ...]

    def sampled(self) -> LookedUp:
        """As a drafter proposes it."""
        chance = min(max(self.chance, 1e-6), 1.0)
        surprise = -math.log(chance)
        return LookedUp(self.token, -surprise, Distribution(0.0, surprise, chance), step=self)


@dataclass(slots=True)
class Way:
    """The most probable way on, and where else it may turn off: (steps shared with it, the step).

    Attributes:
        first: the best first token, also where it is too improbable to be a step.
    """

    first: Step | None = None
    steps: list[Step] = field(default_factory=list)
    turns: list[tuple[int, Step]] = field(default_factory=list)


class Predictor:
    """Looks up what follows the text of one request, in its own prompt and answer and, with `memory`, in past answers.

    Args:
        most: tokens of prompt and answer, at most.
        memory: past answers; None to look up in the request's own text alone.
    """

    def __init__(
        self, settings: LookupSettings, estimate: LookupEstimate, *, most: int, memory: LookupMemory | None
    ) -> None:
        self._sources = settings.sources
        self._match = settings.match
        self._longest = settings.longest
        self._estimate = estimate
        self._trie = SuffixTrie(depth=DEPTH, most=most) if "trie" in settings.sources else None
        self._trigrams = TrigramTable(rows=_ROWS) if "trigram" in settings.sources else None
        self._memory = memory
        self._tail: deque[int] = deque(maxlen=_TAIL)

    def put(self, tokens: Sequence[int]) -> None:
        """These tokens were appended to the text."""
        if self._trie is not None:
            self._trie.put(tokens)
        if self._trigrams is not None:
            self._trigrams.put(tokens)
        self._tail.extend(tokens)

    def way(self, *, least: float, turn: float = 1.0, drafted: Sequence[int] = ()) -> Way:
        """The most probable way on from the text and `drafted` after it.

        Every step on it stands with a probability of `least` or more, every turn off it with one of `turn`.
        """
        places: Places = ()
        tail = (*self._tail, *drafted)[-_TAIL:]
        way, probability, matched = Way(), 1.0, 0
        while len(way.steps) < self._longest:
            steps = self._steps(places, tail, probability, matched, turn)
            if not steps:
                break
            best = steps[0]
            if way.first is None:
                way.first = best
            if best.probability < least:
                break
            way.turns += [(len(way.steps), step) for step in steps[1:]]
            way.steps.append(best)
            places, tail, probability, matched = best.places, best.tail, best.probability, best.match
        return way

    def branches(self, way: Way, *, least: float) -> Iterator[tuple[Branch, float]]:
        """Other ways than the best, the most probable turn first; each with how many of its tokens stand, as expected.

        The expansion is best-first by the product of the tokens' probabilities (ADED's tree without its MCTS).
        """
        heap = [(-step.probability, place, shared, step) for place, (shared, step) in enumerate(way.turns)]
        heapq.heapify(heap)
        while heap:
            _, _, shared, step = heapq.heappop(heap)
            taken = [step]
            while shared + len(taken) < self._longest:
                steps = self._steps(step.places, step.tail, step.probability, step.match, 1.0)
                if not steps or steps[0].probability < least:
                    break
                step = steps[0]
                taken.append(step)
            yield Branch(shared, [step.sampled() for step in taken]), sum(step.probability for step in taken)

    def _steps(
        self, places: Places, tail: tuple[int, ...], probability: float, matched: int, turn: float
    ) -> list[Step]:
        """What may follow, the most probable first: from the first source that knows anything."""
        for source in self._sources:
            trie = source == "trie"
            found = self._from_trie(places, tail, matched) if trie else self._from_trigrams(tail)
            if found:
                return self._weighed(source, found, tail, probability, turn)
        return []

    def _weighed(
        self, source: str, found: list[Found], tail: tuple[int, ...], probability: float, turn: float
    ) -> list[Step]:
        """The best of what was found, and of the others those that stand with a probability of `turn` or more."""
        total = sum(option[0] for option in found)
        steps: list[Step] = []
        width = 1 if probability < turn else _WIDTH
        best = [max(found, key=_weight)] if width == 1 else heapq.nlargest(width, found, key=_weight)
        for weight, token, match, places in best:
            share = weight / total
            chance = self._estimate(source, match, share, weight)
            if not steps or probability * chance >= turn:
                after = (*tail[1 - _TAIL :], token)
                steps.append(Step(token, chance, probability * chance, source, match, share, weight, places, after))
        return steps

    def _from_trie(self, places: Places, tail: tuple[int, ...], matched: int) -> list[Found]:
        """The places' own continuations, else those of the longest suffix that has any (Lookahead's `hier_get`); past
        answers only where the request's own text has none, as Lookahead's weights make it but for ties."""
        if places and (found := _continued(places, matched + 1)):
            return found
        past = () if self._memory is None else self._memory.tries
        for length in range(min(self._match, len(tail)), 0, -1):
            suffix = tail[-length:]
            place = None if self._trie is None else self._trie.find(suffix)
            if self._trie is not None and place is not None and (found := _continued(((self._trie, place),), length)):
                return found
            there = tuple((trie, there) for trie in past if length > 1 and (there := trie.find(suffix)) is not None)
            if there and (found := _continued(there, length)):
                return found
        return []

    def _from_trigrams(self, tail: tuple[int, ...]) -> list[Found]:
        if self._trigrams is None or len(tail) < 2:
            return []
        row = self._trigrams.row(tail[-2], tail[-1])
        if not row and self._memory is not None:
            row = self._memory.trigrams.row(tail[-2], tail[-1])
        return [(weight, token, 2, ()) for token, weight in row.items()]


def _continued(places: Places, match: int) -> list[Found]:
    """What follows some places of one text or of several."""
    if len(places) == 1:
        trie, place = places[0]
        return [(count, token, match, ((trie, after),)) for token, count, after in trie.following(place)]
    weights: dict[int, int] = {}
    after: dict[int, Places] = {}
    for trie, place in places:
        for token, count, child in trie.following(place):
            weights[token] = weights.get(token, 0) + count
            after[token] = (*after.get(token, ()), (trie, child))
    return [(weight, token, match, after[token]) for token, weight in weights.items()]


def _weight(found: Found) -> float:
    return found[0]
