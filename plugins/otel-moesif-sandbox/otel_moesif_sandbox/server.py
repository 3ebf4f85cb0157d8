"""uvicorn inside an event loop that is not its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette

STOP_SECONDS = 1
"""How long a shutdown waits for answers that are on their way."""


class Server(uvicorn.Server):
    """Serves an application on sockets that are open already, and leaves the process's signals alone.

    Args:
        app: What to serve.
        ssl_context: Speaks TLS with the clients; None: plain HTTP.
    """

    def __init__(self, app: Starlette, ssl_context: ssl.SSLContext | None = None) -> None:
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
        config.load()
        config.ssl = ssl_context  # uvicorn would make its own one, from files
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
        for transport in self._transports(client):
            transport.abort()

    def close(self, client: Any) -> None:
        """Close a client's connection when all that was sent is on its way."""
        for transport in self._transports(client):
            transport.close()

    def _transports(self, client: Any) -> list[asyncio.Transport]:
        here = [one for one in self.server_state.connections if getattr(one, "client", None) == client]
        return [one.transport for one in here if getattr(one, "transport", None) is not None]
