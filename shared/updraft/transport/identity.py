"""Who makes a call: found from its client certificate, its bearer token, or both, and never from what it says."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from updraft.errors import ConfigError, Unauthenticated
from updraft.transport.bearer import HEADER, SCHEME
from updraft.transport.certificates import Certificate, TenantField, read_certificate, require_cryptography
from updraft.transport.reload import Reloaded
from updraft.transport.token_file import TokenEntry, Tokens, is_tenant, read_tokens

__all__ = ["ANYONE", "Authenticator", "Bearer", "Identity", "caller"]

DEFAULT_TENANT: Final = "default"
_LONGEST_NAME: Final = 64

Metadata = Iterable[tuple[str, str | bytes]]
AuthContext = Mapping[str, Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who makes a call.

    `tenant` is whose data it may touch; `name` the device's or token's; `token` the token's id; `certificate` the
    fingerprint of the client certificate; `certificate_expires` a Unix time. What does not apply is empty.
    """

    tenant: str
    name: str = ""
    token: str = ""
    certificate: str = ""
    certificate_expires: float = math.inf


ANYONE: Final = Identity(DEFAULT_TENANT)

_CALLER: Final[ContextVar[Identity]] = ContextVar("updraft_caller", default=ANYONE)


def caller() -> Identity:
    """Who makes the call that is being handled; the default tenant where nobody has to say."""
    return _CALLER.get()


def enter_call(identity: Identity) -> None:
    """Note who makes the call that this task handles."""
    _CALLER.set(identity)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A bearer token that was found good: an entry of the file, or None for the one token that all clients share."""

    entry: TokenEntry | None = None


class Authenticator:
    """Checks the credentials of calls. Whatever is configured is required; with nothing configured anyone may call.

    Args:
        token: one token that clients share; they are of the default tenant, or of their certificate's.
        tokens: file of tokens, read again when it changes; see `updraft.transport.token_file`.
        tenant_field: field of a client certificate's subject that names the tenant; None if TLS asks for no
            certificates.
        clock: Unix time in seconds.

    Raises:
        ConfigError: the token cannot travel in a header, or the file is wrong.
        MissingExtra: certificates are to be read and the library for it is missing.
    """

    def __init__(
        self,
        *,
        token: SecretStr | None = None,
        tokens: Path | None = None,
        tenant_field: TenantField | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shared = _travelling(token) if token is not None else None
        self._file = None if tokens is None else Reloaded("tokens", [tokens], lambda: read_tokens(tokens))
        self._field = tenant_field
        self._clock = clock
        if tenant_field is not None:
            require_cryptography()

    def bearer(self, metadata: Metadata) -> Bearer | None:
        """The token of a call's metadata; None where none is asked for.

        Raises:
            Unauthenticated: it is missing, wrong, expired or revoked.
        """
        if self._shared is None and self._file is None:
            return None
        given = [_as_bytes(value) for key, value in metadata if key == HEADER]
        if len(given) != 1 or not given[0].startswith(SCHEME):
            raise Unauthenticated("The call carries no valid bearer token.")
        token = given[0].removeprefix(SCHEME)
        if self._shared is not None and hmac.compare_digest(token, self._shared):
            return Bearer()
        entry = self._tokens().find(token.decode("utf-8", "surrogateescape"))
        if entry is None:
            raise Unauthenticated("The call carries no valid bearer token.")
        self._check_token(entry)
        return Bearer(entry)

    def identify(self, bearer: Bearer | None, auth_context: AuthContext) -> Identity:
        """Who makes a call with this token over a connection of this security context.

        Raises:
            Unauthenticated: the certificate is expired, revoked or names no tenant, or is of another than the token's.
        """
        certificate = self._certificate(auth_context) if self._field is not None else None
        entry = bearer.entry if bearer is not None else None
        tenant = self._tenant(certificate, bearer)
        name = certificate.name[:_LONGEST_NAME] if certificate is not None else ""
        identity = Identity(
            tenant=tenant,
            name=name or (entry.name if entry is not None and entry.name else ""),
            token=entry.id if entry is not None else "",
            certificate=certificate.fingerprint if certificate is not None else "",
            certificate_expires=certificate.not_after.timestamp() if certificate is not None else math.inf,
        )
        self.check(identity)
        return identity

    def check(self, identity: Identity) -> None:
        """Whether a caller that was let in would be let in now. Raises Unauthenticated if not."""
        if self._clock() >= identity.certificate_expires:
            raise Unauthenticated("The client certificate has expired.", remedy="Give the device a new certificate.")
        tokens = self._tokens()
        if identity.certificate in tokens.revoked_certificates:
            raise Unauthenticated("The client certificate is revoked.", remedy="Give the device a new certificate.")
        if identity.token:
            entry = tokens.entries.get(identity.token)
            if entry is None or entry.tenant != identity.tenant:
                raise Unauthenticated(f"The token {identity.token} is no longer valid.")
            self._check_token(entry)

    def _check_token(self, entry: TokenEntry) -> None:
        # Only its holder gets this far, so the reason gives nothing away.
        state = entry.state(self._clock())
        if state != "valid":
            raise Unauthenticated(f"The token {entry.id} is {state}.", remedy="Ask the cloud's operator for a new one.")

    def _tokens(self) -> Tokens:
        if self._file is None:
            return Tokens()
        self._file.refresh()
        return self._file.value

    def _certificate(self, auth_context: AuthContext) -> Certificate:
        pem = next(iter(auth_context.get("x509_pem_cert", ())), b"")
        try:
            return read_certificate(bytes(pem))
        except ConfigError as error:
            raise Unauthenticated("The call comes with no client certificate that can be read.") from error

    def _tenant(self, certificate: Certificate | None, bearer: Bearer | None) -> str:
        entry = bearer.entry if bearer is not None else None
        if certificate is None:
            return entry.tenant if entry is not None else DEFAULT_TENANT
        named = certificate.subject.get(self._field or "", "")
        if not named and bearer is not None:
            return entry.tenant if entry is not None else DEFAULT_TENANT
        if not is_tenant(named):
            raise Unauthenticated(
                f"The client certificate names no tenant in the field {self._field} of its subject.",
                remedy="Issue it with the tenant as its organisation, or set cloud.identity.tenant_field.",
            )
        if entry is not None and entry.tenant != named:
            raise Unauthenticated("The client certificate and the token are of different tenants.")
        return named


def _travelling(token: SecretStr) -> bytes:
    secret = token.get_secret_value()
    if not secret or not secret.isascii() or not secret.isprintable() or secret != secret.strip():
        raise ConfigError(
            "The bearer token is empty or has characters that a header cannot carry.",
            remedy="Use a long random token of printable ASCII, such as `openssl rand -hex 32` gives.",
        )
    return secret.encode()


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
