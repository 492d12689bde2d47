"""The way to an OpenAI-compatible endpoint: one HTTP client, errors as ours, and a breaker that probes on its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx

from updraft.config import EdgeSettings, EndpointSettings
from updraft.errors import (
    CloudUnavailable,
    ConfigError,
    InvalidRequest,
    LateReply,
    ModelNotFound,
    Overloaded,
    Unauthenticated,
    UpdraftError,
)
from updraft.transport.address import is_loopback, read_authority
from updraft_edge.breaker import ProbingBreaker
from updraft_edge.endpoint.stream import MOST_EVENT_BYTES, parse_json
from updraft_edge.rules.guard import Rules

__all__ = ["EndpointLink", "Refusal", "open_endpoint", "read_whole"]

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 10.0  # a longer Retry-After is the caller's to wait for
_MOST_ERROR_BYTES = 4096


class Refusal(Exception):
    """The endpoint does not take the request as it is (400 or 422); it may take a plainer one. `error` says it all."""

    def __init__(self, error: InvalidRequest) -> None:
        super().__init__(error.message)
        self.error = error


class EndpointLink:
    """The way to one endpoint. Nothing is opened before the first call.

    Args:
        rules: what may leave the device; every session has its guard from them.

    Attributes:
        plain: it has refused fields beyond OpenAI's oldest ones, and gets none.
        continues: it has not refused to continue an answer.
        offers_logprobs: it has not refused to give log-probabilities.

    Raises:
        ConfigError: the variable of the key is not set, or the authority's file cannot be read.
    """

    def __init__(self, settings: EndpointSettings, rules: Rules) -> None:
        self.settings = settings
        self.rules = rules
        self.breaker = ProbingBreaker(settings.breaker_failures, settings.probe_interval_s, self._probe)
        self.plain = False
        self.continues = True
        self.offers_logprobs = True
        self._headers = _headers(settings)
        self._verify = _verify(settings)
        self._client: httpx.AsyncClient | None = None

    @contextlib.asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncIterator[httpx.Response]:
        """The response to a call that succeeded, its body unread. Tried again while nothing of an answer has arrived.

        Raises:
            CloudUnavailable, LateReply, Overloaded: after the last attempt.
            Unauthenticated, ModelNotFound: at once.
            Refusal: at once; a plainer call may be taken.
        """
        async with contextlib.AsyncExitStack() as stack:
            yield await self._attempts(path, body, stack)

    async def models(self) -> list[str]:
        """Names of the models that it lists. Raises as `post` does, and InvalidRequest in the place of Refusal."""
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s):
                response = await self._open().get("models")
                if response.status_code >= 400:
                    raise _status_error(response.status_code, response.content[:_MOST_ERROR_BYTES], self.settings)
                listed = parse_json(response.content).get("data")
        except TimeoutError as error:
            raise self._late(self.settings.connect_timeout_s) from error
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        except Refusal as refusal:
            raise refusal.error from refusal
        return [str(item.get("id")) for item in listed or () if isinstance(item, dict)]

    async def close(self) -> None:
        await self.breaker.close()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def describe(self) -> dict[str, object]:
        """For `/v1/info`; never the key."""
        return {
            "url": self.settings.url,
            "model": self.settings.model,
            "breaker": self.breaker.state.value,
            "key": self.settings.api_key_env is not None,
        }

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            settings = self.settings
            base = settings.url or ""
            self._client = httpx.AsyncClient(
                base_url=f"{base}/",
                headers=self._headers,
                verify=self._verify,
                timeout=httpx.Timeout(settings.reply_timeout_s, connect=settings.connect_timeout_s),
                follow_redirects=False,  # the key and the prompt go where the settings say
                trust_env=not is_loopback(urlsplit(base).hostname or ""),  # proxies
            )
        return self._client

    async def _attempts(self, path: str, body: bytes, stack: contextlib.AsyncExitStack) -> httpx.Response:
        for left in range(self.settings.attempts - 1, -1, -1):
            try:
                response = await self._attempt(path, body, stack)
            except (CloudUnavailable, LateReply, Overloaded) as error:
                pause = self.settings.retry_pause_s * 2 ** (self.settings.attempts - 1 - left)
                if isinstance(error, Overloaded):
                    pause = max(pause, error.retry_after_s)
                if not left or pause > _LONGEST_PAUSE_S or isinstance(error, LateReply):
                    if not isinstance(error, Overloaded):
                        self.breaker.failure()
                    raise
                await asyncio.sleep(pause)
                continue
            return response
        raise CloudUnavailable("The endpoint cannot be reached.")

    async def _attempt(self, path: str, body: bytes, stack: contextlib.AsyncExitStack) -> httpx.Response:
        client = self._open()
        request = client.build_request("POST", path, content=body, headers={"content-type": "application/json"})
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s + self.settings.reply_timeout_s):
                response = await client.send(request, stream=True)
                if response.status_code == 200:
                    stack.push_async_callback(response.aclose)
                    return response
                said = await _beginning(response)
        except TimeoutError as error:
            raise self._late(self.settings.reply_timeout_s) from error
        except httpx.ConnectTimeout as error:
            raise _unreachable(error) from error
        except httpx.TimeoutException as error:
            raise self._late(self.settings.reply_timeout_s) from error
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
        failure = _status_error(response.status_code, said, self.settings)
        if isinstance(failure, Overloaded):
            failure.retry_after_s = _seconds(response.headers.get("retry-after", ""))
        raise failure

    def _late(self, seconds: float) -> LateReply:
        return LateReply(
            f"The endpoint did not answer within {seconds:g} s.",
            remedy="Raise edge.endpoint.reply_timeout_s, or try again.",
        )

    async def _probe(self) -> None:
        # It answers, if only so: a refusal is not its absence.
        with contextlib.suppress(ModelNotFound, Unauthenticated, InvalidRequest):
            await self.models()


def _headers(settings: EndpointSettings) -> dict[str, str]:
    headers = {"accept-encoding": "identity", "user-agent": "updraft"}  # identity: nothing unfolds to a flood
    headers |= {name: value for name, _, value in (line.partition(": ") for line in settings.headers)}
    if settings.api_key_env is None:
        return headers
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"The variable {settings.api_key_env}, which edge.endpoint.api_key_env names, holds no key.",
            remedy="Set it in the environment of the agent, or name another.",
        )
    bearer = settings.api_key_header.lower() == "authorization"
    return headers | {settings.api_key_header: f"Bearer {key}" if bearer else key}


def _verify(settings: EndpointSettings) -> ssl.SSLContext | bool:
    if settings.ca is None:
        return True
    read_authority(settings.ca)
    return ssl.create_default_context(cafile=str(settings.ca))


async def _beginning(response: httpx.Response) -> bytes:
    """The first bytes of an error's body."""
    said = b""
    try:
        async for chunk in response.aiter_raw():
            said += chunk[:_MOST_ERROR_BYTES]
            if len(said) >= _MOST_ERROR_BYTES:
                break
    finally:
        await response.aclose()
    return said[:_MOST_ERROR_BYTES]


