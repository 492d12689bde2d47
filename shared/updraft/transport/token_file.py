"""A file of bearer tokens: one JSON object a line, with the token's digest and never the token itself.

A token is `updraft_ID_SECRET` with 256 random bits as its secret. Nobody can guess that, so one SHA-256 protects it as
well as a slow, salted hash would protect a password, and a flood of wrong tokens costs the server next to nothing.
Lines that begin with # are comments. A revoked token keeps its line, so that its id still says whose it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from updraft.errors import ConfigError, UnknownName

__all__ = ["RevokedCertificate", "TokenEntry", "Tokens", "add_token", "is_tenant", "read_tokens", "revoke"]

_PREFIX: Final = "updraft"

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Names of devices, which stand in logs.
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]


def is_tenant(name: str) -> bool:
    """Whether a name can be a tenant's: printable, so that it deceives no reader of a log, and not long."""
    return 0 < len(name) <= 64 and name.isprintable() and name == name.strip()


def _tenant(name: str) -> str:
    if not is_tenant(name):
        raise ValueError("no name of a tenant")
    return name


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenEntry(_Line):
    """One token: its id, the SHA-256 of the whole token, whose it is and until when."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
    sha256: Digest
    tenant: Annotated[str, AfterValidator(_tenant)]
    name: Label | None = None
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    def state(self, now: float) -> Literal["valid", "expired", "revoked"]:
        """What it is worth at a Unix time."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires.timestamp() else "valid"


class RevokedCertificate(_Line):
    """A client certificate that is no longer let in, by the SHA-256 of its DER form."""

    certificate: Digest
    revoked: AwareDatetime


_LINE: Final = TypeAdapter[TokenEntry | RevokedCertificate](TokenEntry | RevokedCertificate)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token file's content."""

    entries: dict[str, TokenEntry] = field(default_factory=dict)
    revoked_certificates: frozenset[str] = frozenset()

    def find(self, token: str) -> TokenEntry | None:
        """The entry of a token, whatever its state; None if it is not of this file. The digests are compared in
        constant time; the id is no secret."""
        prefix, _, rest = token.partition("_")
        entry = self.entries.get(rest.partition("_")[0]) if prefix == _PREFIX else None
        if entry is None or not hmac.compare_digest(_digest(token), entry.sha256):
            return None
        return entry


def read_tokens(path: Path) -> Tokens:
    """Read a token file.

    Raises:
        ConfigError: it cannot be read, others may write to it, or a line is not one of a token file.
    """
    entries: dict[str, TokenEntry] = {}
    certificates: set[str] = set()
    for number, line in enumerate(_read(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _parse(line, path, number)
        if isinstance(found, RevokedCertificate):
            certificates.add(found.certificate)
        elif found.id in entries:
            raise ConfigError(f"Line {number} of {path} has the id {found.id} of an earlier line.")
        else:
            entries[found.id] = found
    return Tokens(entries, frozenset(certificates))


def add_token(
    path: Path,
    *,
    tenant: str,
    now: datetime,
    expires: datetime | None = None,
    name: str | None = None,
) -> tuple[TokenEntry, str]:
    """Make a token and write its entry; the entry, and the token, which is kept nowhere.

    Raises:
        ConfigError: a name is not allowed, or the file cannot be read or written.
    """
    identifier = secrets.token_hex(6)
    token = f"{_PREFIX}_{identifier}_{secrets.token_urlsafe(32)}"
    try:
        entry = TokenEntry(
            id=identifier,
            sha256=_digest(token),
            tenant=tenant,
            name=name,
            created=now,
            expires=expires,
        )
    except ValidationError as error:
        raise ConfigError(
            f"{error.errors()[0]['loc'][0]} cannot be {error.errors()[0]['input']!r}.",
            remedy="Use 1 to 64 printable characters for a tenant; for a name letters, digits, dots, @, dashes and "
            "underscores, a letter or digit first.",
        ) from error
    with _editing(path) as lines:
        lines.append(_written(entry))
    return entry, token


def revoke(path: Path, *, now: datetime, token_id: str | None = None, certificate: str | None = None) -> None:
    """Mark the token of that id as revoked, or note a client certificate's fingerprint.

    Raises:
        UnknownName: no token has that id.
        ConfigError: the file cannot be read or written, or the fingerprint is none.
    """
    with _editing(path) as lines:
        if certificate is not None:
            lines.append(_written(RevokedCertificate(certificate=certificate, revoked=now)))
            return
        for index, line in enumerate(lines):
            found = _parse(line, path, index + 1) if line.strip() and not line.startswith("#") else None
            if isinstance(found, TokenEntry) and found.id == token_id:
                lines[index] = _written(found.model_copy(update={"revoked": found.revoked or now}))
                return
        raise UnknownName(f"{path} has no token {token_id}.", remedy=f"`updraft tokens list {path}` shows their ids.")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _written(line: _Line) -> str:
    return line.model_dump_json(exclude_none=True)


def _parse(line: str, path: Path, number: int) -> TokenEntry | RevokedCertificate:
    try:
        return _LINE.validate_json(line)
    except ValidationError as error:
        # Not the line itself: messages are logged.
        raise ConfigError(
            f"Line {number} of {path} is no entry of a token file.",
            remedy="Write the file with `updraft tokens add` and `updraft tokens revoke`.",
        ) from error


def _read(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & 0o022:
                raise ConfigError(
                    f"Others may write to the token file {path} (mode {mode & 0o777:o}).",
                    remedy=f"Run `chmod 600 {path}`: who can write it can let themselves in.",
                )
            return file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"The token file {path} cannot be read: {reason}.",
            remedy="Correct the path or the file's permissions, or make it with `updraft tokens add`.",
        ) from error


@contextlib.contextmanager
def _editing(path: Path) -> Iterator[list[str]]:
    """The file's lines, to be changed in place; the file is replaced as a whole, and one at a time edits it."""
    import fcntl  # not on every system that can import this module

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"The token file {path} cannot be written: {error.strerror}.") from error
    fresh = path.with_name(f"{path.name}.new")
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        lines = _read(path) if path.exists() else []
        yield lines
        with open(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError as error:
        raise ConfigError(f"The token file {path} cannot be written: {error.strerror}.") from error
    finally:
        os.close(folder)
