"""Every key that can be set: its variable, its field and default, and the nearest known name to a wrong one."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from updraft.config.schema import CloudSettings, EdgeSettings

__all__ = ["OTHER_VARIABLES", "PREFIX", "TIERS", "Key", "Leaf", "Tier", "config_path", "leaves", "nearest", "variable"]

Tier = Literal["edge", "cloud"]
Key = tuple[str, ...]  # a path of names, such as ("edge", "http", "port")

TIERS: dict[str, type[EdgeSettings] | type[CloudSettings]] = {"edge": EdgeSettings, "cloud": CloudSettings}

PREFIX = "UPDRAFT_"
OTHER_VARIABLES = {
    "UPDRAFT_AGENT": "address of the agent that `updraft run`, `updraft chat` and the SDK ask",
    "UPDRAFT_CACHE_DIR": "folder for files that are made once, such as requantised models",
    "UPDRAFT_CONFIG": "path of the configuration file",
    "UPDRAFT_DEBUG": "1 prints tracebacks",
}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A key that holds a value and not a table, with its default."""

    key: Key
    field: FieldInfo
    default: Any

    @property
    def may_be_empty(self) -> bool:
        """Whether the value can be left out, which an empty text stands for."""
        return type(None) in get_args(self.field.annotation)

    @property
    def is_secret(self) -> bool:
        """Whether the value must never be shown."""
        return SecretStr in (self.field.annotation, *get_args(self.field.annotation))


def leaves(table: BaseModel, prefix: Key) -> Iterator[Leaf]:
    """All leaves below a table, in the order in which they are declared."""
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*prefix, name))
        else:
            yield Leaf((*prefix, name), field, value)


def variable(key: Key) -> str:
    """The environment variable of a key: `UPDRAFT_EDGE__HTTP__PORT`."""
    return PREFIX + "__".join(key).upper()


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    """The configuration file: UPDRAFT_CONFIG, or updraft/config.toml in the user's configuration folder."""
    environ = os.environ if environ is None else environ
    if named := environ.get("UPDRAFT_CONFIG"):
        return Path(named).expanduser()
    home = environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "updraft" / "config.toml"


def nearest(name: str, candidates: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """The closest known name as a phrase: the same last name `elsewhere`, else among `candidates`, else nothing."""
    last = name.rpartition(".")[2]
    candidates, elsewhere = list(candidates), list(elsewhere)
    # Swapped letters are the commonest slip, and difflib would rather drop one than swap two.
    found = (
        [other for other in candidates if sorted(other) == sorted(name)]
        or [other for other in elsewhere if other.rpartition(".")[2] == last]
        or difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
        or difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.5)
    )
    return f"; the nearest known one is {found[0]}" if found else ""
