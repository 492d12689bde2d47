"""Settings of how the cloud knows who calls."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from updraft.config.base import Settings

__all__ = ["IdentitySettings"]


class IdentitySettings(Settings):
    """Whose a call is: of the tenant that its client certificate (with `listen.client_ca`) or its token names."""

    tokens: Path | None = Field(
        default=None,
        description="File of bearer tokens, written by `updraft tokens`, one of which every client must send; it is "
        "read again when it changes.",
    )
    tenant_field: Literal["O", "OU", "CN"] = Field(
        default="O",
        description="Field of a client certificate's subject that names the tenant: O (organisation), OU or CN.",
    )
    recheck_s: float = Field(
        default=1.0,
        ge=0.01,
        le=60,
        allow_inf_nan=False,
        description="Longest time that a session outlives its token or certificate, seconds.",
    )
