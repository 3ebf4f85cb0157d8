"""The sandbox as a whole: an extension of the collector, or a server for a test."""

from __future__ import annotations

import logging
import socket
from types import TracebackType
from typing import Any, Self

from starlette.applications import Starlette

from otel_moesif.endpoint import parse_endpoint
from otel_moesif_sandbox.api import Api
from otel_moesif_sandbox.controls import Behavior, Controls
from otel_moesif_sandbox.listen import listen
from otel_moesif_sandbox.server import Server
from otel_moesif_sandbox.store import Store

DEFAULT_ENDPOINT = "localhost:9500"  # where Moesif's own secure proxy listens (apidocs _overview.md)
DEFAULT_MAX_EVENTS = 100_000


class Sandbox:
    """A local stand-in for Moesif's collector API.

    For a test, in its own event loop::

        async with Sandbox("127.0.0.1:0") as sandbox:
            ...  # post events to f"{sandbox.url}/v1/events/batch"
            assert len(sandbox.events) == 3

    Args:
        endpoint: ``host:port`` to listen on; port 0 takes any free one.
        max_events: Events kept in memory; beyond that the oldest leave.
        logger: Told once where the sandbox listens; never of an event or an application id.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        max_events: int = DEFAULT_MAX_EVENTS,
        logger: logging.Logger | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._logger = logger or logging.getLogger(__name__)
        self._store = Store(max_events)
        self._controls = Controls(self._store)
        self._server: Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen; returns when connections are taken.

        Raises:
            StartError: The port is in use, or the address is not this machine's.
        """
        sockets: list[socket.socket] = listen(self._endpoint, "moesif_sandbox")
        self.port = sockets[0].getsockname()[1]
        api = Api(self._store, self._controls, self._abort)
        self._server = Server(Starlette(routes=[*api.routes(), *self._controls.routes()]))
        try:
            await self._server.begin(sockets)
        except BaseException:
            for opened in sockets:
                opened.close()
            raise
        self._logger.info("Moesif sandbox listens on %s", self.url)

    async def shutdown(self) -> None:
        """Stop listening; safe unstarted and twice. What was received can still be read."""
        server, self._server = self._server, None
        if server is not None:
            await server.end()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    @property
    def url(self) -> str:
        """Base URL, as an exporter wants it."""
        host, _ = parse_endpoint(self._endpoint)
        return f"http://{_reachable(host)}:{self.port}"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The kept events, in the order of their arrival, repeated ones repeatedly."""
        return self._store.parsed()

    @property
    def transaction_ids(self) -> list[str]:
        """Transaction ids of the kept events, in the order of their arrival, repeated ones repeatedly."""
        return self._store.transaction_ids()

    @property
    def stats(self) -> dict[str, Any]:
        """The counts of ``GET /sandbox/stats``."""
        return self._store.stats()

    def behave(self, **options: Any) -> None:
        """Change how event requests are answered from now on: the fields of `Behavior`; none for properly."""
        self._controls.behave(Behavior(**options))

    def set_config(self, changes: dict[str, Any]) -> None:
        """Change what ``GET /v1/config`` answers: the defaults with these changes."""
        self._controls.set_config(changes)

    def clear(self) -> None:
        """Forget every event and count."""
        self._store.clear()

    def _abort(self, client: Any) -> None:
        if self._server is not None:
            self._server.abort(client)


def _reachable(host: str) -> str:
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - nothing is bound here: what to call when all were
        return "localhost"
    return f"[{host}]" if ":" in host else host
