"""uvicorn inside an event loop that is not its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette

STOP_SECONDS = 1
"""How long a shutdown waits for answers that are on their way."""


class Server(uvicorn.Server):
    """Serves an application on sockets that are open already, and leaves the process's signals alone."""

    def __init__(self, app: Starlette) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        super().__init__(config)
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the collector's business."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()

    async def begin(self, sockets: list[socket.socket]) -> None:
        """Serve; returns when connections are taken."""
        self._task = asyncio.create_task(self.serve(sockets), name="moesif_sandbox")
        listening = asyncio.create_task(self._listening.wait())
        try:
            await asyncio.wait({self._task, listening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
        if self._task.done():
            self._task.result()

    async def end(self) -> None:
        """Stop serving; bounded, whatever the clients do."""
        if self._task is None:
            return
        self.should_exit = True
        done, _ = await asyncio.wait({self._task}, timeout=3 * STOP_SECONDS)
        if not done:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=STOP_SECONDS)
        self._task = None

    def abort(self, client: Any) -> None:
        """Close a client's connection at once, without an answer."""
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None and getattr(connection, "client", None) == client:
                transport.abort()
