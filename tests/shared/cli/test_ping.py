from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.shared.cli.conftest import Updraft

SERVICE = "updraft.v1.Collaboration"
Listener = Callable[..., int]


@pytest.fixture
def operations() -> Iterator[Listener]:
    """Starts listeners whose `/health/ready` has this status, and gives their ports."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, context: ssl.SSLContext | None = None) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/health/ready" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def collaboration() -> Iterator[tuple[int, health.HealthServicer]]:
    """A gRPC server that has the health service only: its port, and what sets its status."""
    servicer = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port, servicer
    server.stop(None).wait()


def enabled(port: int, *more: str) -> list[str]:
    values = ("operations.enabled=true", f"operations.port={port}", *more)
    return [part for value in values for part in ("--set", value)]


@pytest.mark.parametrize(("status", "code", "said"), [(200, 0, "takes sessions"), (503, 1, "does not take sessions")])
def test_the_operations_listener_is_asked(
    updraft: Updraft, operations: Listener, status: int, code: int, said: str
) -> None:
    port = operations(status)
    result = updraft("ping", *enabled(port))
    assert (result.exit_code, result.stdout) == (code, f"127.0.0.1:{port} {said}\n")


def test_a_listener_on_all_addresses_is_asked_here(updraft: Updraft, operations: Listener) -> None:
    port = operations(200)
    result = updraft("ping", *enabled(port, "operations.host=0.0.0.0"))
    assert result.stdout == f"127.0.0.1:{port} takes sessions\n"


def test_a_listener_with_tls_is_asked_whoever_signed_for_it(
    updraft: Updraft, operations: Listener, tmp_path: Path
) -> None:
    issued = trustme.CA().issue_cert("cloud.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    for name, blob in (("cert", issued.cert_chain_pems[0]), ("key", issued.private_key_pem)):
        blob.write_to_path(str(tmp_path / name))
    files = (f"operations.tls_cert={tmp_path / 'cert'}", f"operations.tls_key={tmp_path / 'key'}")
    result = updraft("ping", *enabled(operations(200, context), *files))
    assert result.exit_code == 0, result.stderr


def test_without_operations_grpc_health_is_asked(
    updraft: Updraft, collaboration: tuple[int, health.HealthServicer]
) -> None:
    port, servicer = collaboration
    servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    result = updraft("ping", "--set", f"listen.port={port}")
    assert (result.exit_code, result.stdout) == (0, f"127.0.0.1:{port} takes sessions\n")
    servicer.enter_graceful_shutdown()
    result = updraft("ping", "--set", f"listen.port={port}")
    assert (result.exit_code, result.stdout) == (1, f"127.0.0.1:{port} does not take sessions\n")


def test_the_containers_variables_are_heeded(
    updraft: Updraft, operations: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPDRAFT_CLOUD__OPERATIONS__ENABLED", "true")
    monkeypatch.setenv("UPDRAFT_CLOUD__OPERATIONS__PORT", str(operations(200)))
    assert updraft("ping").exit_code == 0


@pytest.mark.parametrize("setting", ["operations.enabled=true", "operations.enabled=false"])
def test_nobody_there(updraft: Updraft, setting: str, unused_port: int) -> None:
    ports = (f"operations.port={unused_port}", f"listen.port={unused_port}")
    result = updraft("ping", "--set", setting, *[part for value in ports for part in ("--set", value)])
    assert result.exit_code == 1
    assert "Nothing answers at 127.0.0.1" in result.stderr


def test_tls_without_operations_is_explained(updraft: Updraft) -> None:
    result = updraft("ping", "--set", "listen.tls_cert=c", "--set", "listen.tls_key=k")
    assert result.exit_code == 2
    assert "operations.enabled" in result.stderr


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
