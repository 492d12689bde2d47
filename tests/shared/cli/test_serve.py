from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import updraft_cloud.server
import updraft_edge.server
from tests.shared.cli.conftest import Updraft
from updraft.config import CloudSettings, EdgeSettings
from updraft.errors import AddressInUse


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Takes the place of both tiers' servers and keeps the settings that they were started with."""
    settings: list[Any] = []

    async def serve(given: EdgeSettings | CloudSettings) -> None:
        settings.append(given)

    monkeypatch.setattr(updraft_edge.server, "serve", serve)
    monkeypatch.setattr(updraft_cloud.server, "serve", serve)
    return settings


def test_edge_flags_become_settings(updraft: Updraft, served: list[Any]) -> None:
    flags = {
        "--model": "smollm2",
        "--device": "laptop-cpu",
        "--mode": "span",
        "--cloud": "10.0.0.5:7080",
        "--host": "localhost",
        "--port": "1",
        "--grpc-port": "2",
        "--tls-cert": "c.pem",
        "--tls-key": "k.pem",
        "--context": "512",
        "--sequences": "2",
        "--threads": "3",
        "--gpu-layers": "4",
        "--cores": "0,1",
        "--log-level": "error",
        "--log-format": "json",
        "--set": "cloud.reply_timeout_s=5",
    }
    result = updraft("serve", "edge", "--local-only", "--insecure", *[word for pair in flags.items() for word in pair])
    assert result.exit_code == 0, result.stderr
    (settings,) = served
    assert isinstance(settings, EdgeSettings)
    assert (settings.model, settings.device, settings.mode.mode) == ("smollm2", "laptop-cpu", "span")
    assert (settings.local_only, settings.insecure) == (True, True)
    assert (settings.cloud.address, settings.cloud.reply_timeout_s) == ("10.0.0.5:7080", 5)
    assert (settings.http.host, settings.http.port, settings.grpc.host, settings.grpc.port) == (
        "localhost",
        1,
        "localhost",
        2,
    )
    for listen in (settings.http, settings.grpc):
        assert (listen.tls_cert, listen.tls_key) == (Path("c.pem"), Path("k.pem"))
    assert (settings.context, settings.sequences, settings.threads, settings.gpu_layers) == (512, 2, 3, 4)
    assert (settings.cores, settings.log_level, settings.log_format) == ((0, 1), "error", "json")


def test_flags_of_the_torch_engine_become_its_options(updraft: Updraft, served: list[Any]) -> None:
    flags = ["--engine", "torch", "--torch-device", "cuda:1", "--dtype", "bfloat16", "--expert-bits", "4"]
    result = updraft("serve", "cloud", *flags, "--set", "torch.exact=false")
    assert result.exit_code == 0, result.stderr
    options = served[0].engine_options()
    expected = {"backend": "torch", "device": "cuda:1", "dtype": "bfloat16", "expert_bits": 4, "exact": False}
    assert {name: options[name] for name in expected} == expected
    assert not {"backend", "device", "dtype", "expert_bits", "exact"} & CloudSettings().engine_options().keys()
    for wrong in (["--engine", "cuda"], ["--torch-device", "gpu"], ["--dtype", "int8"], ["--expert-bits", "3"]):
        assert updraft("serve", "cloud", *wrong).exit_code == 2


def test_cloud_flags_become_settings(updraft: Updraft, served: list[Any]) -> None:
    tls = ["--tls-cert", "c.pem", "--tls-key", "k.pem", "--client-ca", "a.pem", "--tokens", "t"]
    result = updraft("serve", "cloud", "--port", "0", "--host", "::1", *tls, "--max-sessions", "3", "--cores", "1")
    assert result.exit_code == 0, result.stderr
    (settings,) = served
    assert isinstance(settings, CloudSettings)
    listen = settings.listen
    assert (listen.host, listen.port, listen.client_ca) == ("::1", 0, Path("a.pem"))
    assert (settings.max_sessions, settings.cores, settings.identity.tokens) == (3, (1,), Path("t"))


def test_no_flags_means_no_change(updraft: Updraft, served: list[Any]) -> None:
    assert updraft("serve", "cloud").exit_code == 0
    assert served == [CloudSettings()]


def test_the_start_shows_what_was_set_and_where_it_listens(updraft: Updraft, served: list[Any]) -> None:
    result = updraft("serve", "edge", "--port", "7000", "--device", "laptop-cpu")
    assert result.stdout == ""
    lines = [line.split() for line in result.stderr.splitlines()]
    assert ["edge.http.port", "7000", "7070", "flag"] in lines
    assert ["HTTP", "on", "127.0.0.1:7000"] in lines and ["gRPC", "on", "127.0.0.1:7071"] in lines
    assert not any(line[0] == "edge.max_tokens" for line in lines)


def test_a_json_log_holds_nothing_else_and_no_secret(
    updraft: Updraft, served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPDRAFT_CLOUD__LISTEN__TOKEN", "hunter2")
    result = updraft("serve", "cloud", "--log-format", "json")
    (entry,) = [json.loads(line) for line in result.stderr.splitlines()]
    assert entry["message"] == "starting"
    assert entry["settings"]["cloud.listen.token"] == "***"
    assert entry["addresses"] == {"gRPC": "127.0.0.1:7080"}


@pytest.mark.parametrize("tier", ["edge", "cloud"])
def test_wrong_settings_start_nothing(tier: str, updraft: Updraft, served: list[Any]) -> None:
    for flags in (["--context", "-1"], ["--log-level", "loud"], ["--set", "x=1"], ["--cores", "0,0"]):
        assert updraft("serve", tier, *flags).exit_code == 2
    assert served == []


def test_an_error_of_the_server_has_its_remedy(updraft: Updraft, monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(settings: EdgeSettings) -> None:
        raise AddressInUse(f"Port {settings.http.port} is taken.")

    monkeypatch.setattr(updraft_edge.server, "serve", serve)
    result = updraft("serve", "edge")
    assert result.exit_code == 2
    assert "error: Port 7070 is taken." in result.stderr and AddressInUse.default_remedy in result.stderr


def test_a_missing_library_names_the_extra(updraft: Updraft, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")

    monkeypatch.setitem(sys.modules, "updraft_edge.server", Broken("updraft_edge.server"))
    result = updraft("serve", "edge")
    assert result.exit_code == 2
    assert "uvicorn is not installed" in result.stderr
    assert 'pip install "updraft-llm[edge]"' in result.stderr
