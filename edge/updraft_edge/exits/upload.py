"""Hidden states on their way to the cloud: kept packed for the whole answer, sent ahead, sent again after a loss."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import numpy as np

from updraft.engine.base import FloatRows
from updraft.errors import InvalidRequest
from updraft.exits.carry import Packed, pack, packed_bytes
from updraft.v1 import collaboration_pb2 as pb
from updraft_edge import wire

__all__ = ["HiddenUpload"]

FRAME_BYTES = 32 * 1024  # a write of one stays far below its timeout, also on a link of 1 Mbit/s


class HiddenUpload:
    """The states of one answer, as they travel; bounded by the edge's context. Used from the event loop alone.

    Args:
        carry: what the session was opened with.
    """

    def __init__(self, carry: wire.HiddenCarry) -> None:
        self._carry = carry
        self._rows: list[bytes] = []
        self._scales: list[float] = []
        self._sent = 0
        self._fault: InvalidRequest | None = None
        self._most = max(1, FRAME_BYTES // packed_bytes(carry.carry, carry.width))

    @property
    def behind(self) -> bool:
        """Some states have not been handed to the stream."""
        return self._sent < len(self._rows)

    def add(self, position: int, states: FloatRows) -> None:
        """Keep states, shape (count, width); those at `position` and after it are replaced.

        States that cannot be sent are an error of `flush`.
        """
        if not len(states):
            return
        try:
            if position > len(self._rows):
                raise InvalidRequest(f"Hidden states start at {position}; those before end at {len(self._rows)}.")
            packed = pack(states, self._carry.carry)
        except InvalidRequest as error:
            self._fault = error
            return
        del self._rows[position:], self._scales[position:]
        size = len(packed.data) // packed.count
        self._rows.extend(packed.data[start : start + size] for start in range(0, len(packed.data), size))
        self._scales.extend(packed.scales.tolist())
        self.rewind(position)

    def rewind(self, position: int) -> None:
        """The cloud has forgotten the states from `position` on."""
        self._sent = min(self._sent, position)

    async def flush(self, put: Callable[[pb.EdgeFrame], Awaitable[None]], until: int | None = None) -> None:
        """Hand what is left to `put`, frame by frame: states of the positions before `until`, all when left out.

        A state tells its token, so those of tokens that nobody has allowed to leave yet must wait.

        Raises:
            InvalidRequest: states were not finite, or left a gap.
            whatever `put` raises.
        """
        if self._fault is not None:
            raise self._fault
        while self._sent < (end := len(self._rows) if until is None else min(until, len(self._rows))):
            start = self._sent
            self._sent = min(end, start + self._most)  # before the write: `rewind` may come during it
            await put(wire.hidden_frame(start, self._part(start, self._sent)))

    def _part(self, start: int, stop: int) -> Packed:
        data = b"".join(self._rows[start:stop])
        scales = np.array(self._scales[start:stop], np.float32)
        return Packed(self._carry.carry, stop - start, self._carry.width, data, scales)
