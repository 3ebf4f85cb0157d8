"""One HTTP/1.1 connection: requests are answered one after the other, and whatever a client does has an end.

uvicorn, which has the same parser, bounds neither the time for headers and bodies nor their size, nor how
many requests are sent ahead; nor can it give up a connection for another one.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from otel_moesif.endpoint import format_endpoint
from otel_moesif.receivers.otlp.http_answer import failure, on_the_wire
from otel_moesif.receivers.otlp.http_parser import (
    MOST_HEAD_BYTES,
    FarAhead,
    HeadTooLarge,
    NotHttp,
    RequestParser,
)
from otel_moesif.receivers.otlp.http_request import Disconnected, Interrupted, Request

if TYPE_CHECKING:
    from otel_moesif.receivers.otlp.http_connections import Connections

# Requests that may be sent ahead of their answers. RFC 9112 section 9.3.2: whoever does so has to be ready
# for a connection that ends earlier.
_MOST_AHEAD = 32
# Of a body that nobody takes; more than that waits in the kernel, and in the client.
_HIGH_WATER = 64 << 10
# An answer that comes before the request's end is lost if the connection is closed at once (RFC 9112 section
# 9.6). So for so long, and so many bytes, what comes is thrown away instead.
_LINGER_SECONDS = 5.0
_LINGER_BYTES = 64 << 20
_NO_GRPC = "not valid HTTP/1.1 (clients of OTLP/gRPC have a port of their own)"


class Connection(asyncio.BufferedProtocol):
    """Has requests answered, and knows until when what has to come.

    All connections read into one buffer, since what came is parsed at once: `asyncio.Protocol` would allocate
    256 KiB for every read, which thousands of slow clients turn into a heap full of holes.

    Args:
        connections: All of them, and what they have in common.
    """

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._times = connections.times
        self._loop = connections.loop
        self._transport: asyncio.Transport | None = None
        self._tls = False
        self._since = self._loop.time()
        self._requests: deque[Request] = deque()
        self._last = False  # nothing further is read from this client
        self._ended = False  # nor will it send anything
        self._linger_bytes = 0
        self._held = False
        self._drained: asyncio.Future[None] | None = None
        self._serving: asyncio.Task[None] | None = None
        self._read_by = math.inf
        self._written_by = math.inf
        self.known = False  # something that it sent was taken
        self.opening: asyncio.Task[None] | None = None  # set while TLS is being agreed on

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        name = format_endpoint(peer[0], peer[1]) if isinstance(peer, tuple) else ""
        self._tls = transport.get_extra_info("ssl_object") is not None
        self._parser = RequestParser(self, name, self._hold_or_go_on, self._transport.write)
        self._await_client(self._times.headers)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - it is over, whyever
        self._all.gone(self)
        self._last = True
        self._transport = None
        self._interrupt(Disconnected)
        self._parser.close()
        self.resume_writing()

    def eof_received(self) -> bool:
        self._last = self._ended = True
        self._interrupt(partial(Interrupted, 400, "the body ends too early", "malformed HTTP"))
        # True: answers can still be sent. TLS has no such thing.
        return bool(self._requests) and not self._tls

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()
        self._written_by = self._loop.time() + self._times.write

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        self._written_by = math.inf
        if drained and not drained.done():
            drained.set_result(None)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - there is but one
        return self._all.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._linger_bytes:
            self._linger_bytes -= nbytes
            if self._linger_bytes <= 0:
                self.abort()
        elif not self._last:
            try:
                self._parser.feed(self._all.buffer[:nbytes])
            except FarAhead:
                self._last = True
            except HeadTooLarge:
                self._refuse_headers()
            except NotHttp:
                if self._parser.receiving:
                    self._interrupt(partial(Interrupted, 400, "not valid HTTP/1.1", "malformed HTTP"))
                else:
                    self._refuse(400, _NO_GRPC, "malformed HTTP")
            self._hold_or_go_on()

    # What the parser calls.

    def may_begin(self) -> bool:
        self._read_by = self._loop.time() + self._times.headers
        return len(self._requests) <= _MOST_AHEAD

    def head_complete(self, request: Request) -> None:
        self._append(request)
        if request is self._requests[0]:
            self._await_client(self._times.body)
        else:
            self._read_by = math.inf  # it waits for us

    def request_complete(self) -> None:
        self._read_by = math.inf
        self._all.works(self)

    # What `Connections` calls.

    @property
    def deadline(self) -> float:
        """When the client has taken too long."""
        return min(self._read_by, self._written_by)

    def expire(self) -> None:
        """The deadline has passed."""
        if self._written_by <= self._read_by:
            self._all.deny("answer not taken")
            self.abort()
        elif self._linger_bytes:
            self.abort()
        elif self._parser.receiving:
            message = f"the body did not come within {self._times.body:g} s"
            self._interrupt(partial(Interrupted, 408, message, "slow body"))
        elif self._parser.in_head:
            message = f"the headers did not come within {self._times.headers:g} s"
            self._refuse(408, message, "slow headers")
        else:
            self.close()

    def finish(self) -> None:
        """Take nothing further; what came is still answered."""
        if not self._requests:
            self.close()

    def close(self) -> None:
        """End it; what was written is still sent, if the client takes it in time."""
        self._last, self._read_by = True, math.inf
        if self._transport:
            self._written_by = self._loop.time() + self._times.write
            self._transport.close()
        elif self.opening:
            self.opening.cancel()

    def abort(self) -> None:
        """End it at once."""
        self._all.gone(self)
        if self._transport:
            self._transport.abort()
        elif self.opening:
            self.opening.cancel()

    # Own steps.

    def _refuse(self, status: int, message: str, reason: str) -> None:
        """Answer what is no request, after the requests before it."""
        self._last, self._read_by = True, math.inf
        self._all.deny(reason)
        self._append(Request.refused(failure(status, message, None)))

    def _refuse_headers(self) -> None:
        kib, reason = MOST_HEAD_BYTES >> 10, "too large headers"
        if self._parser.receiving:
            message = f"the trailers, or the extensions of a chunk, are larger than {kib} KiB"
            self._interrupt(partial(Interrupted, 431, message, reason))
        else:
            self._refuse(431, f"the headers are larger than {kib} KiB", reason)

    def _interrupt(self, error: Callable[[], Exception]) -> None:
        """There will be no more of the body that is coming, and nothing after it."""
        if request := self._parser.receiving:
            self._last, self._read_by = True, math.inf
            request.interrupt(error)

    def _append(self, request: Request) -> None:
        self._requests.append(request)
        if self._serving is None:
            self._serving = self._loop.create_task(self._serve())
            self._all.serve(self._serving)

    async def _serve(self) -> None:
        """Answer until nothing waits any more."""
        try:
            while self._requests and self._transport:
                request = self._requests[0]
                if request is self._parser.receiving and not self._last:
                    self._await_client(self._times.body)
                try:
                    answer = request.refusal or await self._all.answer(request)
                except Disconnected:
                    return
                self.known |= answer.status == 200
                ends = self._is_end(request)
                if self._transport:
                    self._transport.write(on_the_wire(answer, request.method, ends=ends))
                while self._drained:
                    await self._drained
                if ends:
                    self._leave(request)
                    return
                self._requests.popleft()
                self._hold_or_go_on()
        finally:
            self._serving = None
        if self._transport:
            self._await_client(self._times.headers if self._parser.in_head else self._times.idle)

    def _is_end(self, request: Request) -> bool:
        return (
            not request.keep_alive
            or not request.complete
            or (self._last and len(self._requests) == 1)
            or self._all.stopping
            or self._loop.time() - self._since > self._times.age
        )

    def _leave(self, request: Request) -> None:
        """Close, but so that the answer arrives."""
        self._requests.clear()
        self._parser.receiving = None
        self._last = True
        if not self._transport or request.complete or self._ended:
            self.close()
            return
        self._linger_bytes = _LINGER_BYTES
        self._await_client(_LINGER_SECONDS)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._hold_or_go_on()

    def _await_client(self, seconds: float) -> None:
        self._read_by = self._loop.time() + seconds
        self._all.waits(self)

    def _hold_or_go_on(self) -> None:
        """Read only what can be used, so that clients wait and not our memory fills."""
        if not self._transport or self._transport.is_closing():
            return
        receiving = self._parser.receiving
        enough = len(self._requests) > 1 or self._last
        hold = enough or (receiving is not None and receiving.buffered > _HIGH_WATER)
        hold = hold and not self._linger_bytes
        if hold and not self._held:
            self._transport.pause_reading()
        elif not hold and self._held:
            self._transport.resume_reading()
        self._held = hold
