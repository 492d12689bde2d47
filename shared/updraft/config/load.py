"""Settings from flags, `UPDRAFT_*` variables, the TOML file, the device profile and the defaults, in that order.

pydantic-settings reads the variables and lays the layers over each other. What it does not do is here: it passes over
unknown variables and unreadable files in silence, and its errors do not say where a value came from.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, SettingsConfigDict

from updraft.config.layers import OTHER_VARIABLES, PREFIX, Key, Tier, config_path, leaves, nearest, variable
from updraft.config.schema import CloudSettings, EdgeSettings
from updraft.devices import DeviceProfile, detect_device, load_profile
from updraft.errors import ConfigError, UnknownName
from updraft.modes import Mode, means_solve

__all__ = ["SettingSource", "describe_sources", "edge_profile", "load_cloud_settings", "load_edge_settings"]


@dataclass(frozen=True, slots=True)
class SettingSource:
    """One setting of `updraft config show`; the value of a secret is `***`."""

    key: str
    value: Any
    default: Any
    place: str

    @property
    def is_default(self) -> bool:
        return self.place == "default"


def load_edge_settings(config_file: Path | None = None, /, **overrides: Any) -> EdgeSettings:
    """The edge's settings. `overrides` are fields, tables as dictionaries; None means not given, "" clears.

    Raises:
        ConfigError: an unknown key, a bad value or an unreadable file, named with its place.
    """
    return _resolve("edge", config_file, overrides)[0].edge


def load_cloud_settings(config_file: Path | None = None, /, **overrides: Any) -> CloudSettings:
    """The cloud's settings; as `load_edge_settings`, without a device profile."""
    return _resolve("cloud", config_file, overrides)[0].cloud


def describe_sources(tier: Tier, config_file: Path | None = None, /, **overrides: Any) -> list[SettingSource]:
    """Every setting of a tier in declared order, with its value, default and the place it came from."""
    settings, given = _resolve(tier, config_file, overrides)
    return [
        SettingSource(
            ".".join(leaf.key),
            _shown(leaf.default, leaf.is_secret),
            _shown(_LEAVES[leaf.key].default, leaf.is_secret),
            given[leaf.key].place if leaf.key in given else "default",
        )
        for leaf in leaves(getattr(settings, tier), (tier,))
    ]


def edge_profile(settings: EdgeSettings) -> DeviceProfile:
    """The device profile that these settings name, or that fits this machine."""
    return _profile(settings.device)


def _shown(value: Any, secret: bool) -> Any:
    """A value as JSON can hold it."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if secret:
        return "***"
    return list(value) if isinstance(value, tuple) else str(value)


class _Tiers(BaseSettings):
    """The root of all keys."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        enable_decoding=False,  # `0,1` and `0` are lists of cores, not JSON
        nested_model_default_partial_update=True,
    )
    edge: EdgeSettings = EdgeSettings()
    cloud: CloudSettings = CloudSettings()


_LEAVES = {leaf.key: leaf for leaf in leaves(_Tiers.model_construct(), ())}


@dataclass(frozen=True, slots=True)
class _Given:
    """A value and the place that gave it, as a person would name it."""

    value: Any
    place: str


_Places = dict[Key, _Given]


def _resolve(tier: Tier, config_file: Path | None, overrides: dict[str, Any]) -> tuple[_Tiers, _Places]:
    """The settings, right for this tier alone, and what was given for them."""
    path = config_file or config_path()
    required = config_file is not None or bool(os.environ.get("UPDRAFT_CONFIG"))
    given: _Places = {}
    layers = [
        _known({tier: overrides}, lambda _: "flag", given),
        _known(_variables(), variable, given),
        _known(_file(path, required=required), lambda _: str(path), given),
    ]
    if tier == "edge":
        device = given.get(("edge", "device"), _Given("auto", "default"))
        try:
            profile = _profile(str(device.value))
        except UnknownName as error:
            raise ConfigError(f"{error.message} It was named by {device.place}.", remedy=error.remedy) from error
        layers.append(_known({"edge": profile.edge_defaults()}, lambda _: f"device profile {profile.name}", given))
        asked = {key[-1]: one.value for key, one in given.items() if key[:2] == ("edge", "mode")}
        if "mode" not in asked and means_solve(asked):
            layers.append({"edge": {"mode": {"mode": Mode.SOLVE}}})
    given = {key: one for key, one in given.items() if key[0] == tier}
    for key, one in given.items():
        if isinstance(one.value, bool) and _LEAVES[key].field.annotation is not bool:
            raise _bad_value(key, one, "it is not a yes-or-no key")

    class Layered(_Tiers):
        @classmethod
        def settings_customise_sources(cls, *_: Any, **__: Any) -> tuple[InitSettingsSource, ...]:
            return tuple(InitSettingsSource(cls, {tier: layer.get(tier, {})}) for layer in layers)

    try:
        return Layered(), given
    except ValidationError as error:
        raise _explained(error, given) from error


