"""Answers that go wrong on their way: cut, slow, or of a size that nobody expects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from otel_moesif_sandbox.behavior import Behavior

PIECE = 65_536
# Bytes of a body that has none of its own, and pieces of one that trickles.
FILLER, TRICKLE = 64, 64


def answer(
    status: int,
    content: bytes,
    headers: Mapping[str, str],
    behavior: Behavior,
    close: Callable[[Any], None],
) -> Response:
    """Make an answer, in the way that was asked for.

    Args:
        status: HTTP status.
        content: JSON, or empty.
        headers: Besides those of the body.
        behavior: Its ``truncate``, ``slow_body`` and ``garbage`` count here.
        close: Closes the connection of a client address when all that was sent is on its way.
    """
    if status in {204, 304}:  # have no body that could go wrong
        return Response(status_code=status, headers=headers)
    if behavior.truncate or behavior.slow_body or behavior.garbage:
        return _Awry(status, content, headers, behavior, close)
    return Response(content, status, headers=headers, media_type="application/json" if content else None)


class _Awry(Response):
    """An answer whose head is right and whose body is not."""

    def __init__(
        self,
        status: int,
        content: bytes,
        headers: Mapping[str, str],
        behavior: Behavior,
        close: Callable[[Any], None],
    ) -> None:
        self._size = behavior.garbage or len(content) or FILLER
        self._content = b"" if behavior.garbage else content
        self._behavior = behavior
        self._close = close
        super().__init__(
            None,
            status,
            headers={**headers, "Content-Length": str(self._size)},
            media_type="application/json" if self._content else None,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        slow, cut = self._behavior.slow_body, self._behavior.truncate
        end = self._size // 2 if cut else self._size
        step = max(1, end // TRICKLE) if slow else PIECE
        for first in range(0, end, step):
            last = min(first + step, end)
            piece = self._content[first:last].ljust(last - first, b"x")
            await send({"type": "http.response.body", "body": piece, "more_body": last < self._size})
            if slow:
                await asyncio.sleep(slow * step / end)
        if cut:
            self._close(scope["client"])
            while (await receive())["type"] != "http.disconnect":
                pass
