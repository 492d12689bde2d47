"""Holds JSON documents against a schema: a program of its own, which `json_schema` runs with limits."""

from __future__ import annotations

import json
import sys

__all__ = ["main"]


def main() -> None:
    """Read `schema` and `documents`, write one reason each, null for those that the schema allows.

    Reasons name the place and the rule, and nothing of the document.
    """
    from jsonschema import Draft202012Validator
    from referencing import Registry

    given = json.load(sys.stdin)
    validator = Draft202012Validator(given["schema"], registry=Registry())  # one that fetches nothing
    reasons = []
    for document in given["documents"]:
        error = next(validator.iter_errors(document), None)
        reasons.append(None if error is None else f"{error.json_path[:100]} breaks the rule {error.validator}")
    json.dump(reasons, sys.stdout)


if __name__ == "__main__":
    main()