def _known(
    table: Any, place: Callable[[Key], str], given: _Places, path: Key = (), model: type[BaseModel] = _Tiers
) -> dict[str, Any]:
    """A layer's values, noted in `given` unless a higher layer has them.

    None is not given; an empty text is None where the key may be left out.

    Raises:
        ConfigError: a key names no setting, or a table is none.
    """
    if isinstance(table, BaseModel):
        table = {name: getattr(table, name) for name in table.model_fields_set}
    if not isinstance(table, Mapping):
        raise ConfigError(f"{'.'.join(path)} in {place(path)} is {table!r}; it must be a table.")
    values: dict[str, Any] = {}
    for name, value in table.items():
        key = (*path, name)
        if name not in model.model_fields:
            siblings = [".".join((*path, other)) for other in model.model_fields]
            near = nearest(".".join(key), siblings, map(".".join, _LEAVES))
            raise ConfigError(
                f"{'.'.join(key)} in {place(key)} is not a known key{near}.",
                remedy="Correct or remove the key; `updraft config show` lists all settings.",
            )
        if value is None:
            continue
        if leaf := _LEAVES.get(key):
            given.setdefault(key, _Given(value, place(key)))
            if isinstance(value, str) and leaf.default and isinstance(leaf.default, tuple):  # names: `keys,cards`
                value = [part.strip() for part in value.split(",") if part.strip()]
            values[name] = None if value == "" and leaf.may_be_empty else value
        else:
            below = cast(type[BaseModel], model.model_fields[name].annotation)
            values[name] = _known(value, place, given, key, below)
    return values


def _variables() -> dict[str, Any]:
    """Values of the `UPDRAFT_*` variables. Raises ConfigError for a variable that names no setting."""
    known = [*map(variable, _LEAVES), *OTHER_VARIABLES]
    for name in sorted(os.environ):
        # pydantic-settings would read names in small letters too; one spelling is enough.
        if name.upper().startswith(PREFIX) and name not in known:
            raise ConfigError(
                f"The variable {name} names no setting{nearest(name.upper(), known)}.",
                remedy="Correct or unset the variable; `updraft config show` lists all settings.",
            )
    return EnvSettingsSource(_Tiers)()


def _file(path: Path, *, required: bool) -> dict[str, Any]:
    """Values of a TOML file; none if it does not exist and is not required.

    TomlConfigSettingsSource is not used: to it a missing file, a folder and a pipe are all an empty file.

    Raises:
        ConfigError: the file is missing, cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_bytes().decode())
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


def _profile(device: str) -> DeviceProfile:
    return load_profile(detect_device() if device in ("auto", "") else device)


def _bad_value(key: Key, given: _Given, reason: str) -> ConfigError:
    dotted = ".".join(key)
    value = "***" if _LEAVES[key].is_secret else repr(given.value)
    return ConfigError(f"{dotted} is {value} (from {given.place}): {reason}.", param=dotted)


def _explained(error: ValidationError, given: _Places) -> ConfigError:
    """A ConfigError naming the key at fault, the value and the place that gave it."""
    first = error.errors()[0]
    names = tuple(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ").removesuffix(".")
    for end in range(len(names), 0, -1):
        if names[:end] in given:
            return _bad_value(names[:end], given[names[:end]], reason)
    where = ".".join(names)
    # A rule about several keys names them: only their places matter.
    named = {key for key in given if key[: len(names)] == names and ".".join(key[len(names) :]) in reason}
    places = sorted({given[key].place for key in named})
    origin = f" (from {', '.join(places)})" if places else ""
    return ConfigError(f"{where}: {reason}{origin}.", param=where)
