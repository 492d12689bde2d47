"""A real uvicorn on loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from starlette.applications import Starlette

__all__ = ["Serve"]

Serve = Callable[[Starlette], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves applications on ports of their own until the test is over."""
    with contextlib.ExitStack() as stack:
        yield lambda app: stack.enter_context(_running(app))


@contextlib.contextmanager
def _running(app: Starlette) -> Iterator[int]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # from here on clients can connect, if only to wait
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
