"""Whether sessions should come to this cloud, and why not."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["Readiness"]

log = logging.getLogger(__name__)


class Readiness:
    """Whether sessions should come here: as long as nothing holds them off. Event loop only.

    It begins with one reason, `loading`. Others are `engine` (it died and is being started again) and `draining`.
    """

    def __init__(self) -> None:
        self._reasons: dict[str, None] = {"loading": None}
        self._listeners: list[Callable[[bool], None]] = []

    @property
    def ready(self) -> bool:
        return not self._reasons

    @property
    def reasons(self) -> list[str]:
        """Why not, the oldest first."""
        return list(self._reasons)

    def tell(self, listener: Callable[[bool], None]) -> None:
        """Call `listener` now and whenever readiness changes."""
        self._listeners.append(listener)
        listener(self.ready)

    def hold(self, reason: str) -> None:
        """Not ready, for this reason too."""
        self._change(lambda: self._reasons.setdefault(reason))

    def clear(self, reason: str) -> None:
        """This reason is gone; ready if it was the last."""
        self._change(lambda: self._reasons.pop(reason, None))

    def _change(self, change: Callable[[], None]) -> None:
        before = self.ready
        change()
        if self.ready is not before:
            log.info("sessions may come" if self.ready else "not ready for sessions: %s", *self.reasons)
            for listener in self._listeners:
                listener(self.ready)