async def read_whole(response: httpx.Response) -> bytes:
    """A body of at most `MOST_EVENT_BYTES`. Raises CloudUnavailable where it is longer or breaks off."""
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MOST_EVENT_BYTES:
                raise CloudUnavailable("The endpoint sent a piece that is far too long.")
    except httpx.HTTPError as error:
        raise _unreachable(error) from error
    return bytes(body)


def _status_error(status: int, said: bytes, settings: EndpointSettings) -> UpdraftError | Refusal:
    message = _said(said)
    why = f" It says: {message}" if message else ""
    if status in {401, 403}:
        return Unauthenticated(
            f"The endpoint refuses the key ({status}).{why}",
            remedy="Set edge.endpoint.api_key_env to the name of the variable that holds a valid key.",
        )
    if status == 404:
        return ModelNotFound(
            f"The endpoint has no model {settings.model!r}, or nothing at {settings.url}.{why}",
            remedy="Correct edge.endpoint.model and edge.endpoint.url; `updraft doctor` lists its models.",
        )
    if status == 429:
        return Overloaded(f"The endpoint takes no more requests for now.{why}")
    if status in {408, 504}:
        return LateReply(f"The endpoint gave up waiting ({status}).")
    if 400 <= status < 500:
        message = f"The endpoint refuses the request ({status}).{why}"
        return Refusal(InvalidRequest(message, remedy="Change the field that it names."))
    return CloudUnavailable(f"The endpoint failed with status {status}.{why}")


def _said(body: bytes) -> str:
    """The message in an error's body, cut short."""
    with contextlib.suppress(UpdraftError):
        data: Any = parse_json(body)
        error = data.get("error", data.get("message"))
        text = error.get("message") if isinstance(error, dict) else error
        return " ".join(str(text or "").split())[:200]
    return ""


def _seconds(text: str) -> float:
    """Retry-After in seconds; a date, which it may also be, counts as long."""
    try:
        return max(0.0, float(text)) if text else 0.0
    except ValueError:
        return _LONGEST_PAUSE_S + 1


def _unreachable(error: httpx.HTTPError) -> CloudUnavailable:
    # httpx's messages name hosts and never bodies.
    return CloudUnavailable(
        f"The endpoint cannot be reached, or broke off: {type(error).__name__}.",
        remedy="Check that it runs and that edge.endpoint.url is right.",
    )


def open_endpoint(settings: EdgeSettings, rules: Rules) -> EndpointLink | None:
    """The way to the endpoint that the settings name; None without one, or where nothing may leave.

    Raises as `EndpointLink` does.
    """
    if settings.local_only or settings.endpoint.url is None:
        return None
    return EndpointLink(settings.endpoint, rules)
