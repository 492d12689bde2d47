"""Addresses as `host:port`, and the files of TLS."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

from updraft.errors import ConfigError

__all__ = ["format_address", "is_loopback", "parse_address", "read_authority", "read_key_pair"]


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach `host`: `localhost` or an address of the loopback network."""
    bare = host.strip("[]").partition("%")[0]
    if bare.lower() in {"localhost", "localhost."}:
        return True
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def parse_address(address: str) -> tuple[str, int]:
    """Host (without brackets) and port of `host:port` or `[ipv6]:port`.

    Raises:
        ConfigError: it is neither, or the port is not from 1 to 65535.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    plain = host and not set(host) & set("[]:/@ ")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not colon or not (bracketed or plain) or not 1 <= number <= 65_535:
        raise ConfigError(
            f"The address {address!r} is not host:port with a port from 1 to 65535.",
            remedy="Write it like 10.0.0.5:7080, cloud.example.org:7080 or [::1]:7080.",
        )
    return host.strip("[]"), number


def format_address(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def read_key_pair(cert: Path, key: Path) -> tuple[bytes, bytes]:
    """A certificate chain and its private key, checked to belong together.

    Raises:
        ConfigError: a file cannot be read or is not PEM, the key is encrypted, or it is another certificate's.
    """
    pair = _read(cert), _read(key)
    try:
        # A password callback keeps OpenSSL from asking at the terminal; an encrypted key fails instead.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except (ssl.SSLError, ValueError, OSError) as error:
        raise ConfigError(
            f"The certificate {cert} and the key {key} cannot be used: {error}.",
            remedy="Give a PEM certificate chain and its unencrypted PEM private key.",
        ) from error
    return pair


def read_authority(path: Path) -> bytes:
    """Certificates of an authority.

    Raises:
        ConfigError: the file cannot be read or holds no PEM certificate.
    """
    data = _read(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"{path} holds no certificate of an authority: {error}.", remedy="Give a PEM file with certificates."
        ) from error
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The TLS file {path} cannot be read: {error.strerror}.",
            remedy="Correct the path or the file's permissions.",
        ) from error
