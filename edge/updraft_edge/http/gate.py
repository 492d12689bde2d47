"""Who may come in: the bearer token, the browser protections, and how many answers are written at once."""

from __future__ import annotations

import hmac
import ipaddress
from types import TracebackType
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from updraft.errors import Overloaded, Unauthenticated, UpdraftError
from updraft_edge.http.errors import Refused, error_response, log_unexpected

__all__ = ["HEALTH_PATHS", "Admission", "Gate"]

HEALTH_PATHS = frozenset({"/health", "/healthz", "/readyz"})


class Gate:
    """ASGI middleware around everything else; turns every error that arises before an answer into its answer.

    With a token, each path but the health checks needs it. Without one, a web page must not reach the agent through the
    user's browser: a request that arrived on loopback must name a loopback host (else a page whose name was
    rebound to 127.0.0.1 could talk to the agent), and one with an `Origin` must come from a loopback page (browsers
    send simple cross-site POSTs without asking).
    """

    def __init__(self, app: ASGIApp, *, token: str | None = None) -> None:
        self._app = app
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, watched)
        except Exception as error:
            if not isinstance(error, (UpdraftError, Refused)):
                log_unexpected(error)
            if not begun:
                await error_response(error)(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self._token is None:
            _check_host(scope, headers)
            _check_origin(headers)
        elif scope["path"] not in HEALTH_PATHS:
            _check_token(headers, self._token)


def _check_token(headers: Headers, token: bytes) -> None:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    # Headers are decoded as Latin-1, so encoding them so gives the sent bytes back.
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), token):
        raise Unauthenticated("The bearer token is missing or wrong.")


def _check_host(scope: Scope, headers: Headers) -> None:
    arrived_at = (scope.get("server") or ("", None))[0]
    if _is_address(arrived_at) and not _is_loopback(arrived_at):
        return  # listening beyond loopback without a token is a choice that the operator has stated
    host = headers.get("host", "")
    if not _is_loopback(_host_name(host)):
        raise Refused(
            403,
            "host_not_allowed",
            f"The Host header is {host[:100]!r}; without a token only localhost, 127.0.0.1 and [::1] are served. "
            "Use one of these, or start the agent with a token.",
        )


def _check_origin(headers: Headers) -> None:
    origin = headers.get("origin")
    if origin is not None and not _is_loopback(_host_name(origin.partition("://")[2])):
        raise Refused(
            403,
            "origin_not_allowed",
            f"Pages of {origin[:100]!r} may not use this agent. Start the agent with a token to allow it.",
        )


def _host_name(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


class Admission:
    """Counts requests that are being answered; entering one too many raises Overloaded at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.running = 0

    def __enter__(self) -> None:
        if self.running >= self._limit:
            raise Overloaded(f"{self.running} requests are being answered; at most {self._limit} are taken at once.")
        self.running += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.running -= 1
