"""A Solve's branches queue for sequences like one session, however many they are."""

from __future__ import annotations

from updraft.strategies.places import NONE, Holder, Places

__all__ = ["Turns"]


class Turns:
    """`Places` of one Solve: only one of its branches waits for a sequence at a time. Loop thread only.

    Sequences go to whoever has waited longest. Were all branches in that queue, a session that comes after them would
    wait until each has been written; so it gets the next sequence but one. While nobody else waits, nothing is held up.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._waiting: Holder | None = None

    def join(self, holder: Holder, tenant: str = "") -> None:
        self._places.join(holder, tenant)

    def enter(self, holder: Holder) -> bool:
        if holder.sequence == NONE and self._held_up(holder):
            return False
        entered = self._places.enter(holder)
        if not entered and holder.sequence == NONE:
            self._waiting = holder
        elif holder is self._waiting:
            self._waiting = None
        return entered

    def _held_up(self, holder: Holder) -> bool:
        """Whether another one waits. It does no more where its job was cancelled."""
        first = self._waiting
        return first is not None and first is not holder and not first.idle

    def leave(self, holder: Holder, *, keep: bool = True) -> None:
        if holder is self._waiting:
            self._waiting = None
        self._places.leave(holder, keep=keep)
