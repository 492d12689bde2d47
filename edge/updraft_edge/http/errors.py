"""Errors as HTTP answers in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from updraft.errors import Cancelled, UpdraftError

__all__ = ["RETRY_AFTER_SECONDS", "Refused", "error_body", "error_response", "http_exception", "log_unexpected"]

RETRY_AFTER_SECONDS = 1

_logger = logging.getLogger("updraft.http")

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refused(Exception):
    """A request that HTTP itself refuses, outside of what an agent can fail at.

    Args:
        status: HTTP status.
        code: stable, machine-readable name.
        message: what is wrong and what to do about it.
    """

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param


def error_body(error: Exception) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON object for an error; an unexpected one says nothing about its cause."""
    if isinstance(error, Refused):
        return error.status, _body(error.status, error.message, error.param, error.code)
    if isinstance(error, Cancelled):  # a client that is still there must not see 499, which says that it went away
        message = f"{error.message} The answer was cancelled before it was complete; send the request again."
        return 503, _body(503, message, error.param, error.code)
    if isinstance(error, UpdraftError):
        message = f"{error.message} {error.remedy}"
        return error.http_status, _body(error.http_status, message, error.param, error.code)
    return 500, _body(500, f"The server failed. {UpdraftError.default_remedy}", None, UpdraftError.code)


def _body(status: int, message: str, param: str | None, code: str) -> dict[str, Any]:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(error: Exception) -> JSONResponse:
    """The answer to a request that failed before its answer began."""
    status, body = error_body(error)
    headers = {}
    if status in {429, 503}:
        headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    elif status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body, status, headers)


async def http_exception(request: Request, error: Exception) -> JSONResponse:
    """Starlette's handler for its own errors: unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    path = request.url.path[:100]
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        refused = Refused(405, "method_not_allowed", f"{path} does not take {request.method}; use {allowed}.")
    else:
        refused = Refused(error.status_code, "not_found", f"There is no {path}; GET /v1/info describes this server.")
    response = error_response(refused)
    response.headers.update(error.headers or {})
    return response


def log_unexpected(error: Exception) -> None:
    """Log where an unexpected error arose, but not its message, which may hold text of a prompt."""
    where = "".join(traceback.format_tb(error.__traceback__))
    _logger.error("request failed with %s\n%s", type(error).__name__, where)
