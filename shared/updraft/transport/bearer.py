"""Bearer tokens in call metadata."""

from __future__ import annotations

from typing import Final

from pydantic import SecretStr

__all__ = ["HEADER", "SCHEME", "bearer_metadata"]

HEADER: Final = "authorization"
SCHEME: Final = b"Bearer "


def bearer_metadata(token: SecretStr | None) -> tuple[tuple[str, str], ...]:
    """Call metadata that carries the token; empty without one."""
    return ((HEADER, SCHEME.decode() + token.get_secret_value()),) if token is not None else ()
