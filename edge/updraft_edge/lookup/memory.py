"""What is looked up in: the request's own text, and answers of the past."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from updraft_edge.lookup.trie import SuffixTrie
from updraft_edge.lookup.trigram import TrigramTable

__all__ = ["DEPTH", "LookupEstimate", "LookupMemory"]

DEPTH = 24  # tokens of a piece: matched and drafted
_SEGMENTS = 8
_NODES = 2  # for a token, on average: about 700 bytes; text that is not said twice needs fewer


class LookupMemory:
    """Answers that were written while the agent runs. It is never written to disk, and holds answers only, no prompts.

    Only what the cloud has written or judged may be put here: drafts made of it travel to the cloud with later
    requests. Its size is bounded: the oldest answers are forgotten by whole segments, which costs nothing at any one
    token (Lookahead halves all its counts at once). Answers that resemble each other fill it sooner: what repeats costs
    the most memory.

    Args:
        tokens: of past answers, at most.
        segments: that they are kept in.
    """

    def __init__(self, tokens: int, *, segments: int = _SEGMENTS) -> None:
        self.tries: deque[SuffixTrie] = deque(maxlen=segments)
        self.trigrams = TrigramTable(rows=max(1, tokens // 2))
        self._segment = max(1, tokens // segments)

    def __len__(self) -> int:
        return sum(map(len, self.tries))

    def remember(self, answer: Sequence[int]) -> None:
        """Keep an answer's tokens; of a long one, its first segment."""
        if not self.tries or self.tries[-1].full or len(self.tries[-1]) + len(answer) > self._segment:
            self.tries.append(SuffixTrie(depth=DEPTH, most=self._segment, nodes=_NODES * self._segment))
        trie = self.tries[-1]
        trie.put(answer)
        trie.end()
        self.trigrams.put(answer[: self._segment])
        self.trigrams.end()


class LookupEstimate:
    """The share of looked-up tokens that stood, learned from verdicts: by source, how much was matched, how large the
    token's share of what followed there was, and whether that was seen more than once.

    Every cell starts from a prior as if it had been seen `PRIOR` times.
    """

    PRIOR = 6.0
    LONGEST = 8

    def __init__(self) -> None:
        self._cells: dict[tuple[str, int, int, bool], tuple[float, float]] = {}

    def __call__(self, source: str, match: int, share: float, seen: float) -> float:
        """The probability that a token stands, between 0 and 1."""
        mean, _ = self._cells.get(self._key(source, match, share, seen)) or (_prior(source, match, share), 0.0)
        return mean

    def learn(self, source: str, match: int, share: float, seen: float, stood: bool) -> None:
        key = self._key(source, match, share, seen)
        mean, weight = self._cells.get(key) or (_prior(source, match, share), self.PRIOR)
        weight = min(weight + 1.0, 500.0)  # it follows what the texts are like now
        self._cells[key] = (mean + (stood - mean) / weight, weight)

    def _key(self, source: str, match: int, share: float, seen: float) -> tuple[str, int, int, bool]:
        return source, min(match, self.LONGEST), min(2, int(share * 3)), seen >= 2


_PRIOR = (0.1, 0.2, 0.4, 0.55, 0.65, 0.7, 0.75, 0.8, 0.85)


def _prior(source: str, match: int, share: float) -> float:
    """Before any verdict: by how many tokens were matched, and the middle of the share's bin."""
    middle = (min(2, int(share * 3)) + 0.5) / 2.5
    return min(0.95, _PRIOR[min(match, len(_PRIOR) - 1)] * middle)
