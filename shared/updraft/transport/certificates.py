"""What a certificate says."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeVar

from updraft.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["Certificate", "TenantField", "read_certificate", "read_certificates", "require_cryptography"]

TenantField = Literal["O", "OU", "CN"]

E = TypeVar("E", bound="x509.ExtensionType")


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate; `subject` holds the first value of O, OU and CN, `fingerprint` the SHA-256 in hex."""

    subject: Mapping[str, str]
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    fingerprint: str
    is_authority: bool
    usages: tuple[str, ...]

    @property
    def name(self) -> str:
        """What to call its holder: its common name, else its first alternative name."""
        return self.subject.get("CN") or next(iter(self.names), "")


def require_cryptography() -> None:
    """Raises MissingExtra if the library that reads certificates is not installed."""
    try:
        import cryptography  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "The library cryptography is not installed.", remedy='Install it with `pip install "updraft-llm[cloud]"`.'
        ) from error


@functools.lru_cache(maxsize=1024)
def read_certificate(pem: bytes) -> Certificate:
    """The first certificate of a PEM text. Raises ConfigError if there is none."""
    return read_certificates(pem)[0]


def read_certificates(pem: bytes) -> list[Certificate]:
    """All certificates of a PEM text, in order.

    Raises:
        ConfigError: it holds none, or one that is damaged.
        MissingExtra: the library that reads them is missing.
    """
    require_cryptography()
    from cryptography import x509

    try:
        return [_read(one) for one in x509.load_pem_x509_certificates(pem)]
    except ValueError as error:
        raise ConfigError(
            f"This is no PEM certificate: {error}.", remedy="Give a file that begins with -----BEGIN CERTIFICATE-----."
        ) from error


def _read(one: x509.Certificate) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import NameOID

    fields = {"O": NameOID.ORGANIZATION_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "CN": NameOID.COMMON_NAME}
    found = {name: one.subject.get_attributes_for_oid(oid) for name, oid in fields.items()}
    constraints = _extension(one, x509.BasicConstraints)
    alternatives = _extension(one, x509.SubjectAlternativeName)
    usage = _extension(one, x509.ExtendedKeyUsage)
    return Certificate(
        subject={name: str(values[0].value) for name, values in found.items() if values},
        issuer=one.issuer.rfc4514_string(),
        names=tuple(str(name.value) for name in alternatives or ()),
        not_before=one.not_valid_before_utc,
        not_after=one.not_valid_after_utc,
        fingerprint=one.fingerprint(SHA256()).hex(),
        is_authority=constraints is not None and constraints.ca,
        usages=tuple(str(getattr(oid, "_name", oid.dotted_string)) for oid in usage or ()),
    )


def _extension(one: x509.Certificate, kind: type[E]) -> E | None:
    from cryptography import x509

    try:
        return one.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
