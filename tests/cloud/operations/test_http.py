"""The listener for operators: metrics behind a token, liveness, and readiness with its reasons."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from updraft.config.operations import OperationsSettings
from updraft.errors import AddressInUse, ConfigError, InsecureListen
from updraft_cloud.operations.http import OperationsServer, operations_app, require_safe_operations
from updraft_cloud.operations.metrics import CloudMetrics
from updraft_cloud.operations.readiness import Readiness

TOKEN = SecretStr("s3cret")


def client(readiness: Readiness, *, token: str | None = None) -> httpx.AsyncClient:
    app = operations_app(CloudMetrics(), readiness, token=token)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://cloud")


@pytest.fixture
async def listening() -> AsyncIterator[OperationsServer]:
    server = OperationsServer(OperationsSettings(enabled=True, port=0), CloudMetrics(), Readiness())
    server.start()
    yield server
    await server.stop()


async def test_readiness_has_its_reasons_and_liveness_none() -> None:
    readiness = Readiness()
    async with client(readiness) as http:
        loading = await http.get("/health/ready")
        assert (loading.status_code, loading.json()) == (503, {"ready": False, "reasons": ["loading"]})
        readiness.clear("loading")
        assert (await http.get("/health/ready")).json() == {"ready": True, "reasons": []}
        readiness.hold("engine")
        readiness.hold("draining")
        readiness.clear("engine")
        draining = await http.get("/health/ready")
        assert (draining.status_code, draining.json()["reasons"]) == (503, ["draining"])
        assert (await http.get("/health/live")).status_code == 200


def test_listeners_hear_of_changes_alone() -> None:
    readiness, heard = Readiness(), list[bool]()
    readiness.tell(heard.append)
    readiness.clear("loading")
    readiness.clear("loading")
    readiness.hold("engine")
    readiness.hold("draining")
    readiness.clear("engine")
    assert heard == [False, True, False]


async def test_metrics_are_in_prometheus_format() -> None:
    async with client(Readiness()) as http:
        page = await http.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    assert "updraft_sessions_active 0.0" in page.text


@pytest.mark.parametrize(
    ("header", "status"),
    [(None, 401), ("Bearer wrong", 401), ("Bearer s3cret2", 401), ("Basic s3cret", 401), ("Bearer s3cret", 200)],
)
async def test_a_token_guards_the_metrics_and_not_the_health(header: str | None, status: int) -> None:
    async with client(Readiness(), token="s3cret") as http:
        headers = {} if header is None else {"authorization": header}
        assert (await http.get("/metrics", headers=headers)).status_code == status
        assert (await http.get("/health/live")).status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/metrics", 405), ("GET", "/", 404)])
async def test_there_is_nothing_else(method: str, path: str, status: int) -> None:
    async with client(Readiness()) as http:
        assert (await http.request(method, path)).status_code == status


async def test_it_listens_where_it_is_told(listening: OperationsServer) -> None:
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"http://{listening.address}/health/live")).json() == {"live": True}


async def test_a_taken_port_is_an_error_at_once(listening: OperationsServer) -> None:
    port = int(listening.address.rpartition(":")[2])
    other = OperationsServer(OperationsSettings(enabled=True, port=port), CloudMetrics(), Readiness())
    with pytest.raises(AddressInUse):
        other.start()
    await other.stop()


async def test_a_broken_certificate_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    settings = OperationsSettings(enabled=True, port=0, tls_cert=tmp_path / "bad.pem", tls_key=tmp_path / "bad.pem")
    with pytest.raises(ConfigError):
        OperationsServer(settings, CloudMetrics(), Readiness()).start()


async def test_off_it_does_not_listen() -> None:
    server = OperationsServer(OperationsSettings(), CloudMetrics(), Readiness())
    server.start()
    assert server.address == ""
    await server.stop()


@pytest.mark.parametrize(
    ("settings", "insecure", "fine"),
    [
        ({}, False, True),
        ({"host": "0.0.0.0"}, False, False),
        ({"host": "0.0.0.0"}, True, True),
        ({"host": "0.0.0.0", "token": TOKEN}, False, True),
        ({"host": "localhost"}, False, True),
    ],
)
def test_others_see_metrics_with_a_token_only(settings: dict[str, object], insecure: bool, fine: bool) -> None:
    checked = OperationsSettings.model_validate({"enabled": True, **settings})
    if fine:
        require_safe_operations(checked, insecure=insecure)
        return
    with pytest.raises(InsecureListen, match=r"operations\.token"):
        require_safe_operations(checked, insecure=insecure)


@pytest.mark.parametrize("half", [{"tls_cert": "c.pem"}, {"tls_key": "k.pem"}, {"client_ca": "a.pem"}])
def test_half_a_certificate_is_refused(half: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        OperationsSettings.model_validate(half)
