"""Profiles: under what a request says, whole or refused, and found by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from updraft.errors import ConfigError, InvalidRequest, ProfileMismatch, UnknownName
from updraft.modes import Mode, ModeSettings, parse_settings
from updraft.profiles import (
    ModelIdentity,
    Profile,
    list_profiles,
    profile_path,
    profiles_folder,
    read_profile,
    save_profile,
)

POINT = {
    "value": 0.3,
    "disagreement": 0.02,
    "low": 0.01,
    "high": 0.03,
    "rejected": 0.01,
    "mismatch": 0.2,
    "share": 0.1,
    "token_ms": 20.0,
    "passes_per_token": 0.2,
    "bytes_per_token": 9.0,
}


def profile(**changes: Any) -> Profile:
    fields: dict[str, Any] = {
        "edge": {"name": "small", "fingerprint": "aaaa"},
        "cloud": {"name": "large", "fingerprint": "bbbb"},
        "tokenizer_hash": "letters",
        "mode": "cascade",
        "settings": {"acceptance": {"alpha": 0.3}},
        "goal": "disagreement<=0.05@0.9",
        "guarantee": "with probability 0.9",
        "prompts": 40,
        "max_tokens": 48,
        "curve": [POINT],
        "chosen": 0,
        "version": "1.2.3",
        "created": "2025-01-01T00:00:00+00:00",
    }
    return Profile.model_validate({**fields, **changes})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return profiles_folder()


def test_the_profile_says_what_the_request_does_not() -> None:
    merged = profile().under(parse_settings({"profile": "mine", "stop": {"longest": 20}}))
    assert (merged.mode, merged.acceptance.alpha, merged.stop.longest) == (Mode.CASCADE, 0.3, 20)


@pytest.mark.parametrize(
    ("given", "alpha"),
    [
        ({"acceptance": {"alpha": 0.5}}, 0.5),  # the default, said explicitly
        ({"acceptance": {"rule": "tolerance"}}, 0.3),
        ({"mode": "draft"}, 0.3),
    ],
)
def test_what_is_given_explicitly_lies_above(given: dict[str, Any], alpha: float) -> None:
    merged = profile().under(parse_settings({"profile": "mine", **given}))
    assert merged.acceptance.alpha == alpha
    assert merged.mode == given.get("mode", "cascade")


def test_a_request_that_names_a_profile_leaves_the_agents_defaults() -> None:
    defaults = ModeSettings.model_validate({"mode": "span", "local_only": True, "acceptance": {"alpha": 0.9}})
    merged = profile().under(parse_settings({"profile": "mine"}, defaults))
    assert (merged.mode, merged.acceptance.alpha, merged.local_only) == (Mode.CASCADE, 0.3, True)


def test_the_agents_own_profile_stays_under_what_a_request_adds() -> None:
    defaults = ModeSettings(profile="mine")
    merged = profile().under(parse_settings({"acceptance": {"alpha": 0.1}}, defaults))
    assert (merged.mode, merged.acceptance.alpha, merged.profile) == (Mode.CASCADE, 0.1, "mine")


def test_settings_that_contradict_each_other_are_refused() -> None:
    span = profile(mode="span", settings={"span": {"escalate": 1.5}})
    with pytest.raises(InvalidRequest, match="hand_back"):
        span.under(parse_settings({"profile": "mine", "span": {"hand_back": 1.8}}))


@pytest.mark.parametrize("name", ["/etc/passwd", "../mine", "mine.json", "a/b", ""])
def test_a_request_cannot_name_a_file(name: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_settings({"profile": name})


def test_another_pair_is_named_with_both_names() -> None:
    one = profile()
    one.check_edge(ModelIdentity(name="renamed", fingerprint="aaaa"), "letters")
    with pytest.raises(
        ProfileMismatch, match=r"pair small \(edge\) and large \(cloud\).* is other \[cccc\], not small"
    ):
        one.check_edge(ModelIdentity(name="other", fingerprint="cccc"), "letters")
    with pytest.raises(ProfileMismatch, match="the edge model"):
        one.check_edge(ModelIdentity(name="small", fingerprint="aaaa"), "words")
    with pytest.raises(ProfileMismatch, match="the cloud model"):
        one.check_cloud(ModelIdentity(name="other", fingerprint="cccc"))


def test_profiles_are_found_by_name_and_by_path(folder: Path, tmp_path: Path) -> None:
    save_profile(profile(), profile_path("mine"))
    save_profile(profile(), tmp_path / "other.json")
    assert read_profile("mine") == read_profile(str(tmp_path / "other.json")) == profile()
    assert list_profiles() == ["mine"]
    assert [path.name for path in folder.iterdir()] == ["mine.json"]


def test_a_profile_that_is_not_there_is_answered_with_those_that_are() -> None:
    save_profile(profile(), profile_path("mine"))
    with pytest.raises(UnknownName, match="there are: mine"):
        read_profile("yours")
    with pytest.raises(UnknownName, match="no name"):
        read_profile("*")


@pytest.mark.parametrize(
    "damage",
    [
        lambda fields: fields.pop("curve"),
        lambda fields: fields.update(format=2),
        lambda fields: fields.update(chosen=1),
        lambda fields: fields.update(unknown=1),
        lambda fields: fields.update(settings={"acceptance": {"alpha": 3}}),
        lambda fields: fields.update(settings={"profile": "mine"}),
        lambda fields: fields["curve"][0].update(share=None),
    ],
)
def test_damaged_profiles_are_refused(damage: Any, tmp_path: Path) -> None:
    fields = json.loads(profile().model_dump_json())
    damage(fields)
    (tmp_path / "bad.json").write_text(json.dumps(fields))
    with pytest.raises(ConfigError, match="is damaged"):
        read_profile(str(tmp_path / "bad.json"))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 5000, b"x" * 4_000_001])
def test_files_that_are_no_profile_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(data)
    with pytest.raises(ConfigError):
        read_profile(str(tmp_path / "bad.json"))


def test_numbers_must_be_finite() -> None:
    with pytest.raises(ValidationError):
        profile(curve=[{**POINT, "share": float("nan")}])
