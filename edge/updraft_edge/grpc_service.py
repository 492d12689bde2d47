"""The gRPC service `updraft.v1.Agent` over an agent."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

import grpc
from grpc import aio

from updraft.agent_wire import (
    completion_to_json,
    parse_request,
    progress_to_proto,
    request_from_proto,
    token_to_proto,
)
from updraft.errors import Cancelled, UpdraftError
from updraft.generation import AgentView, GenerationEvent, TokenEvent
from updraft.modes import ModeSettings
from updraft.solution import ProgressEvent
from updraft.transport import abort_with
from updraft.v1 import agent_pb2 as pb

__all__ = ["SERVICE", "AgentService", "add_agent_service"]

SERVICE = pb.DESCRIPTOR.services_by_name["Agent"].full_name

log = logging.getLogger(__name__)

GenerateContext = aio.ServicerContext[bytes, pb.GenerateEvent]
InfoContext = aio.ServicerContext[pb.InfoRequest, pb.InfoResponse]


class AgentService:
    """Answers `Generate` and `Info`.

    Args:
        agent: what writes the answers.
        defaults: mode settings under those that a request names.
        write_timeout_s: a client that takes no event for so long loses its stream.
    """

    def __init__(
        self, agent: AgentView, *, defaults: ModeSettings | None = None, write_timeout_s: float = 30.0
    ) -> None:
        self._agent = agent
        self._defaults = defaults
        self._write_timeout_s = write_timeout_s

    async def generate(self, raw: bytes, context: GenerateContext) -> None:
        """Stream one answer. However it ends, the agent's iterator is closed before this returns."""
        failure: UpdraftError
        try:
            await self._stream(raw, context)
            return
        except UpdraftError as error:
            failure = error
        except Exception:
            log.exception("the agent failed in an unforeseen way")
            failure = UpdraftError("The agent failed in an unforeseen way; its log says how.")
        await self._refuse(failure, context)

    async def info(self, _request: pb.InfoRequest, _context: InfoContext) -> pb.InfoResponse:
        return pb.InfoResponse(info_json=json.dumps(self._agent.info()))

    async def _stream(self, raw: bytes, context: GenerateContext) -> None:
        request = request_from_proto(parse_request(raw), self._defaults)
        answer = cast("AsyncGenerator[GenerationEvent, None]", self._agent.follow(request))
        async with aclosing(answer) as events:
            async for event in events:
                await self._write(_message(event), context)

    async def _write(self, message: pb.GenerateEvent, context: GenerateContext) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await context.write(message)
        except TimeoutError as error:
            raise Cancelled(f"The client took no event for {self._write_timeout_s:g} s.") from error
        except aio.InternalError as error:  # the call is over, and gRPC has sent its status
            raise asyncio.CancelledError from error

    async def _refuse(self, failure: UpdraftError, context: GenerateContext) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await abort_with(context, failure)
        except TimeoutError as error:  # the status waits behind unread events: gRPC sends it once they are read
            raise asyncio.CancelledError from error


def _message(event: GenerationEvent) -> pb.GenerateEvent:
    if isinstance(event, TokenEvent):
        return pb.GenerateEvent(token=token_to_proto(event))
    if isinstance(event, ProgressEvent):
        return pb.GenerateEvent(progress=progress_to_proto(event))
    return pb.GenerateEvent(finished=pb.Finished(completion_json=completion_to_json(event)))


def add_agent_service(service: AgentService, server: aio.Server) -> None:
    """Register the service. Requests arrive as bytes, so that a malformed one gets an error of ours."""
    handlers = {
        "Generate": grpc.unary_stream_rpc_method_handler(
            service.generate, response_serializer=pb.GenerateEvent.SerializeToString
        ),
        "Info": grpc.unary_unary_rpc_method_handler(
            service.info,
            request_deserializer=pb.InfoRequest.FromString,
            response_serializer=pb.InfoResponse.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
