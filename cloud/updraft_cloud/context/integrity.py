"""What must be true of sequences, saved states and their index at any time between two turns."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from updraft.config.kv import KvSettings
from updraft.errors import EngineFailure, InvalidRequest
from updraft_cloud.context.caches import Caches
from updraft_cloud.context.place import NONE, Place
from updraft_cloud.context.prefixes import common_length

__all__ = ["check_integrity"]


def check_integrity(caches: Caches, places: Collection[Place], settings: KvSettings) -> None:
    """Raises EngineFailure that says the first thing that is wrong.

    Args:
        places: of all holders that have joined.
    """
    for check in (_sequences(caches, places), _entries(caches), _states(caches), _budgets(caches, settings)):
        for fault in check:
            raise EngineFailure(f"the context manager is inconsistent: {fault}")


def _sequences(caches: Caches, places: Collection[Place]) -> Iterator[str]:
    """Every open sequence has one owner, and every owner an open sequence."""
    both = caches.residents.keys() & caches.copies.keys()
    if both:
        yield f"sequences {sorted(both)} are a session's and a copy at once"
    for sequence in range(caches.engine.max_sequences):
        owned = sequence in caches.residents or sequence in caches.copies
        if owned != _is_open(caches, sequence):
            yield f"sequence {sequence} is {'closed but owned' if owned else 'open but nobody owns it'}"
    for place in places:
        if place.holder is None or place.holder.sequence != place.sequence:
            yield f"a session believes in another sequence than {place.sequence}"
        if place.sequence != NONE and caches.residents.get(place.sequence) is not place:
            yield f"sequence {place.sequence} is listed as another's"
    for sequence, place in caches.residents.items():
        if place.sequence != sequence or (place.holder is not None and place not in places):
            yield f"sequence {sequence} belongs to a session that has left"
        if place.shared != (place in caches.index):
            yield f"the index is wrong about sequence {sequence}"


def _is_open(caches: Caches, sequence: int) -> bool:
    try:
        caches.engine.length(sequence)
    except InvalidRequest:
        return False
    return True


def _entries(caches: Caches) -> Iterator[str]:
    """Caches are as long as they are said to be."""
    for sequence, place in caches.residents.items():
        length = caches.engine.length(sequence)
        if place.holder is None and length != len(place.kept):
            yield f"the entry in sequence {sequence} has {len(place.kept)} tokens, the engine {length}"
        if place.holder is not None and place.holder.idle and length > len(place.tokens):
            yield f"sequence {sequence} has {length} positions of a log of {len(place.tokens)}"


def _states(caches: Caches) -> Iterator[str]:
    """States hold what they say, and who wants one has a log that begins as it does."""
    for state in caches.store.states:
        if (state.data is None) == (state.file is None):
            yield "a saved state must be in memory or on disk"
        if state.data is not None and len(state.data) != state.size:
            yield f"a saved state of {state.size} bytes has {len(state.data)}"
        if (state in caches.index) == state.pinned:
            yield "a saved state cannot be found" if not state.pinned else "a session's own state can be found"
        if state.pinned and (state.data is None or len(state.wanted) != 1):
            yield "the state of a session of hidden states is not kept for it"
        for place in state.wanted:
            if place.state is not state or place.sequence != NONE:
                yield "a saved state is kept for a session that does not want it"
            if state.tokens and not common_length(place.tokens, state.tokens):
                yield "a session wants a saved state of another log"
    owners = sum(not state.pinned for state in caches.store.states)
    owners += sum(place.shared for place in caches.residents.values())
    if len(caches.index) != owners:
        yield f"the index knows {len(caches.index)} caches of {owners}"


def _budgets(caches: Caches, settings: KvSettings) -> Iterator[str]:
    """Bytes are those of the states, and within their budgets."""
    states, statistics = caches.store.states, caches.statistics
    host = sum(state.size for state in states if state.data is not None)
    disk = sum(state.size for state in states if state.data is None)
    if (host, disk) != (statistics.host_bytes, statistics.disk_bytes):
        yield f"{statistics.host_bytes} and {statistics.disk_bytes} bytes are accounted for states of {host} and {disk}"
    if host > settings.host_bytes or disk > settings.disk_bytes:
        yield f"states of {host} and {disk} bytes are above {settings.host_bytes} and {settings.disk_bytes}"
