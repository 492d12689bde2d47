"""What both clients know of the agent: its address, its methods, and what a failed call means."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import grpc
from grpc import aio
from pydantic import SecretStr

from updraft.agent_wire import completion_from_json, progress_from_proto, token_from_proto
from updraft.errors import (
    AgentUnavailable,
    CloudUnavailable,
    InvalidRequest,
    LateReply,
    ProtocolViolation,
    UpdraftError,
)
from updraft.generation import GenerationEvent
from updraft.transport import bearer_metadata, channel_credentials, channel_options, error_from_rpc
from updraft.transport.address import format_address, parse_address
from updraft.v1 import agent_pb2 as pb

__all__ = [
    "ADDRESS_VARIABLE",
    "DEFAULT_ADDRESS",
    "DEFAULT_TIMEOUT_S",
    "GENERATE",
    "INFO",
    "INFO_TIMEOUT_S",
    "AgentEndpoint",
    "read_event",
    "seconds",
]

ADDRESS_VARIABLE: Final = "UPDRAFT_AGENT"
DEFAULT_ADDRESS: Final = "127.0.0.1:7071"
DEFAULT_TIMEOUT_S: Final = 300.0
INFO_TIMEOUT_S: Final = 10.0
GENERATE: Final = "/updraft.v1.Agent/Generate"
INFO: Final = "/updraft.v1.Agent/Info"

# In spite of its name: how long one attempt to connect may take.
_CONNECT_TIMEOUT: Final = "grpc.min_reconnect_backoff_ms"


def seconds(name: str, value: float) -> float:
    """The value if it is a time to wait. Raises InvalidRequest for what is not above 0 and at most a day."""
    if not 0 < value <= 86_400:
        raise InvalidRequest(f"{name} is {value!r}; it must be above 0 and at most 86400 seconds.", param=name)
    return value


@dataclass(frozen=True, slots=True)
class AgentEndpoint:
    """Where an agent listens and how to reach it.

    Attributes:
        address: host:port.
        token: bearer token, which an agent beyond this machine asks for.
        ca: PEM file of the authority that signed the agent's certificate; implies TLS.
        tls: speak TLS, with the system's authorities if `ca` is None.
        connect_timeout_s: longest wait for a connection.
    """

    address: str
    token: SecretStr | None
    ca: Path | None
    tls: bool
    connect_timeout_s: float

    @classmethod
    def resolve(
        cls, address: str | None, *, token: str | None, ca: str | Path | None, tls: bool, connect_timeout_s: float
    ) -> AgentEndpoint:
        """With the address given, else that in UPDRAFT_AGENT, else the agent's default on this machine."""
        return cls(
            address=address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS,
            token=None if token is None else SecretStr(token),
            ca=None if ca is None else Path(ca),
            tls=tls or ca is not None,
            connect_timeout_s=seconds("connect_timeout", connect_timeout_s),
        )

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return bearer_metadata(self.token)

    def open(self) -> aio.Channel:
        """A channel of the running loop. Raises ConfigError for a wrong address or certificate."""
        target, options = self._target()
        if not self.tls:
            return aio.insecure_channel(target, options)
        return aio.secure_channel(target, channel_credentials(ca=self.ca), options)

    def open_blocking(self) -> grpc.Channel:
        """A channel that needs no loop. Raises ConfigError for a wrong address or certificate."""
        target, options = self._target()
        if not self.tls:
            return grpc.insecure_channel(target, options)
        return grpc.secure_channel(target, channel_credentials(ca=self.ca), options)

    def _target(self) -> tuple[str, list[tuple[str, str | int]]]:
        host, port = parse_address(self.address)
        options = dict(channel_options(host)) | {_CONNECT_TIMEOUT: round(self.connect_timeout_s * 1000)}
        return format_address(host, port), list(options.items())

    def error(self, failed: grpc.RpcError, timeout_s: float) -> UpdraftError:
        """The exception that a failed call stands for: the agent's own where it sent one."""
        error = error_from_rpc(failed)
        trailing = cast("Iterable[tuple[str, str | bytes]]", failed.trailing_metadata() or ())
        if any(key.startswith("updraft-") for key, _ in trailing):
            return error
        if isinstance(error, LateReply):
            return LateReply(
                f"The agent at {self.address} did not finish within {timeout_s:g} s.",
                remedy="Give a longer timeout or ask for fewer tokens.",
            )
        if isinstance(error, CloudUnavailable):
            return AgentUnavailable(f"The agent at {self.address} does not answer: {failed.details()}.")
        return error


def read_event(event: pb.GenerateEvent) -> GenerationEvent:
    """What an event of the stream says.

    Raises:
        ProtocolViolation: it says nothing that this version knows.
    """
    body = event.WhichOneof("body")
    if body == "token":
        return token_from_proto(event.token)
    if body == "progress":
        return progress_from_proto(event.progress)
    if body == "finished":
        return completion_from_json(event.finished.completion_json)
    raise ProtocolViolation("The agent sent an event of an unknown kind.")
