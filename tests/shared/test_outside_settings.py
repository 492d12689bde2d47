"""Settings of what leaves the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from updraft.config import EdgeSettings, LimitSettings, load_edge_settings
from updraft.errors import ConfigError


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"endpoint": {"url": "api.example.org/v1", "model": "m"}}, "http:// or https://"),
        ({"endpoint": {"url": "ftp://api.example.org", "model": "m"}}, "http:// or https://"),
        ({"endpoint": {"url": "https://h:99999/v1", "model": "m"}}, "http:// or https://"),
        ({"endpoint": {"url": "https://me:secret@h/v1", "model": "m"}}, "no user, password"),
        ({"endpoint": {"url": "https://h/v1?key=1", "model": "m"}}, "no user, password"),
        ({"endpoint": {"url": "https://h/v1"}}, "endpoint.model"),
        ({"endpoint": {"url": "http://10.0.0.5:8000/v1", "model": "m"}}, "clear text"),
        ({"endpoint": {"api_key_env": "sk-abc def"}}, "api_key_env"),
        ({"endpoint": {"headers": ["no colon"]}}, "Name: value"),
        ({"endpoint": {"headers": ["X: a\r\nY: b"]}}, "Name: value"),
        ({"rules": {"keep_local": ["passports"]}}, "keep_local"),
        ({"rules": {"action": "shrug"}}, "action"),
        ({"limits": {"money": -1}}, "money"),
        ({"limits": {"money": "inf"}}, "money"),
        ({"prices": {"endpoint_input": "nan"}}, "endpoint_input"),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_edge_settings(**changes)
    assert says in caught.value.message


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "http://localhost:11434/v1/", "http://[::1]:80/v1"])
def test_on_this_machine_http_will_do(url: str) -> None:
    assert load_edge_settings(endpoint={"url": url, "model": "m"}).endpoint.url == url.rstrip("/")


def test_beyond_it_insecure_must_be_said() -> None:
    table = {"url": "http://10.0.0.5:8000/v1", "model": "m"}
    assert load_edge_settings(endpoint=table, insecure=True).endpoint.url == table["url"]


def test_names_may_be_listed_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPDRAFT_EDGE__RULES__KEEP_LOCAL", "cards, ibans")
    monkeypatch.setenv("UPDRAFT_EDGE__RULES__PATTERNS", "a,b")
    rules = load_edge_settings().rules
    assert (rules.keep_local, rules.patterns) == (("cards", "ibans"), ("a,b",))
    monkeypatch.setenv("UPDRAFT_EDGE__RULES__KEEP_LOCAL", "")
    assert load_edge_settings().rules.keep_local == ()


def test_rules_are_on_and_nothing_is_limited_by_default() -> None:
    settings = EdgeSettings()
    assert settings.rules.keep_local == ("keys", "cards", "emails")
    assert not settings.limits.any and LimitSettings(money=0).any
    assert settings.has_cloud and settings.endpoint.url is None
