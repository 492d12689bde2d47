"""The SDK without an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, Unpack, cast

import grpc

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

__all__ = ["Client", "TokenStream"]


class Call(Protocol):
    """What gRPC returns for a call whose response is a stream."""

    def __next__(self) -> pb.GenerateEvent: ...
    def cancel(self) -> bool: ...


class TokenStream:
    """Token events of one answer as they are committed; made by `Client.stream`.

    Iterating raises the agent's error, AgentUnavailable when it goes away, LateReply at the deadline. Closing early
    cancels the answer, and the agent frees what it holds.
    """

    def __init__(self, call: Call, endpoint: AgentEndpoint, timeout_s: float) -> None:
        self._call = call
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

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> TokenEvent:
        while (event := self._next()) is not None:
            if isinstance(event, TokenEvent):
                return event
        raise StopIteration

    def follow(self) -> Iterator[TokenEvent | ProgressEvent]:
        """The same with what happens on the way to the answer, for a stream that was asked for `progress`."""
        while (event := self._next()) is not None:
            yield event

    def close(self) -> None:
        """Cancel what is still being written; does nothing after the end."""
        self._closed = True
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self) -> TokenEvent | ProgressEvent | None:
        """The next event; None once the answer is complete."""
        if self._completion is not None:
            return None
        event = self._read()
        if not isinstance(event, Completion):
            return event
        self._completion = event
        with suppress(grpc.RpcError):  # the answer is whole, whatever happens to the stream's last frame
            next(self._call, None)
        return None

    def _read(self) -> GenerationEvent:
        if self._closed:
            raise Cancelled("The stream was closed before its end.")
        try:
            return read_event(next(self._call))
        except grpc.RpcError as error:
            raise self._endpoint.error(error, self._timeout_s) from error
        except StopIteration:
            raise ProtocolViolation("The agent ended the answer without its completion.") from None
        except ProtocolViolation:
            self.close()
            raise


class Client:
    """Asks an agent over gRPC; safe to use from several threads.

    Args:
        address: host:port of the agent; UPDRAFT_AGENT, or else 127.0.0.1:7071, when left out.
        token: bearer token, if the agent asks for one.
        ca: PEM file of the authority that signed the agent's certificate; implies `tls`.
        tls: speak TLS.
        timeout: longest time for a whole answer, seconds; each call may give its own.
        connect_timeout: longest wait for a connection, seconds.
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
        self._channel = self._endpoint.open_blocking()
        self._generate = self._channel.unary_stream(
            GENERATE, pb.GenerateRequest.SerializeToString, pb.GenerateEvent.FromString
        )
        self._info = self._channel.unary_unary(INFO, pb.InfoRequest.SerializeToString, pb.InfoResponse.FromString)

    def generate(
        self, prompt: str | None = None, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> Completion:
        """Write one answer and return it whole.

        Raises:
            InvalidRequest: an option is out of range.
            AgentUnavailable: no agent answers.
            LateReply: the answer was not complete within `timeout` seconds.
            UpdraftError: whatever the agent raised, as the same class.
        """
        with self.stream(prompt, timeout=timeout, **options) as stream:
            for _ in stream:
                pass
            return stream.completion

    def stream(
        self, prompt: str | None = None, *, timeout: float | None = None, **options: Unpack[GenerateOptions]
    ) -> TokenStream:
        """Write one answer token by token. Raises InvalidRequest at once, other errors while the stream is read."""
        limit = self._timeout_s if timeout is None else seconds("timeout", timeout)
        request = build_request(prompt, options)
        call = self._generate(request, timeout=limit, metadata=self._endpoint.metadata())
        return TokenStream(cast("Call", call), self._endpoint, limit)

    def info(self) -> dict[str, object]:
        """The agent's description: version, device, models of both tiers, modes, state of the link."""
        try:
            reply = self._info(pb.InfoRequest(), timeout=INFO_TIMEOUT_S, metadata=self._endpoint.metadata())
        except grpc.RpcError as error:
            raise self._endpoint.error(error, INFO_TIMEOUT_S) from error
        return info_from_json(reply.info_json)

    def close(self) -> None:
        """Close the connection; answers that are still being written are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
