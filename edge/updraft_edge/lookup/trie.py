"""A trie over a text's own pieces: what came after the last few tokens, earlier (Lookahead, arXiv 2312.12728)."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Node", "SuffixTrie"]


class Node:
    """A place in the trie: how often its path was seen, and what came next.

    A path seen once is not built: its child is the place in the text where it goes on, so a text of n tokens costs
    about n entries and not n times the depth, and a path grows with its text.
    """

    __slots__ = ("children", "count")

    def __init__(self, count: int) -> None:
        self.count = count
        self.children: dict[int, Node | int] = {}


class SuffixTrie:
    """Every piece of a text, up to `depth` tokens long, with how often it occurs (Lookahead's `put`, streamed).

    Args:
        depth: longest piece: the tokens that are matched and those that are drafted from them.
        most: tokens it takes, at most; what is put after that is ignored.
        nodes: places it builds, at most; None for what `most` allows, `depth` a token. Pieces that repeat beyond that
            are found where they were first, as if seen once.
    """

    def __init__(self, *, depth: int, most: int, nodes: int | None = None) -> None:
        if depth < 2 or most < 1:
            raise ValueError("A trie needs a depth of at least 2 and room for a token.")
        self.text: list[int] = []
        self.nodes = 1
        self._root = Node(0)
        self._depth = depth
        self._most = most
        self._most_nodes = depth * most if nodes is None else nodes
        self._open: list[tuple[Node, int]] = []  # repeated pieces that end at the text's end, with their depths

    def __len__(self) -> int:
        return len(self.text)

    @property
    def full(self) -> bool:
        """It takes no more tokens, or no longer counts what repeats."""
        return len(self.text) >= self._most or self.nodes >= self._most_nodes

    def put(self, tokens: Sequence[int]) -> None:
        """Append tokens to the text: a few steps each, more where the text repeats itself, `depth` at most."""
        for token in tokens[: max(0, self._most - len(self.text))]:
            self.text.append(token)
            going = []
            for node, depth in [*self._open, (self._root, 0)]:
                child = self._grow(node, token, len(self.text))
                if child is not None and depth + 1 < self._depth:
                    going.append((child, depth + 1))
            self._open = going

    def end(self) -> None:
        """What is put next has nothing to do with what was put before."""
        self._open.clear()
        if self.text:
            self.text.append(_BREAK)

    def find(self, tokens: Sequence[int]) -> Node | int | None:
        """Where a piece is: a node, or the place in the text after it where it occurs once; None where it does not."""
        place: Node | int | None = self._root
        for token in tokens:
            if place is None:
                return None
            place = self.step(place, token)
        return place

    def step(self, place: Node | int, token: int) -> Node | int | None:
        """The place after one more token."""
        if isinstance(place, Node):
            return place.children.get(token)
        return place + 1 if place < len(self.text) and self.text[place] == token else None

    def following(self, place: Node | int) -> list[tuple[int, int, Node | int]]:
        """Tokens that came after a place: each with how often and the place after it."""
        if isinstance(place, int):
            known = place < len(self.text) and self.text[place] != _BREAK
            return [(self.text[place], 1, place + 1)] if known else []
        return [(token, 1 if isinstance(child, int) else child.count, child) for token, child in place.children.items()]

    def _grow(self, node: Node, token: int, after: int) -> Node | None:
        """Count a token after a node; the child if the piece was seen before, so that it goes on growing."""
        child = node.children.get(token)
        if child is None:
            node.children[token] = after
            return None
        if isinstance(child, Node):
            child.count += 1
            return child
        if self.nodes >= self._most_nodes:
            return None
        split = Node(2)
        if child < len(self.text) and self.text[child] != _BREAK:
            split.children[self.text[child]] = child + 1
        node.children[token] = split
        self.nodes += 1
        return split


_BREAK = -1  # in a text, where nothing goes on
