"""What the doctor says about an endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.fakes.endpoint import FakeEndpoint, stream
from updraft.cli.background import BackgroundLoop
from updraft.cli.endpoint_check import check_endpoint
from updraft.cli.link_check import check_link
from updraft.config import EdgeSettings, EndpointSettings


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    with BackgroundLoop() as opened:
        yield opened


def settings_for(loop: BackgroundLoop, models: Sequence[str], **changes: object) -> EdgeSettings:
    endpoint = loop.enter(FakeEndpoint([stream("x")], models=models))
    table = EndpointSettings.model_validate({"url": endpoint.url, "model": "big", **changes})
    return EdgeSettings(endpoint=table)


def test_an_endpoint_with_the_model_is_well(loop: BackgroundLoop) -> None:
    (check,) = check_endpoint(settings_for(loop, ["big", "small"]))
    assert (check.name, check.status) == ("endpoint", "ok")
    assert check.facts["models"] == ["big", "small"]


def test_a_model_that_is_not_listed_is_a_warning_with_those_that_are(loop: BackgroundLoop) -> None:
    (check,) = check_endpoint(settings_for(loop, ["huge"]))
    assert check.status == "warning" and "lists huge" in check.detail and check.remedy


def test_nobody_there_and_no_key_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    table = EndpointSettings(url="http://127.0.0.1:9/v1", model="big", connect_timeout_s=0.5)
    (check,) = check_endpoint(EdgeSettings(endpoint=table))
    assert (check.status, check.facts["code"]) == ("failed", "cloud_unavailable")
    monkeypatch.delenv("NO_KEY", raising=False)
    keyed = table.model_copy(update={"api_key_env": "NO_KEY"})
    (check,) = check_endpoint(EdgeSettings(endpoint=keyed))
    assert check.status == "failed" and "NO_KEY" in check.detail


def test_without_an_endpoint_there_is_no_line_and_with_one_alone_no_link_is_tried(loop: BackgroundLoop) -> None:
    assert check_endpoint(EdgeSettings()) == []
    settings = settings_for(loop, ["big"])
    (check,) = check_link(settings, None)
    assert check.status == "skipped" and "endpoint" in check.detail
    (check,) = check_endpoint(settings.model_copy(update={"local_only": True}))
    assert check.status == "skipped"
