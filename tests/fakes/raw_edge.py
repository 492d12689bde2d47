"""An edge that sends whatever frames it is told to: for tests of the cloud's protocol."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import grpc.aio

from updraft.sampling import SamplingParams
from updraft.sampling_wire import sampling_to_proto
from updraft.token_log import TokenLog
from updraft.v1 import collaboration_pb2 as pb
from updraft.v1.collaboration_pb2_grpc import CollaborationStub

__all__ = ["RawEdge"]


class RawEdge:
    """One session stream; frames are numbered unless they carry a number. It closes the channel, given or not."""

    def __init__(self, address: str, *, metadata: Any = None, channel: grpc.aio.Channel | None = None) -> None:
        self._channel = channel or grpc.aio.insecure_channel(address)
        self._call = CollaborationStub(self._channel).Session(metadata=metadata)
        self._sent = 0
        self.log = TokenLog([])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        await self._channel.close(grace=None)

    def cancel(self) -> None:
        """End the stream without a word; the channel stays open."""
        self._call.cancel()

    async def send(self, frame: pb.EdgeFrame) -> None:
        self._sent += 1
        if not frame.sequence:
            frame.sequence = self._sent
        await self._call.write(frame)

    async def open(self, prompt: list[int], **changes: Any) -> None:
        sampling = sampling_to_proto(SamplingParams(temperature=0.7, seed=3))
        fields = {"tokenizer_hash": "letters", "prompt": prompt, "sampling": sampling, "max_tokens": 20, **changes}
        self.log = TokenLog(prompt, changes.get("generated", ()))
        await self.send(pb.EdgeFrame(open=pb.Open(**fields)))

    async def draft(self, run: list[int]) -> None:
        draft = pb.Draft(position=len(self.log), log_hash=self.log.hash, run=run)
        await self.send(pb.EdgeFrame(draft=draft))

    async def take_over(self, **fields: Any) -> None:
        take = pb.TakeOver(position=len(self.log), log_hash=self.log.hash, **fields)
        await self.send(pb.EdgeFrame(take_over=take))

    async def close(self) -> None:
        await self.send(pb.EdgeFrame(close=pb.Close()))

    async def read(self) -> pb.CloudFrame | None:
        """The next frame; None at the end of the stream."""
        frame = await self._call.read()
        return frame if isinstance(frame, pb.CloudFrame) else None

    async def read_body(self, kind: str) -> Any:
        """The next frame of a kind; others on the way are dropped."""
        while (frame := await self.read()) is not None:
            if frame.WhichOneof("body") == kind:
                return getattr(frame, kind)
            assert frame.WhichOneof("body") != "error", frame
        raise AssertionError(f"the stream ended without {kind}")
