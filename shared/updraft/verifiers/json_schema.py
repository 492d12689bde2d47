"""The answer holds JSON that a schema allows. It is checked in a process of its own, with limits."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import Field, field_validator

from updraft.errors import MissingExtra
from updraft.sandbox import Limits, run_command
from updraft.verifiers.base import Claim, Judgement
from updraft.verifiers.blocks import NOTHING, find_json
from updraft.verifiers.settings import Resources, Scorer, VerifierSettings

__all__ = ["JsonSchema"]

_MOST_BYTES: Final = 64 << 10  # of a schema
_MANY: Final = 64
_NO_NAMES: Final = frozenset({"enum", "anyOf", "oneOf", "allOf", "prefixItems", "examples"})
_CHECK: Final = Path(__file__).with_name("schema_check.py")
_LIMITS: Final = Limits(seconds=10.0, cpu_seconds=5, memory_bytes=1 << 30, processes=8)


class JsonSchema(VerifierSettings):
    """JSON in the answer, bare or in a fenced block, is what a JSON schema (draft 2020-12) allows.

    Patterns and references in a schema can take time without end, so that they are followed elsewhere and stopped.
    References to other documents are not followed.
    """

    kind: ClassVar[str] = "json-schema"
    of_question: ClassVar[frozenset[str]] = frozenset({"schema"})

    schema_: dict[str, Any] | bool = Field(alias="schema")

    @field_validator("schema_")
    @classmethod
    def _check(cls, schema: dict[str, Any] | bool) -> dict[str, Any] | bool:
        try:
            from jsonschema import Draft202012Validator
            from jsonschema.exceptions import SchemaError
        except ImportError as error:
            raise MissingExtra(
                "The verifier json-schema needs the library jsonschema.",
                remedy='Install it with `pip install "updraft-llm[verify]"`.',
            ) from error
        try:
            if len(json.dumps(schema, allow_nan=False)) > _MOST_BYTES:
                raise ValueError(f"it is longer than {_MOST_BYTES} bytes")
            if _slow(schema):
                raise ValueError("it is no JSON schema: a list of names holds something else")
            Draft202012Validator.check_schema(schema)
        except (SchemaError, RecursionError) as error:
            reason = error.message if isinstance(error, SchemaError) else "nested too deep"
            raise ValueError(f"it is no JSON schema: {reason[:200]}") from error
        return schema

    def scorer(self, resources: Resources) -> Scorer:
        async def score(claims: Sequence[Claim]) -> list[Judgement]:
            found = [find_json(claim.text) for claim in claims]
            documents = [document for document in found if document is not NOTHING]
            reasons = iter(await self._reasons(documents))
            return [
                Judgement(0.0, reason="there is no JSON in the answer") if one is NOTHING else next(reasons)
                for one in found
            ]

        return score

    async def _reasons(self, documents: list[Any]) -> list[Judgement]:
        if not documents:
            return []
        given = json.dumps({"schema": self.schema_, "documents": documents}).encode()
        ended = await run_command((sys.executable, "-I", "-B", str(_CHECK)), given, _LIMITS, environment={"LANG": "C"})
        if ended.status != 0:
            return [Judgement(None, reason=f"checking the schema: {ended.reason}", failed=True)] * len(documents)
        return [
            Judgement(1.0) if reason is None else Judgement(0.0, reason=reason) for reason in json.loads(ended.output)
        ]


def _slow(schema: dict[str, Any] | bool) -> bool:
    """Whether checking a schema takes seconds: entries of lists that should be names, and cannot be sorted, are each
    compared with all others."""
    level: list[tuple[str, Any]] = [("", schema)]
    while level:
        lists = [(key, value) for key, value in level if isinstance(value, list)]
        if any(key not in _NO_NAMES and _mixed(entries) for key, entries in lists):
            return True
        inner = [item for _, value in level if isinstance(value, dict) for item in value.items()]
        level = inner + [("", entry) for _, entries in lists for entry in entries]
    return False


def _mixed(entries: list[Any]) -> bool:
    return len(entries) > _MANY and not all(isinstance(entry, str) for entry in entries)
