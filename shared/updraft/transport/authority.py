"""A development authority: certificates for a cloud and its devices, all of EC P-256, in files of one folder."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from updraft.errors import ConfigError
from updraft.transport.certificates import require_cryptography

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["Authority", "PemPair", "certificate_files", "write_pairs"]

AUTHORITY_FILE: Final = "ca"
SERVER_FILE: Final = "server"
_AUTHORITY_DAYS: Final = 3650
# Clocks of devices differ a little: a new certificate holds from a while ago.
_BEFORE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class PemPair:
    """A certificate and its private key, PEM, and the name of their files without suffix."""

    stem: str
    certificate: bytes
    key: bytes


def certificate_files(folder: Path, stem: str) -> tuple[Path, Path]:
    """Where a certificate and its key stand."""
    return folder / f"{stem}.pem", folder / f"{stem}-key.pem"


class Authority:
    """Signs certificates. Its key is a secret that lets whoever has it be any device.

    Raises:
        MissingExtra: the library that makes certificates is not installed.
    """

    def __init__(self, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
        self._certificate, self._key = certificate, key

    @classmethod
    def create(cls, *, now: datetime | None = None) -> Self:
        """A new authority that is good for ten years."""
        require_cryptography()
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        start = (now or datetime.now(UTC)) - _BEFORE
        key = ec.generate_private_key(ec.SECP256R1())
        name = _subject(CN="Updraft development authority")
        builder = _builder(name, name, key, start, start + timedelta(days=_AUTHORITY_DAYS))
        for extension, critical in (
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_key_usage(signs_certificates=True), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The authority that `write_pairs` wrote to a folder. Raises ConfigError if its files are missing or wrong."""
        require_cryptography()
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        certificate, key = certificate_files(folder, AUTHORITY_FILE)
        try:
            private = load_pem_private_key(key.read_bytes(), None)
            if not isinstance(private, ec.EllipticCurvePrivateKey):
                raise ValueError("its key is not of EC P-256")
            return cls(x509.load_pem_x509_certificate(certificate.read_bytes()), private)
        except (OSError, ValueError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(
                f"The authority in {folder} cannot be used: {reason}.", remedy="Make one with `updraft certs init`."
            ) from error

    def pair(self) -> PemPair:
        """The authority's own files."""
        return _pair(AUTHORITY_FILE, self._certificate, self._key)

    def server(self, hosts: Sequence[str], days: float, *, now: datetime | None = None) -> PemPair:
        """A certificate for a server that is reached under these names and addresses."""
        return self._issue(SERVER_FILE, hosts, days, now, server=True, CN=hosts[0])

    def client(self, name: str, tenant: str, days: float, *, now: datetime | None = None) -> PemPair:
        """A certificate for a device of a tenant."""
        return self._issue(f"client-{name}", [], days, now, server=False, CN=name, O=tenant)

    def _issue(
        self, stem: str, hosts: Sequence[str], days: float, now: datetime | None, *, server: bool, **subject: str
    ) -> PemPair:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID

        moment = now or datetime.now(UTC)
        key = ec.generate_private_key(ec.SECP256R1())
        end = min(moment + timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = _builder(_subject(**subject), self._certificate.subject, key, moment - _BEFORE, end)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        issuer = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(signs_certificates=False), True),
            (x509.ExtendedKeyUsage([purpose]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), False),
        ]
        if hosts:
            extensions.append((x509.SubjectAlternativeName(list(_alternatives(hosts))), False))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return _pair(stem, builder.sign(self._key, hashes.SHA256()), key)


def write_pairs(folder: Path, pairs: Sequence[PemPair], *, force: bool = False) -> None:
    """Write certificates and keys; keys are for their owner alone.

    Raises:
        ConfigError: a file is there already and `force` is not given, or the folder cannot be written.
    """
    paths = [path for pair in pairs for path in certificate_files(folder, pair.stem)]
    there = next((path for path in paths if path.exists()), None)
    if there is not None and not force:
        raise ConfigError(
            f"{there} exists already.", remedy="Give --force to replace it, or another folder with --dir."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for pair in pairs:
            certificate, key = certificate_files(folder, pair.stem)
            _write(key, pair.key, 0o600)
            _write(certificate, pair.certificate, 0o644)
    except OSError as error:
        raise ConfigError(f"The folder {folder} cannot be written: {error.strerror}.") from error


def _write(path: Path, data: bytes, mode: int) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    fresh.replace(path)


def _subject(**fields: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    oids = {"O": NameOID.ORGANIZATION_NAME, "CN": NameOID.COMMON_NAME}
    try:
        return x509.Name([x509.NameAttribute(oids[key], value) for key, value in fields.items()])
    except ValueError as error:
        raise ConfigError(f"A certificate cannot carry {', '.join(fields.values())}: {error}.") from error


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternatives(hosts: Sequence[str]) -> Iterator[x509.GeneralName]:
    from cryptography import x509

    for host in hosts:
        try:
            yield x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
        except ValueError:
            try:
                yield x509.DNSName(host)
            except ValueError as error:
                raise ConfigError(f"{host} is no name of a host.", remedy="Write names in ASCII (punycode).") from error


def _pair(stem: str, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> PemPair:
    from cryptography.hazmat.primitives import serialization as form

    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return PemPair(stem, certificate.public_bytes(form.Encoding.PEM), private)
