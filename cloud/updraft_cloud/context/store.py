"""Saved caches in host memory and on disk, each once, within their budgets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from updraft.config.kv import KvSettings
from updraft_cloud.context.costs import Costs
from updraft_cloud.context.disk import SpillFolder
from updraft_cloud.context.place import State
from updraft_cloud.context.statistics import ContextStatistics

__all__ = ["StateStore"]

log = logging.getLogger(__name__)

_REST_S = 60.0  # a disk that failed is left alone for so long


class StateStore:
    """Keeps states. Where there is no room, those that no session waits for go first, then those used longest ago: from
    memory to disk, if reading them again costs less than computing, else away.

    Args:
        forgotten: told of every state that goes.

    Attributes:
        states: all of them, the one used longest ago first.
    """

    def __init__(
        self,
        settings: KvSettings,
        costs: Costs,
        statistics: ContextStatistics,
        *,
        forgotten: Callable[[State], None] = lambda state: None,
        folder: SpillFolder | None = None,
    ) -> None:
        self.states: dict[State, None] = {}
        self._forgotten = forgotten
        self._settings = settings
        self._costs = costs
        self._statistics = statistics
        self._folder = folder or SpillFolder(settings.disk_folder)
        self._rest_until = 0.0

    @property
    def any(self) -> bool:
        """There may be room for a state."""
        return self._settings.host_bytes > 0 or self._disk_works

    def put(self, tenant: str, tokens: list[int], data: bytes, *, pinned: bool = False) -> State | None:
        """Keep a cache's bytes; None where there is no room for them."""
        state = State(tenant, tokens, len(data), data, pinned=pinned)
        if self._make_host_room(state.size):
            self._statistics.host_bytes += state.size
            self._statistics.spilled_host += 1
        elif pinned or not self._to_disk(state):
            return None
        self.states[state] = None
        return state

    def get(self, state: State) -> bytes | None:
        """A kept state's bytes; None if they cannot be read any more, and the state is gone then."""
        self.states[state] = self.states.pop(state)
        if state.data is not None:
            return state.data
        assert state.file is not None  # noqa: S101  # one of both
        started = time.perf_counter()
        try:
            data = self._folder.read(state.file, state.size)
        except OSError as error:
            log.warning("a spilled cache cannot be read: %s", error.strerror or error)
            self._statistics.failures += 1
            self.drop(state)
            return None
        self._costs.read_s.note((time.perf_counter() - started) / state.size)
        return data

    def drop(self, state: State) -> None:
        """Forget a state; one that is gone is ignored."""
        if state not in self.states:
            return
        del self.states[state]
        if state.data is not None:
            self._statistics.host_bytes -= state.size
        elif state.file is not None:
            self._statistics.disk_bytes -= state.size
            self._folder.delete(state.file)
        self._forgotten(state)

    def close(self) -> None:
        """Forget all and delete the files. Safe to call twice."""
        for state in list(self.states):
            self.drop(state)
        self._folder.close()

    @property
    def _disk_works(self) -> bool:
        return self._settings.disk_bytes > 0 and time.monotonic() >= self._rest_until

    def _make_host_room(self, size: int) -> bool:
        pinned = sum(state.size for state in self.states if state.pinned)
        if pinned + size > self._settings.host_bytes:
            return False
        while self._statistics.host_bytes + size > self._settings.host_bytes:
            victim = self._victim(on_disk=False)
            if not self._to_disk(victim):
                self.drop(victim)
        return True

    def _victim(self, *, on_disk: bool) -> State:
        here = [state for state in self.states if (state.data is None) == on_disk and not state.pinned]
        return next((state for state in here if not state.wanted), here[0])

    def _to_disk(self, state: State) -> bool:
        """Move a state's bytes from memory to disk; False if it stays where it was."""
        positions = len(state.tokens)
        worth = self._costs.compute(positions) > self._costs.write(positions) + self._costs.read(positions)
        if not worth or not self._disk_works or state.size > self._settings.disk_bytes or state.data is None:
            return False
        while self._statistics.disk_bytes + state.size > self._settings.disk_bytes:
            self.drop(self._victim(on_disk=True))
        started = time.perf_counter()
        try:
            state.file = self._folder.write(state.data)
        except OSError as error:
            log.warning("caches cannot be spilled to disk for %g s: %s", _REST_S, error.strerror or error)
            self._statistics.failures += 1
            self._rest_until = time.monotonic() + _REST_S
            return False
        self._costs.write_s.note((time.perf_counter() - started) / state.size)
        if state in self.states:
            self._statistics.host_bytes -= state.size
        state.data = None
        self._statistics.disk_bytes += state.size
        self._statistics.spilled_disk += 1
        return True
