"""Metadata of calls: bearer tokens, and the names of sessions."""

from __future__ import annotations

from typing import Final

from pydantic import SecretStr

__all__ = ["HEADER", "SCHEME", "SESSION_HEADER", "bearer_metadata"]

HEADER: Final = "authorization"
SCHEME: Final = b"Bearer "
# What a load balancer may hash: all streams of one session meet the same cache.
SESSION_HEADER: Final = "x-updraft-session"


def bearer_metadata(token: SecretStr | None) -> tuple[tuple[str, str], ...]:
    """Call metadata that carries the token; empty without one."""
    return ((HEADER, SCHEME.decode() + token.get_secret_value()),) if token is not None else ()
