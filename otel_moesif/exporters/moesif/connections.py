"""Connections that are given up once an answer on them was given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx


class Connections(httpx.AsyncBaseTransport):
    """A pool of connections that replaces itself where httpx would go on with a broken one.

    Over HTTP/1.1, httpx closes the connection of a request that was cancelled or not read to its end. Over
    HTTP/2 it keeps it, since others may use it: a connection that went silent (a router forgot it) would be
    used until the operating system ends it, some 15 minutes later (tcp(7), ``tcp_retries2``), and an answer
    that nobody reads would use up the window that all of them share. So the whole pool is replaced. Requests
    on the old one fail and are tried again.

    Args:
        make: Makes a pool; called again for each replacement.
        http2: Whether HTTP/2 may be agreed upon; after the first answer it is known whether it was.
    """

    def __init__(self, make: Callable[[], httpx.AsyncHTTPTransport], *, http2: bool) -> None:
        self._make = make
        self._pool = make()
        self._shared = http2

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        pool = self._pool
        try:
            response = await pool.handle_async_request(request)
        except (httpx.ReadTimeout, httpx.WriteTimeout, asyncio.CancelledError):
            await self._give_up(pool)
            raise
        self._shared = response.extensions.get("http_version") == b"HTTP/2"
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Body(response, lambda: self._give_up(pool)),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def _give_up(self, pool: httpx.AsyncHTTPTransport) -> None:
        if self._shared and pool is self._pool:
            self._pool = self._make()
            await pool.aclose()


class _Body(httpx.AsyncByteStream):
    """An answer's body that tells when it is closed before its end."""

    def __init__(self, response: httpx.Response, unfinished: Callable[[], Awaitable[None]]) -> None:
        self._response = response
        self._unfinished = unfinished
        self._finished = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_raw():
            yield chunk
        self._finished = True

    async def aclose(self) -> None:
        await self._response.aclose()
        if not self._finished:
            self._finished = True
            await self._unfinished()
