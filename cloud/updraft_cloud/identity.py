"""Who may call this cloud, and what the sessions of each are called."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Final

from updraft.config import CloudSettings
from updraft.transport import Authenticator, Guard
from updraft.transport.bearer import SESSION_HEADER

__all__ = ["SessionNames", "open_guard"]

_LONGEST: Final = 128


def open_guard(settings: CloudSettings) -> Guard:
    """The guard that these settings ask for. Raises ConfigError or MissingExtra if it cannot be had."""
    listen, identity = settings.listen, settings.identity
    authenticator = Authenticator(
        token=listen.token,
        tokens=identity.tokens,
        tenant_field=identity.tenant_field if listen.client_ca is not None else None,
    )
    return Guard(authenticator, recheck_s=identity.recheck_s)


class SessionNames:
    """Names of sessions, for logs and for the edge. Nothing is looked up by a name.

    A session that is opened again keeps its name, as the edge calls it the same. The name is an HMAC of that and of
    the tenant: another tenant that says the same gets another name, and can neither guess nor probe this one.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def name(self, tenant: str, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        given = next((value for key, value in metadata if key == SESSION_HEADER), None)
        if given is None or len(given) > _LONGEST:
            given = secrets.token_bytes(16)
        said = given if isinstance(given, bytes) else given.encode()
        whose = hashlib.sha256(tenant.encode()).digest()  # of one length, so that no two pairs run together
        return hmac.new(self._key, whose + said, hashlib.sha256).hexdigest()[:16]
