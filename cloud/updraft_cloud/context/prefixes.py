"""Which caches begin with the same tokens: an index of hashed blocks.

Tokens are cut into blocks. Each block's name is the SHA-256 of the name before it and its tokens, and the first name
is that of the tenant, so that equal names mean equal beginnings of one tenant's logs (as in vLLM's automatic prefix
caching). Names only find candidates: the tokens themselves are compared before a cache is used.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

__all__ = ["PrefixIndex", "common_length"]

Owner = TypeVar("Owner")


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with. Compares slices, doubling, which costs little a token."""
    low, size = 0, 64
    most = min(len(one), len(other))
    while low < most and one[low : low + size] == other[low : low + size]:
        low += size
        size *= 2
    low = min(low, most)
    for place in range(low, min(low + size, most)):
        if one[place] != other[place]:
            return place
    return min(low + size, most)


class PrefixIndex(Generic[Owner]):
    """Owners of tokens, found by what their tokens begin with.

    Args:
        block: tokens in a block; shorter beginnings are not found.
    """

    def __init__(self, block: int) -> None:
        self._block = block
        self._owners: dict[bytes, dict[Owner, None]] = {}
        self._names: dict[Owner, list[bytes]] = {}

    def __contains__(self, owner: Owner) -> bool:
        return owner in self._names

    def __len__(self) -> int:
        return len(self._names)

    def publish(self, owner: Owner, tenant: str, tokens: Sequence[int]) -> None:
        """Find the owner by these tokens from now on; those that it was published with before are their beginning."""
        names = self._names.setdefault(owner, [])
        for name in self._walk(names[-1] if names else _root(tenant), tokens, len(names)):
            names.append(name)
            self._owners.setdefault(name, {})[owner] = None

    def forget(self, owner: Owner) -> None:
        """Unknown owners are ignored."""
        for name in self._names.pop(owner, ()):
            owners = self._owners[name]
            del owners[owner]
            if not owners:
                del self._owners[name]

    def find(self, tenant: str, tokens: Sequence[int], most: int = 32) -> list[Owner]:
        """Up to `most` owners with a block in common with these tokens, those with more of them first."""
        known: list[dict[Owner, None]] = []
        for name in self._walk(_root(tenant), tokens, 0):
            if name not in self._owners:
                break
            known.append(self._owners[name])
        found: dict[Owner, None] = {}
        for owners in reversed(known):
            for owner in owners:
                found[owner] = None
                if len(found) == most:
                    return list(found)
        return list(found)

    def _walk(self, name: bytes, tokens: Sequence[int], start: int) -> Iterator[bytes]:
        """Names of the whole blocks from number `start` on, after the block called `name`."""
        for place in range(start * self._block, len(tokens) - self._block + 1, self._block):
            name = hashlib.sha256(name + array("q", tokens[place : place + self._block]).tobytes()).digest()
            yield name


def _root(tenant: str) -> bytes:
    return hashlib.sha256(tenant.encode()).digest()
