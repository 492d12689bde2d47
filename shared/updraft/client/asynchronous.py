"""The SDK for programs with an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import grpc
from grpc import aio

from updraft.agent_wire import info_from_json
from updraft.client.connection import (
    DEFAULT_TIMEOUT_S,
    GENERATE,
    INFO,
    INFO_TIMEOUT_S,
    AgentEndpoint,
    read_event,
    seconds,
)
from updraft.client.request import GenerateOptions, build_request
from updraft.errors import Cancelled, ProtocolViolation
from updraft.generation import Completion, GenerationEvent, TokenEvent
from updraft.solution import ProgressEvent
from updraft.v1 import agent_pb2 as pb

__all__ = ["AsyncClient", "AsyncTokenStream"]

Call = aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateEvent]


class AsyncTokenStream:
    """Token events of one answer as they are committed; made by `AsyncClient.stream`.

    Iterating raises the agent's error, AgentUnavailable when it goes away, LateReply at the deadline. Closing early
    cancels the answer, and the agent frees what it holds.
    """

    def __init__(self, call: Call, endpoint: AgentEndpoint, timeout_s: float) -> None:
        self._call = call
        self._events: AsyncIterator[pb.GenerateEvent] = call.__aiter__()
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._completion: Completion | None = None
        self._closed = False

    @property
    def completion(self) -> Completion:
        """The whole answer. Raises RuntimeError before the stream has been read to its end."""
        if self._completion is None:
            raise RuntimeError("The answer is not complete: read the stream to its end first.")
        return self._completion

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TokenEvent:
        while (event := await self._next()) is not None:
            if isinstance(event, TokenEvent):
                return event
        raise StopAsyncIteration

    async def follow(self) -> AsyncIterator[TokenEvent | ProgressEvent]:
        """The same with what happens on the way to the answer, for a stream that was asked for `progress`."""
        while (event := await self._next()) is not None:
            yield event

    async def close(self) -> None:
        """Cancel what is still being written; does nothing after the end."""
        self._closed = True
        self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _next(self) -> TokenEvent | ProgressEvent | None:
        """The next event; None once the answer is complete."""
        if self._completion is not None:
            return None
        event = await self._read()
        if not isinstance(event, Completion):
            return event
        self._completion = event
        with suppress(grpc.RpcError):  # the answer is whole, whatever happens to the stream's last frame
            await anext(self._events, None)
        return None

    async def _read(self) -> GenerationEvent:
        if self._closed:
            raise Cancelled("The stream was closed before its end.")
        try:
            return read_event(await anext(self._events))
        except grpc.RpcError as error:
            raise self._endpoint.error(error, self._timeout_s) from error
        except StopAsyncIteration:
            raise ProtocolViolation("The agent ended the answer without its completion.") from None
        except ProtocolViolation:
            await self.close()
            raise


class AsyncClient:
    """Asks an agent over gRPC within an event loop; the same surface as `updraft.client.Client`.

    The connection belongs to the loop in which the first call is made.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        tls: bool = False,
        timeout: float = DEFAULT_TIMEOUT_S,
        connect_timeout: float = 5.0,
    ) -> None:
        self._timeout_s = seconds("timeout", timeout)
        self._endpoint = AgentEndpoint.resolve(address, token=token, ca=ca, tls=tls, connect_timeout_s=connect_timeout)
        self._opened: aio.Channel | None = None

    async def generate(
        self, prompt: str | None = None, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> Completion:
        """Write one answer and return it whole; raises as `Client.generate` does."""
        async with self.stream(prompt, timeout=timeout, **options) as stream:
            async for _ in stream:
                pass
            return stream.completion

    def stream(
        self, prompt: str | None = None, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> AsyncTokenStream:
        """Write one answer token by token. Raises InvalidRequest at once, other errors while the stream is read."""
        limit = self._timeout_s if timeout is None else seconds("timeout", timeout)
        request = build_request(prompt, options)
        method = self._channel().unary_stream(
            GENERATE, pb.GenerateRequest.SerializeToString, pb.GenerateEvent.FromString
        )
        return AsyncTokenStream(
            method(request, timeout=limit, metadata=self._endpoint.metadata()), self._endpoint, limit
        )

    async def info(self) -> dict[str, object]:
        """The agent's description: version, device, models of both tiers, modes, state of the link."""
        method = self._channel().unary_unary(INFO, pb.InfoRequest.SerializeToString, pb.InfoResponse.FromString)
        try:
            reply = await method(pb.InfoRequest(), timeout=INFO_TIMEOUT_S, metadata=self._endpoint.metadata())
        except grpc.RpcError as error:
            raise self._endpoint.error(error, INFO_TIMEOUT_S) from error
        return info_from_json(reply.info_json)

    async def close(self) -> None:
        """Close the connection; answers that are still being written are cancelled."""
        channel, self._opened = self._opened, None
        if channel is not None:
            await channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _channel(self) -> aio.Channel:
        """Opened with the first call, because a channel belongs to the loop that runs when it is made."""
        if self._opened is None:
            self._opened = self._endpoint.open()
        return self._opened
