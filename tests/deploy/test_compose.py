"""The compose file and Envoy's configuration keep what docs/container.md promises, with settings that exist."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.house import ROOT
from updraft.config import CloudSettings, load_cloud_settings
from updraft.transport.bearer import SESSION_HEADER

FOLDER = ROOT / "deploy/compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yml").read_text())
ENVOY: dict[str, Any] = yaml.safe_load((FOLDER / "envoy.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
(CLUSTER,) = ENVOY["static_resources"]["clusters"]
(LISTENER,) = ENVOY["static_resources"]["listeners"]
(CHAIN,) = LISTENER["filter_chains"]
MANAGER: dict[str, Any] = CHAIN["filters"][0]["typed_config"]
ROUTES: list[dict[str, Any]] = MANAGER["route_config"]["virtual_hosts"][0]["routes"]


def seconds(text: str) -> float:
    """`45s` as a number."""
    match = re.fullmatch(r"([\d.]+)s", text)
    assert match, text
    return float(match[1])


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> CloudSettings:
    """The settings that the compose file's variables make; unknown names are errors."""
    for name, value in SERVICES["cloud"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    return load_cloud_settings(None)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["pids_limit"] > 0
    assert service["tmpfs"] == ["/tmp:mode=1777"]  # noqa: S108
    assert all(volume.endswith(":ro") for volume in service["volumes"])
    assert not {"privileged", "cap_add", "pid", "ipc", "network_mode"} & set(service)


def test_only_envoy_is_reached_from_outside() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["envoy"]
    assert SERVICES["cloud"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert "admin" not in ENVOY


def test_secrets_are_files_and_each_is_declared() -> None:
    assert {name for service in SERVICES.values() for name in service["secrets"]} == set(COMPOSE["secrets"])
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())
    used = re.findall(r"/run/secrets/([\w.-]+)", (FOLDER / "envoy.yaml").read_text())
    assert set(used) == set(SERVICES["envoy"]["secrets"])


def test_the_cloud_needs_tls_and_a_token(cloud: CloudSettings) -> None:
    secrets = {f"/run/secrets/{name}" for name in SERVICES["cloud"]["secrets"]}
    assert {str(cloud.listen.tls_cert), str(cloud.listen.tls_key)} == secrets
    assert cloud.identity.tokens is not None
    assert not cloud.insecure


def test_time_to_drain(cloud: CloudSettings) -> None:
    """Envoy sees a draining replica before it stops taking sessions, and it is not killed before it is done."""
    (check,) = CLUSTER["health_checks"]
    assert cloud.operations.drain_notice_s > seconds(check["interval"]) * check["unhealthy_threshold"]
    grace = seconds(SERVICES["cloud"]["stop_grace_period"])
    assert grace >= cloud.operations.drain_notice_s + cloud.drain_s + 10


def test_several_replicas_by_session() -> None:
    assert SERVICES["cloud"]["deploy"]["replicas"] >= 2
    assert CLUSTER["lb_policy"] == "RING_HASH"
    for route in ROUTES:
        assert route["route"]["hash_policy"] == [{"header": {"header_name": SESSION_HEADER}}]
    address = CLUSTER["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert address == {"address": "cloud", "port_value": CloudSettings().listen.port}


def test_edges_show_certificates_and_speak_http2() -> None:
    tls = CHAIN["transport_socket"]["typed_config"]
    assert tls["require_client_certificate"] is True
    assert tls["common_tls_context"]["validation_context"]["trusted_ca"]
    for context in (tls, CLUSTER["transport_socket"]["typed_config"]):
        assert context["common_tls_context"]["alpn_protocols"] == ["h2"]
        assert context["common_tls_context"]["tls_params"]["tls_minimum_protocol_version"] == "TLSv1_2"
    upstream = CLUSTER["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
    assert upstream["match_typed_subject_alt_names"] == [{"san_type": "DNS", "matcher": {"exact": "cloud"}}]


def test_limits_are_those_for_a_proxy_that_strangers_reach() -> None:
    assert LISTENER["per_connection_buffer_limit_bytes"] == CLUSTER["per_connection_buffer_limit_bytes"] == 32 << 10
    assert MANAGER["http2_protocol_options"]["max_concurrent_streams"] == 100
    assert MANAGER["http2_protocol_options"]["initial_stream_window_size"] == 64 << 10
    assert MANAGER["http2_protocol_options"]["initial_connection_window_size"] == 1 << 20
    assert MANAGER["common_http_protocol_options"]["headers_with_underscores_action"] == "REJECT_REQUEST"
    actions = {
        action["name"].rpartition(".")[2]: action["triggers"][0] for action in ENVOY["overload_manager"]["actions"]
    }
    assert actions["stop_accepting_requests"]["threshold"]["value"] == 0.95
    assert actions["disable_http_keepalive"]["threshold"]["value"] == 0.92
    heap = ENVOY["overload_manager"]["resource_monitors"][0]["typed_config"]["max_heap_size_bytes"]
    assert heap < int(SERVICES["envoy"]["mem_limit"].removesuffix("m")) << 20


def test_a_session_lasts_as_long_as_the_cloud_lets_it(cloud: CloudSettings) -> None:
    assert seconds(MANAGER["stream_idle_timeout"]) > cloud.idle_timeout_s
    for route in ROUTES:
        assert route["route"]["timeout"] == "0s"
        assert seconds(route["route"]["max_stream_duration"]["max_stream_duration"]) > (
            cloud.admission.session_age_s or 0
        )


def test_nothing_but_sessions_and_health_is_routed() -> None:
    prefixes = ["/updraft.v1.Collaboration/", "/grpc.health.v1.Health/"]
    assert [route["match"] for route in ROUTES] == [{"prefix": prefix, "grpc": {}} for prefix in prefixes]
    assert CLUSTER["health_checks"][0]["grpc_health_check"] == {"service_name": "updraft.v1.Collaboration"}
