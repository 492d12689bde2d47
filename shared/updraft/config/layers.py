"""Where values come from: flags, `UPDRAFT_*` variables and the TOML file, each checked against the known keys.

A layer maps a key, as a path of names such as `("edge", "http", "port")`, to the value given and its place.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from updraft.config.schema import CloudSettings, EdgeSettings
from updraft.errors import ConfigError

__all__ = [
    "OTHER_VARIABLES",
    "TIERS",
    "Given",
    "Key",
    "Layer",
    "Leaf",
    "Tier",
    "config_path",
    "environment_layer",
    "file_layer",
    "flag_layer",
    "is_secret",
    "leaves",
    "may_be_empty",
    "variable",
]

Tier = Literal["edge", "cloud"]
Key = tuple[str, ...]

TIERS: dict[str, type[EdgeSettings] | type[CloudSettings]] = {"edge": EdgeSettings, "cloud": CloudSettings}

PREFIX = "UPDRAFT_"
OTHER_VARIABLES = {
    "UPDRAFT_AGENT": "address of the agent that `updraft run`, `updraft chat` and the SDK ask",
    "UPDRAFT_CACHE_DIR": "folder for files that are made once, such as requantised models",
    "UPDRAFT_CONFIG": "path of the configuration file",
    "UPDRAFT_DEBUG": "1 prints tracebacks",
}


@dataclass(frozen=True, slots=True)
class Given:
    """A value and the place that gave it, as a person would name it."""

    value: Any
    place: str


Layer = dict[Key, Given]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A key that holds a value and not a table, with its default."""

    key: Key
    field: FieldInfo
    default: Any


def leaves(table: BaseModel, prefix: Key) -> Iterator[Leaf]:
    """All leaves below a table, in the order in which they are declared."""
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*prefix, name))
        else:
            yield Leaf((*prefix, name), field, value)


def _known() -> list[Key]:
    return [leaf.key for tier, cls in TIERS.items() for leaf in leaves(cls(), (tier,))]


def may_be_empty(field: FieldInfo) -> bool:
    """Whether the field can be left out, which an empty text stands for."""
    return type(None) in get_args(field.annotation)


def is_secret(field: FieldInfo) -> bool:
    """Whether the field's value must never be shown."""
    return SecretStr in (field.annotation, *get_args(field.annotation))


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


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Values of the `UPDRAFT_*` variables. Raises ConfigError for a variable that names no setting."""
    known = {variable(key): key for key in _known()}
    layer: Layer = {}
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        if name in OTHER_VARIABLES:
            continue
        if name not in known:
            raise ConfigError(
                f"The variable {name} names no setting{_nearest(name, [*known, *OTHER_VARIABLES])}.",
                remedy="Correct or unset the variable; `updraft config show` lists all settings.",
            )
        layer[known[name]] = Given(environ[name], name)
    return layer


def file_layer(path: Path, *, required: bool) -> Layer:
    """Values of a TOML file; an empty layer if it does not exist and is not required.

    Raises:
        ConfigError: the file is missing, cannot be read, is not TOML, or has a key that names no setting.
    """
    try:
        data = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError as error:
        if not required:
            return {}
        raise ConfigError(
            f"The configuration file {path} does not exist.", remedy="Create it with `updraft config init`."
        ) from error
    except OSError as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path} is not valid TOML: {error}.") from error
    return dict(_flatten(data, (), _known(), str(path)))


def flag_layer(tier: Tier, overrides: Mapping[str, Any]) -> Layer:
    """Values given in code or by flags; None means not given. Raises ConfigError for unknown names."""
    return dict(_flatten({tier: overrides}, (), _known(), "flag"))


def _flatten(table: Mapping[str, Any], prefix: Key, known: list[Key], place: str) -> Iterator[tuple[Key, Given]]:
    for name, value in table.items():
        key = (*prefix, name)
        if key in known:
            if value is not None:
                yield key, Given(value, place)
            continue
        if not any(other[: len(key)] == key for other in known):
            siblings = [".".join(other[: len(key)]) for other in known if other[:-1][: len(prefix)] == prefix]
            dotted = ".".join(key)
            raise ConfigError(
                f"{dotted} in {place} is not a known key{_nearest(dotted, siblings, everything=known)}.",
                remedy="Correct or remove the key; `updraft config show` lists all settings.",
            )
        if isinstance(value, BaseModel):
            value = {field: getattr(value, field) for field in value.model_fields_set}
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise ConfigError(f"{'.'.join(key)} in {place} is {value!r}; it must be a table.")
        yield from _flatten(value, key, known, place)


def _nearest(name: str, candidates: list[str], *, everything: list[Key] | None = None) -> str:
    """The closest known name as a phrase: among `candidates`, else the same last name anywhere, else nothing."""
    # Swapped letters are the commonest slip, and difflib would rather drop one than swap two.
    found = [other for other in candidates if sorted(other) == sorted(name)] or difflib.get_close_matches(
        name, list(dict.fromkeys(candidates)), n=1, cutoff=0.6
    )
    if not found and everything:
        dotted = [".".join(key) for key in everything]
        last = name.rpartition(".")[2]
        found = [other for other in dotted if other.rpartition(".")[2] == last] or difflib.get_close_matches(
            name, dotted, n=1, cutoff=0.5
        )
    return f"; the nearest known one is {found[0]}" if found else ""
