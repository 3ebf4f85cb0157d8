"""A request while it comes in: its headers are complete, its body may not be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from otel_moesif.receivers.otlp.http_answer import Answer

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Interrupted(Exception):  # noqa: N818 - what happened to a body
    """A body does not come to its end.

    Attributes:
        status: What to tell the client.
        reason: For the counter: one of few fixed texts.
    """

    def __init__(self, status: int, message: str, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Disconnected(Exception):  # noqa: N818 - what happened
    """The client is gone, there is nobody to answer."""


class Request:
    """What a handler gets.

    Args:
        method: As it was sent.
        path: Without the query.
        headers: Names in lower case; of several values of one name the first.
        peer: ``192.0.2.1:50000``.
        keep_alive: Whether the client wants to use the connection further.
        taken: Called when buffered parts of the body were taken.
        write: Sends bytes to the client: ``100 Continue``.
    """

    def __init__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        peer: str,
        *,
        keep_alive: bool = False,
        taken: Callable[[], None] = lambda: None,
        write: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.peer = peer
        self.keep_alive = keep_alive
        self.complete = False
        self.buffered = 0
        self.refusal: Answer | None = None
        self._taken = taken
        self._write = write
        self._invited = headers.get("expect", "").lower() != "100-continue"
        self._parts: list[bytes] = []
        self._interrupted: Callable[[], Exception] | None = None
        self._waiter: asyncio.Future[None] | None = None

    @classmethod
    def refused(cls, answer: Answer) -> Request:
        """Stands, behind the requests before it, for one that was no request; ends the connection."""
        request = cls("", "", {}, "")
        request.refusal = answer
        return request

    async def read(self) -> bytes:
        """What came of the body since; empty at its end.

        Raises:
            Interrupted: The end will not come.
            Disconnected: Nor will anything else.
        """
        if not self._parts and not self.complete and not self._interrupted:
            if not self._invited:
                self._invited = True
                self._write(_CONTINUE)
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._interrupted:
            raise self._interrupted()
        parts, self._parts, self.buffered = self._parts, [], 0
        self._taken()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def feed(self, part: bytes) -> None:
        """A part of the body came."""
        self._parts.append(part)
        self.buffered += len(part)
        self._wake()

    def end(self) -> None:
        """The body is complete."""
        self.complete = True
        self._wake()

    def interrupt(self, error: Callable[[], Exception]) -> None:
        """The body will not be completed; the first reason counts.

        Args:
            error: Makes what readers are told. One that was made before would keep, once raised, whatever was
                read so far, until the garbage collector comes by.
        """
        if not self.complete and not self._interrupted:
            self._interrupted = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
