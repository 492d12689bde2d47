"""Profiles: what `updraft calibrate` found for one pair of models, as a versioned JSON file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from updraft.errors import ConfigError, InvalidRequest, ProfileMismatch, UnknownName
from updraft.modes import Mode, ModeSettings

__all__ = [
    "CurvePoint",
    "ModelIdentity",
    "Profile",
    "list_profiles",
    "profile_path",
    "profiles_folder",
    "read_profile",
    "save_profile",
    "some_points",
]

SUFFIX: Final = ".json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MOST_BYTES: Final = 4_000_000

Text = Annotated[str, Field(min_length=1, max_length=4096)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelIdentity(_Part):
    """A model by what it is, not by where it lies."""

    name: Text
    fingerprint: Text


class CurvePoint(_Part):
    """What one setting was measured to do: means over the prompts.

    Attributes:
        value: of the knob.
        disagreement: token edit distance to the cloud's text, over the longer one's length; `low` and `high` bound
            its 95 % bootstrap interval.
        rejected: tokens that are not the cloud's greedy choice after the text before them.
        mismatch: share of answers that differ from the cloud's at all.
        share: tokens that the cloud wrote.
        token_ms: time per token, from the request on.
        cost: money per 1000 tokens at the given price; 0 without one.
    """

    value: Finite
    disagreement: Finite
    low: Finite
    high: Finite
    rejected: Finite
    mismatch: Finite
    share: Finite
    token_ms: Finite
    passes_per_token: Finite
    bytes_per_token: Finite
    cost: Finite = 0.0


class Profile(_Part):
    """A calibrated setting, what it promises, and the pair that it holds for.

    Attributes:
        format: of this file.
        settings: the mode settings that were fitted, as a request would write them.
        guarantee: the promise in words, with its assumptions; of a goal that has none it says so.
        curve: every measured setting, the most cautious first; `chosen` is the one in `settings`.
    """

    format: Literal[1] = 1
    edge: ModelIdentity
    cloud: ModelIdentity
    tokenizer_hash: Text
    mode: Mode
    settings: dict[str, Any]
    goal: Text
    guarantee: Text
    prompts: int = Field(ge=1)
    max_tokens: int = Field(ge=1)
    round_trip_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    curve: tuple[CurvePoint, ...] = Field(min_length=1)
    chosen: int = Field(ge=0)
    edge_only: CurvePoint | None = None
    cloud_only: CurvePoint | None = None
    version: Text
    created: Text

    @model_validator(mode="after")
    def _whole(self) -> Profile:
        if self.chosen >= len(self.curve):
            raise ValueError(f"chosen is {self.chosen}; the curve has {len(self.curve)} points")
        if ModeSettings.model_validate({"mode": self.mode, **self.settings}).profile is not None:
            raise ValueError("a profile cannot name another one")
        return self

    def under(self, given: ModeSettings) -> ModeSettings:
        """The profile's settings, under all that `given` says explicitly.

        Raises:
            InvalidRequest: together they contradict each other.
        """
        merged = _over({"mode": self.mode, **self.settings}, given.model_dump(exclude_unset=True))
        try:
            return ModeSettings.model_validate(merged)
        except ValidationError as error:
            raise InvalidRequest(
                f"The request's settings contradict the profile's: {error.errors()[0]['msg']}.", param="updraft"
            ) from error

    def check_edge(self, model: ModelIdentity, tokenizer_hash: str) -> None:
        """Raises ProfileMismatch where another edge model was calibrated."""
        if self.edge.fingerprint != model.fingerprint or self.tokenizer_hash != tokenizer_hash:
            raise self._mismatch("edge", self.edge, model)

    def check_cloud(self, model: ModelIdentity) -> None:
        """Raises ProfileMismatch where another cloud model was calibrated."""
        if self.cloud.fingerprint != model.fingerprint:
            raise self._mismatch("cloud", self.cloud, model)

    def _mismatch(self, tier: str, calibrated: ModelIdentity, found: ModelIdentity) -> ProfileMismatch:
        return ProfileMismatch(
            f"The profile was made for the pair {self.edge.name} (edge) and {self.cloud.name} (cloud); the {tier} "
            f"model here is {found.name} [{found.fingerprint[:12]}], not {calibrated.name} "
            f"[{calibrated.fingerprint[:12]}].",
            param="updraft.profile",
        )


def profiles_folder() -> Path:
    """Where profiles that are asked for by name lie."""
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "updraft" / "profiles"


def profile_path(name: str) -> Path:
    """The file of a profile: a path if it looks like one, else by its name in `profiles_folder`.

    Raises:
        UnknownName: it is neither.
    """
    if os.sep in name or name.endswith(SUFFIX):
        return Path(name).expanduser()
    if not _NAME.fullmatch(name):
        raise UnknownName(f"{name!r} is no name of a profile.", remedy="Use letters, digits, . _ and -.")
    return profiles_folder() / f"{name}{SUFFIX}"


def list_profiles() -> list[str]:
    """Names of the profiles in `profiles_folder`."""
    return sorted(path.stem for path in profiles_folder().glob(f"*{SUFFIX}"))


def read_profile(name: str) -> Profile:
    """A profile by name or path.

    Raises:
        UnknownName: there is none.
        ConfigError: it is damaged, or of a format that this version does not know.
    """
    path = profile_path(name)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"The profile {name!r} is too large to be one.", remedy="Calibrate again.")
        return Profile.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        known = ", ".join(list_profiles()) or "none"
        raise UnknownName(
            f"There is no profile {name!r}; there are: {known}.",
            remedy="Make one with `updraft calibrate`, or give its file.",
            param="updraft.profile",
        ) from error
    except (OSError, ValidationError) as error:
        first = error.errors(include_input=False)[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else "it cannot be read"
        raise ConfigError(f"The profile {name!r} is damaged: {reason}.", remedy="Calibrate again.") from error


def save_profile(profile: Profile, path: Path) -> None:
    """Write it all at once, and its folder where that is missing."""
    from updraft.exits.files import replace_file

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, profile.model_dump_json(indent=2).encode() + b"\n")


def some_points(profile: Profile, most: int = 24) -> list[int]:
    """Places of the curve to print: all of a short one, of a long one a few evenly and the chosen one."""
    count = len(profile.curve)
    if count <= most:
        return list(range(count))
    return sorted({round(step * (count - 1) / (most - 2)) for step in range(most - 1)} | {profile.chosen})


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged
