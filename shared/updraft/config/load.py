"""Settings from their layers: flags, then `UPDRAFT_*` variables, the TOML file, the device profile, the defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import SecretStr, ValidationError

from updraft.config.layers import (
    TIERS,
    Given,
    Key,
    Layer,
    Leaf,
    Tier,
    config_path,
    environment_layer,
    file_layer,
    flag_layer,
    is_secret,
    leaves,
    may_be_empty,
)
from updraft.config.schema import CloudSettings, EdgeSettings
from updraft.devices import DeviceProfile, detect_device, load_profile
from updraft.errors import ConfigError, UnknownName

__all__ = [
    "SettingSource",
    "describe_sources",
    "edge_profile",
    "load_cloud_settings",
    "load_edge_settings",
]


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
    settings, _ = _resolve("edge", config_file, overrides)
    return cast(EdgeSettings, settings)


def load_cloud_settings(config_file: Path | None = None, /, **overrides: Any) -> CloudSettings:
    """The cloud's settings; as `load_edge_settings`, without a device profile."""
    settings, _ = _resolve("cloud", config_file, overrides)
    return cast(CloudSettings, settings)


def describe_sources(tier: Tier, config_file: Path | None = None, /, **overrides: Any) -> list[SettingSource]:
    """Every setting of a tier in declared order, with its value, default and the place it came from."""
    settings, places = _resolve(tier, config_file, overrides)
    defaults = {leaf.key: leaf.default for leaf in leaves(TIERS[tier](), (tier,))}
    return [
        SettingSource(
            ".".join(leaf.key),
            _shown(leaf.default, is_secret(leaf.field)),
            _shown(defaults[leaf.key], is_secret(leaf.field)),
            places.get(leaf.key, "default"),
        )
        for leaf in leaves(settings, (tier,))
    ]


def edge_profile(settings: EdgeSettings) -> DeviceProfile:
    """The device profile that these settings name, or that fits this machine."""
    return load_profile(detect_device() if settings.device == "auto" else settings.device)


def _shown(value: Any, secret: bool) -> Any:
    """A value as JSON can hold it."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if secret:
        return "***"
    return list(value) if isinstance(value, tuple) else str(value)


def _resolve(
    tier: Tier, config_file: Path | None, overrides: dict[str, Any]
) -> tuple[EdgeSettings | CloudSettings, dict[Key, str]]:
    """Lay the layers over each other and validate the result."""
    path = config_file or config_path()
    required = config_file is not None or bool(os.environ.get("UPDRAFT_CONFIG"))
    given: Layer = {}
    for layer in (file_layer(path, required=required), environment_layer(os.environ), flag_layer(tier, overrides)):
        given |= {key: value for key, value in layer.items() if key[0] == tier}
    if tier == "edge":
        given = _profile_layer(given) | given
    known = {leaf.key: leaf for leaf in leaves(TIERS[tier](), (tier,))}
    values = {key: leaf.default for key, leaf in known.items()}
    values |= {key: _plain(known[key], value) for key, value in given.items()}
    try:
        settings = TIERS[tier].model_validate(_nested(values))
    except ValidationError as error:
        raise _explained(error, tier, given) from error
    return settings, {key: value.place for key, value in given.items()}


def _profile_layer(given: Layer) -> Layer:
    chosen = given.get(("edge", "device"), Given("auto", "default"))
    name = detect_device() if chosen.value in ("auto", "") else str(chosen.value)
    try:
        profile = load_profile(name)
    except UnknownName as error:
        raise ConfigError(f"{error.message} It was named by {chosen.place}.", remedy=error.remedy) from error
    place = f"device profile {name}"
    return {("edge", field): Given(value, place) for field, value in profile.edge_defaults().items()}


def _plain(leaf: Leaf, given: Given) -> Any:
    """The value given, None for an empty text where the key may be left out; truth values are no numbers."""
    if isinstance(given.value, bool) and leaf.field.annotation is not bool:
        dotted = ".".join(leaf.key)
        raise ConfigError(f"{dotted} is {given.value} (from {given.place}): it is not a yes-or-no key.", param=dotted)
    return None if given.value == "" and may_be_empty(leaf.field) else given.value


def _nested(values: dict[Key, Any]) -> dict[str, Any]:
    """The tables below the tier, which is the first name of every key."""
    root: dict[str, Any] = {}
    for key, value in values.items():
        table = root
        for name in key[1:-1]:
            table = table.setdefault(name, {})
        table[key[-1]] = value
    return root


def _explained(error: ValidationError, tier: Tier, given: Layer) -> ConfigError:
    """A ConfigError naming the key at fault, the value and the place that gave it."""
    first = error.errors()[0]
    secrets = {leaf.key for leaf in leaves(TIERS[tier](), (tier,)) if is_secret(leaf.field)}
    names = tuple(str(part) for part in first["loc"] if not str(part).startswith("function-"))
    key = next(((tier, *names[:end]) for end in range(len(names), 0, -1) if (tier, *names[:end]) in given), None)
    reason = first["msg"].removeprefix("Value error, ").removesuffix(".")
    if key is None:
        where = ".".join((tier, *names))
        places = sorted({value.place for other, value in given.items() if ".".join(other).startswith(where)})
        origin = f" (from {', '.join(places)})" if places else ""
        return ConfigError(f"{where}: {reason}{origin}.", param=where)
    value = "***" if key in secrets or isinstance(given[key].value, SecretStr) else repr(given[key].value)
    dotted = ".".join(key)
    return ConfigError(f"{dotted} is {value} (from {given[key].place}): {reason}.", param=dotted)
