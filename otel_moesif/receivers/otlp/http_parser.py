"""Bytes to requests: llhttp, Node.js's parser, with bounds that it does not have by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import httptools

from otel_moesif.receivers.otlp.http_request import Request

# Target and headers of a request; each header counts 32 bytes beside its text, as in HTTP/2 (RFC 9113 6.5.2).
# As much, again, may stand between two parts of a body: lengths of chunks and their extensions, trailers.
MOST_HEAD_BYTES = 32 << 10
_HEADER_OVERHEAD = 32
# Where a body ends (RFC 9112 section 6).
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class NotHttp(Exception):  # noqa: N818 - what the bytes are
    """The bytes are no request."""


class HeadTooLarge(Exception):  # noqa: N818 - what the request is
    """Target and headers are beyond their bound, or what surrounds a body's parts."""


class FarAhead(Exception):  # noqa: N818 - what the client is
    """The client has sent more requests than may wait."""


class Owner(Protocol):
    """Whom the parser tells what it found."""

    def may_begin(self) -> bool:
        """Another request begins: is it wanted?"""

    def head_complete(self, request: Request) -> None:
        """Its headers are there; the body follows."""

    def request_complete(self) -> None:
        """And so is its body."""


class RequestParser:
    """Makes requests out of what one client sends.

    Args:
        owner: Told what was found.
        peer: Who the client is.
        taken: See `Request`.
        write: Sends bytes to the client.
    """

    def __init__(
        self, owner: Owner, peer: str, taken: Callable[[], None], write: Callable[[bytes], None]
    ) -> None:
        self._owner = owner
        self._peer = peer
        self._taken = taken
        self._write = write
        self._llhttp: Any = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        self._framing = b""
        self._repeating = False  # a head that was parsed before
        self._size = 0
        self._advanced = False  # what was fed last was not only headers or what surrounds a body
        self.in_head = False
        self.receiving: Request | None = None

    def feed(self, data: memoryview) -> None:
        """Parse what came; nothing of it is kept without being copied.

        Raises:
            NotHttp: From here on nothing can be made of it; neither after the next two.
            HeadTooLarge: See there.
            FarAhead: See there.
        """
        self._advanced = False
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, HeadTooLarge | FarAhead):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError:
            raise NotHttp from None
        # A header, a trailer or an extension that does not end reaches no callback.
        if not self._advanced and (self.in_head or self.receiving):
            self._grow(len(data))

    def _feed(self, data: memoryview) -> None:
        while data:
            try:
                self._llhttp.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._pass_over()
            else:
                return

    def _pass_over(self) -> None:
        """Go on behind a head that proposes an upgrade, as if it did not.

        Nobody has to agree to an upgrade (RFC 9110 section 7.8), which Java's client and curl propose with
        every request. llhttp takes for granted that somebody does, and leaves the body to them; so another
        one is told no more of the head than where the body ends.
        """
        self._llhttp = httptools.HttpRequestParser(self)
        self._repeating = True
        self._llhttp.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % self._framing)

    def close(self) -> None:
        """Parse nothing any more, and be free now and not when the garbage collector finds the circle."""
        self._llhttp = None
        self._headers = {}

    def on_message_begin(self) -> None:
        if self._repeating:
            return
        if not self._owner.may_begin():
            raise FarAhead
        self.in_head, self._target, self._headers, self._framing = True, b"", {}, b""
        self._advance()

    def on_url(self, part: bytes) -> None:
        if not self._repeating:
            self._target += part
            self._grow(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._repeating:
            return
        self._grow(len(name) + len(value) + _HEADER_OVERHEAD)
        if self.in_head:  # else it is a trailer
            name = name.lower()
            self._headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
            if name in _FRAMING:
                self._framing += b"%s: %s\r\n" % (name, value)

    def on_headers_complete(self) -> None:
        if self._repeating:
            self._repeating = False
            return
        self.in_head = False
        self._advance()
        method = self._llhttp.get_method().decode("latin-1")
        self.receiving = Request(
            method,
            _path(self._target),
            self._headers,
            self._peer,
            keep_alive=self._llhttp.should_keep_alive() and method != "CONNECT",
            taken=self._taken,
            write=self._write,
        )
        self._owner.head_complete(self.receiving)

    def on_body(self, part: bytes) -> None:
        self._advance()
        if self.receiving:
            self.receiving.feed(part)

    def on_message_complete(self) -> None:
        if self._llhttp.should_upgrade():
            return  # that was but the head, see `_pass_over`
        request, self.receiving = self.receiving, None
        if request:
            request.end()
            self._owner.request_complete()

    def _advance(self) -> None:
        self._advanced, self._size = True, 0

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MOST_HEAD_BYTES:
            raise HeadTooLarge


def _path(target: bytes) -> str:
    """The path of a target, which may be a whole address (RFC 9112 section 3.2.2)."""
    if not target.startswith(b"/"):
        try:
            target = httptools.parse_url(target).path or b""
        except httptools.HttpParserInvalidURLError:
            return ""
    return target.partition(b"?")[0].decode("latin-1")
