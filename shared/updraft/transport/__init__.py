"""How servers listen and clients connect: addresses, TLS, identities, and errors as gRPC statuses."""

from __future__ import annotations

from updraft.transport.bearer import bearer_metadata
from updraft.transport.channel import RenewedChannel, channel_credentials, channel_options, drop_call, open_channel
from updraft.transport.guard import Guard
from updraft.transport.identity import Authenticator, Identity, caller
from updraft.transport.listen import (
    add_port,
    check_port_free,
    is_loopback,
    require_safe_listen,
    server_credentials,
    server_options,
)
from updraft.transport.status import abort_with, error_from_rpc

__all__ = [
    "Authenticator",
    "Guard",
    "Identity",
    "RenewedChannel",
    "abort_with",
    "add_port",
    "bearer_metadata",
    "caller",
    "channel_credentials",
    "channel_options",
    "check_port_free",
    "drop_call",
    "error_from_rpc",
    "is_loopback",
    "open_channel",
    "require_safe_listen",
    "server_credentials",
    "server_options",
]
