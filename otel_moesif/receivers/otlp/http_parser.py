"""Bytes to requests: llhttp, Node.js's parser, with bounds that it does not have by itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import httptools

from otel_moesif.receivers.otlp.http_request import Interrupted, Request

# Target and headers of a request; each header counts 32 bytes beside its text, as in HTTP/2 (RFC 9113 6.5.2).
MOST_HEAD_BYTES = 32 << 10
_HEADER_OVERHEAD = 32
_NO_UPGRADE = "a proposal to upgrade with a body in chunks is not understood"


class NotHttp(Exception):  # noqa: N818 - what the bytes are
    """The bytes are no request."""


class HeadTooLarge(Exception):  # noqa: N818 - what the request is
    """Target and headers are beyond their bound."""


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
        self._size = 0
        self._unparsed = 0
        self.in_head = False
        self.receiving: Request | None = None

    def feed(self, data: memoryview) -> None:
        """Parse what came; nothing of it is kept without being copied.

        Raises:
            NotHttp: From here on nothing can be made of it; neither after the next two.
            HeadTooLarge: See there.
            FarAhead: See there.
        """
        before = self.in_head
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, HeadTooLarge | FarAhead):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError:
            raise NotHttp from None
        if before and self.in_head:  # a header that does not end reaches no callback
            self._grow(len(data))

    def _feed(self, data: memoryview) -> None:
        while data:
            if self._unparsed:
                part, data = data[: self._unparsed], data[self._unparsed :]
                self._unparsed -= len(part)
                self.on_body(bytes(part))
                if not self._unparsed:
                    self._complete()
                continue
            try:
                self._llhttp.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            else:
                return

    def close(self) -> None:
        """Parse nothing any more, and be free now and not when the garbage collector finds the circle."""
        self._llhttp = None
        self._headers = {}

    def on_message_begin(self) -> None:
        if not self._owner.may_begin():
            raise FarAhead
        self.in_head, self._target, self._headers, self._size = True, b"", {}, 0

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._grow(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:  # else it is a trailer
            self._grow(len(name) + len(value) + _HEADER_OVERHEAD)
            self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        self.in_head = False
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
        if self.receiving:
            self.receiving.feed(part)

    def on_message_complete(self) -> None:
        # Nobody has to agree to an Upgrade (RFC 9110 section 7.8), which Java's client proposes with every
        # request. llhttp takes for granted that somebody does, and leaves the body to them.
        if self._llhttp.should_upgrade():
            if "transfer-encoding" in self._headers and self.receiving:
                self.receiving.interrupt(partial(Interrupted, 400, _NO_UPGRADE, "malformed HTTP"))
                return
            self._unparsed = int(self._headers.get("content-length", "0"))
        if not self._unparsed:
            self._complete()

    def _complete(self) -> None:
        request, self.receiving = self.receiving, None
        if request:
            request.end()
            self._owner.request_complete()

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
