"""The verifiers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from updraft.errors import InvalidRequest, UnknownName
from updraft.verifiers.asking import Generative, SelfEvaluation
from updraft.verifiers.command import External
from updraft.verifiers.exact import Number, Regex
from updraft.verifiers.json_schema import JsonSchema
from updraft.verifiers.likelihood import LogProb
from updraft.verifiers.reward import Reward
from updraft.verifiers.settings import OpenVerifier, Resources, VerifierSettings
from updraft.verifiers.unit_tests import UnitTests

__all__ = ["VERIFIERS", "open_verifier", "parse_verifier"]

VERIFIERS: Final[dict[str, type[VerifierSettings]]] = {
    settings.kind: settings
    for settings in (Number, Regex, JsonSchema, UnitTests, SelfEvaluation, Generative, Reward, LogProb, External)
}


def parse_verifier(spec: str | Mapping[str, Any]) -> VerifierSettings:
    """A verifier's settings from its name, or from an object with `kind` and its settings.

    Raises:
        UnknownName: there is none of this name.
        InvalidRequest: a setting is missing, unknown or out of range.
        MissingExtra: a library that it needs is not installed.
    """
    fields = {"kind": spec} if isinstance(spec, str) else dict(spec) if isinstance(spec, Mapping) else {}
    kind = fields.pop("kind", None)
    if not isinstance(kind, str):
        raise InvalidRequest(
            "A verifier is a name, or an object with its name as kind.",
            remedy='Write "reward", or {"kind": "regex", "pattern": "..."}.',
            param="verifier",
        )
    settings = VERIFIERS.get(kind)
    if settings is None:
        known = ", ".join(VERIFIERS)
        raise UnknownName(f"There is no verifier {kind!r}; there is: {known}.", param="verifier")
    try:
        return settings.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(["verifier", *map(str, first["loc"])])
        reason = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"{where}: {reason}.", param=where) from error


def open_verifier(spec: str | Mapping[str, Any], resources: Resources) -> OpenVerifier:
    """A verifier that can judge. Raises what `parse_verifier` and `VerifierSettings.open` raise."""
    return parse_verifier(spec).open(resources)
