"""Connections that serve one request at a time, and are closed when it does not end well."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx


@dataclass(frozen=True)
class _Idle:
    """A connection that serves nobody.

    Attributes:
        connection: A pool of one.
        stream: The network stream of its last answer, if it is known.
        until: When it is to be closed, seconds of the monotonic clock.
    """

    connection: httpx.AsyncBaseTransport
    stream: Any
    until: float

    @property
    def is_usable(self) -> bool:
        """Whether it is young, and the server said nothing since: what it says unasked is mostly goodbye."""
        is_readable = self.stream is not None and self.stream.get_extra_info("is_readable")
        return not is_readable and time.monotonic() < self.until


class Connections(httpx.AsyncBaseTransport):
    """Connections of which each serves one request at a time, over HTTP/2 too.

    Requests that share an HTTP/2 connection wait for each other: in httpcore (``_async/http2.py``,
    ``_receive_events``) they queue for one lock to read, so that an answer which is there already may wait
    for the data of one that hangs. And when one of them is given up, nobody knows whether the connection is
    still good: one that went silent (a router forgot it) would be used until the operating system ends it,
    some 15 minutes later (tcp(7), ``tcp_retries2``), and an answer that nobody reads would use up the window
    that all of them share. Alone on its connection a request holds up no other; if it is given up, or its
    answer not read to the end, its connection is closed, and no other breaks.

    Args:
        make: Makes a pool of one connection.
        share: Of a request: whose share of the connections it takes from, and how many these are. There are
            as many shares as ``share`` tells apart.
        idle: After so many seconds without use a connection is closed.
    """

    def __init__(
        self,
        make: Callable[[], httpx.AsyncBaseTransport],
        share: Callable[[httpx.Request], tuple[Hashable, int]],
        idle: float,
    ) -> None:
        self._make = make
        self._share = share
        self._seconds = idle
        self._rooms: dict[Hashable, asyncio.Semaphore] = {}
        self._idle: deque[_Idle] = deque()
        """The longest unused first."""
        self._busy: set[httpx.AsyncBaseTransport] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        room = self._room(request)
        await room.acquire()
        try:
            connection = await self._take()
        except BaseException:
            room.release()
            raise
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            await self._close(connection, room)
            raise
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Body(
                response,
                read=lambda: self._keep(connection, room, response.extensions.get("network_stream")),
                unread=partial(self._close, connection, room),
            ),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        connections = [*self._busy, *(idle.connection for idle in self._idle)]
        self._idle.clear()
        self._busy.clear()
        await asyncio.gather(*(connection.aclose() for connection in connections))

    def _room(self, request: httpx.Request) -> asyncio.Semaphore:
        whose, most = self._share(request)
        return self._rooms.setdefault(whose, asyncio.Semaphore(most))

    async def _take(self) -> httpx.AsyncBaseTransport:
        """The connection that was used last, else a new one; what cannot be used any more is closed."""
        now = time.monotonic()
        while self._idle and self._idle[0].until <= now:
            await self._idle.popleft().connection.aclose()
        while self._idle:
            latest = self._idle.pop()
            if latest.is_usable:
                connection = latest.connection
                break
            await latest.connection.aclose()
        else:
            connection = self._make()
        self._busy.add(connection)
        return connection

    def _keep(self, connection: httpx.AsyncBaseTransport, room: asyncio.Semaphore, stream: object) -> None:
        room.release()
        if connection in self._busy:  # else all are closed
            self._busy.remove(connection)
            self._idle.append(_Idle(connection, stream, time.monotonic() + self._seconds))

    async def _close(self, connection: httpx.AsyncBaseTransport, room: asyncio.Semaphore) -> None:
        self._busy.discard(connection)
        try:
            await connection.aclose()
        finally:
            room.release()


class _Body(httpx.AsyncByteStream):
    """An answer's body that tells, once, whether it was read to its end when it is closed.

    Args:
        response: Whose body it is.
        read: Called if it was.
        unread: Called if it was not.
    """

    def __init__(
        self, response: httpx.Response, read: Callable[[], None], unread: Callable[[], Awaitable[None]]
    ) -> None:
        self._response = response
        self._read = read
        self._unread = unread
        self._is_read = self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_raw():
            yield chunk
        self._is_read = True

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._response.aclose()
        except BaseException:
            await self._unread()
            raise
        if self._is_read:
            self._read()
        else:
            await self._unread()
