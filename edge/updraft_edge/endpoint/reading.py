"""An endpoint's response as it arrives: bounded, counted, and waited for with patience."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import httpx

from updraft.errors import CloudUnavailable, LateReply
from updraft.generation import Statistics
from updraft_edge.endpoint.link import EndpointLink
from updraft_edge.endpoint.stream import MOST_EVENT_BYTES, Piece, event_data, parse_json, read_piece
from updraft_edge.rules.guard import Guard

__all__ = ["Reading"]

_USAGE_PATIENCE_S = 2.0  # the usage comes after the answer's end, if at all


class Reading:
    """Reads one response.

    Args:
        statistics: counts what arrived, and time spent waiting.
        guard: the answer's, which knows what may arrive.
    """

    def __init__(self, response: httpx.Response, link: EndpointLink, statistics: Statistics, guard: Guard) -> None:
        self._response = response
        self._link = link
        self._statistics = statistics
        self._guard = guard

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """What it says, to its end; after the reason of the answer's end only what comes soon.

        Raises:
            LateReply: nothing came for as long as the settings wait.
            CloudUnavailable: it broke off, or is not what an endpoint sends.
        """
        patience, finished = self._link.settings.reply_timeout_s, False
        async with aclosing(self._payloads()) as payloads:
            while True:
                waiting = time.perf_counter()
                try:
                    async with asyncio.timeout(_USAGE_PATIENCE_S if finished else patience):
                        piece = read_piece(parse_json(await anext(payloads)))
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    if finished:
                        return
                    self._link.breaker.failure()
                    raise LateReply(f"The endpoint sent nothing for {patience:g} s.") from error
                except (CloudUnavailable, LateReply):
                    if finished:
                        return
                    self._link.breaker.failure()
                    raise
                finally:
                    self._statistics.waited_seconds += time.perf_counter() - waiting
                finished = finished or piece.finish is not None
                yield piece

    async def _payloads(self) -> AsyncGenerator[str | bytes, None]:
        """The JSON texts: one for each event, or the body where the endpoint does not stream."""
        if "event-stream" in self._response.headers.get("content-type", ""):
            async for text in event_data(self._chunks()):
                yield text
            return
        body = bytearray()
        async for chunk in self._chunks():
            body += chunk
            if len(body) > MOST_EVENT_BYTES:
                raise CloudUnavailable("The endpoint sent a piece that is far too long.")
        yield bytes(body)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in self._response.aiter_raw():
                self._statistics.bytes_down += len(chunk)
                self._guard.received(size=len(chunk))
                yield chunk
        except httpx.TimeoutException as error:
            raise LateReply("The endpoint fell silent in the midst of the answer.") from error
        except httpx.HTTPError as error:
            raise CloudUnavailable(f"The endpoint broke off: {type(error).__name__}.") from error
