"""What operators ask the cloud over HTTP: metrics, whether it lives, and whether sessions should come here."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from updraft.config.operations import OperationsSettings
from updraft.errors import InsecureListen
from updraft.transport.address import format_address, is_loopback
from updraft.transport.http import HttpServer
from updraft.transport.listen import server_credentials
from updraft_cloud.operations.metrics import CloudMetrics
from updraft_cloud.operations.readiness import Readiness

__all__ = ["OperationsServer", "operations_app", "require_safe_operations"]

log = logging.getLogger(__name__)

Page = Callable[[Request], Awaitable[Response]]

_GRACE_S = 1


def operations_app(metrics: CloudMetrics, readiness: Readiness, *, token: str | None = None) -> Starlette:
    """`/metrics`, `/health/live` and `/health/ready` as an ASGI application; `/metrics` asks for the token, if any."""

    async def rendered(_request: Request) -> Response:
        return Response(metrics.render(), headers={"content-type": metrics.content_type})

    async def live(_request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(_request: Request) -> Response:
        body = {"ready": readiness.ready, "reasons": readiness.reasons}
        return JSONResponse(body, status_code=200 if readiness.ready else 503)

    return Starlette(
        routes=[
            Route("/metrics", rendered if token is None else _guarded(rendered, token)),
            Route("/health/live", live),
            Route("/health/ready", ready),
        ]
    )


def _guarded(page: Page, token: str) -> Page:
    wanted = f"Bearer {token}".encode()

    async def guarded(request: Request) -> Response:
        # Headers are decoded as Latin-1, so encoding them so gives the sent bytes back.
        given = request.headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, wanted):
            return Response("a bearer token is needed\n", 401, {"www-authenticate": "Bearer"})
        return await page(request)

    return guarded


def require_safe_operations(settings: OperationsSettings, *, insecure: bool) -> None:
    """Refuse to show metrics to other machines without a token, unless the operator said `insecure`.

    Raises InsecureListen.
    """
    if not insecure and settings.token is None and not is_loopback(settings.host):
        where = format_address(settings.host, settings.port)
        raise InsecureListen(f"Metrics on {where} without a token would be open to anyone; set operations.token.")


class OperationsServer:
    """The listener, if it is enabled. It answers from before the model is loaded until after the last session.

    Attributes:
        address: host:port as bound; empty while it does not listen.
    """

    def __init__(self, settings: OperationsSettings, metrics: CloudMetrics, readiness: Readiness) -> None:
        self.address = ""
        self._settings = settings
        self._metrics = metrics
        self._readiness = readiness
        self._server: HttpServer | None = None

    def start(self) -> None:
        """Listen. Raises AddressInUse or ConfigError."""
        settings = self._settings
        if not settings.enabled:
            return
        server_credentials(settings)  # whose errors are clearer than the HTTP server's
        token = settings.token.get_secret_value() if settings.token else None
        self._server = HttpServer(operations_app(self._metrics, self._readiness, token=token), settings, _GRACE_S)
        self.address = format_address(settings.host, self._server.port)
        log.info("metrics and health on %s", self.address)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None
