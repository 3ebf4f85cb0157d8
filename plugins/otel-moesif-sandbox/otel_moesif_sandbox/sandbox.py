"""The sandbox as a whole: an extension of the collector, or a server for a test."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from starlette.applications import Starlette

from otel_moesif.endpoint import parse_endpoint
from otel_moesif_sandbox.api import Api
from otel_moesif_sandbox.behavior import Behavior
from otel_moesif_sandbox.controls import Controls
from otel_moesif_sandbox.listen import listen
from otel_moesif_sandbox.pages import Pages
from otel_moesif_sandbox.server import Server
from otel_moesif_sandbox.state import State

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
        max_events: Events kept in memory; beyond that the oldest leave. Of profiles and actions of
            each kind as many.
        applications: The only application ids that are accepted, others are answered with 401; None: any.
        reject_older_than: Seconds; a request with an event of an older ``request.time`` is answered with 400
            (Moesif rejects those of more than 30 days, apidocs ``_errors.md``). None: events of any age.
        ssl_context: Serve HTTPS with its certificate, and ask for client certificates if it does.
        logger: Told once where the sandbox listens; never of an event or an application id.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        max_events: int = DEFAULT_MAX_EVENTS,
        applications: Iterable[str] | None = None,
        reject_older_than: float | None = None,
        ssl_context: ssl.SSLContext | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._logger = logger or logging.getLogger(__name__)
        self._ssl = ssl_context
        self._state = State(max_events, applications, reject_older_than)
        self._server: Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen; returns when connections are taken.

        Raises:
            StartError: The port is in use, or the address is not this machine's.
        """
        sockets: list[socket.socket] = listen(self._endpoint, "moesif_sandbox")
        self.port = sockets[0].getsockname()[1]
        api = Api(self._state, self._abort, self._close)
        routes = [*api.routes(), *Pages(self._state).routes(), *Controls(self._state).routes()]
        self._server = Server(Starlette(routes=routes), self._ssl)
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
        return f"{'https' if self._ssl else 'http'}://{_reachable(host)}:{self.port}"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The kept events, in the order of their arrival, repeated ones repeatedly."""
        return self._state.store.parsed()

    def events_of(self, application_id: str) -> list[dict[str, Any]]:
        """The kept events of one application."""
        return self._state.store.parsed(application_id)

    @property
    def transaction_ids(self) -> list[str]:
        """Transaction ids of the kept events, in the order of their arrival, repeated ones repeatedly."""
        return self._state.store.transaction_ids()

    @property
    def users(self) -> dict[str, dict[str, Any]]:
        """User id → profile, of all applications."""
        return self._state.profiles["users"].by_id(None)

    def users_of(self, application_id: str) -> dict[str, dict[str, Any]]:
        """User id → profile, of one application."""
        return self._state.profiles["users"].by_id(application_id)

    @property
    def companies(self) -> dict[str, dict[str, Any]]:
        """Company id → profile, of all applications."""
        return self._state.profiles["companies"].by_id(None)

    def companies_of(self, application_id: str) -> dict[str, dict[str, Any]]:
        """Company id → profile, of one application."""
        return self._state.profiles["companies"].by_id(application_id)

    @property
    def subscriptions(self) -> dict[str, dict[str, Any]]:
        """Subscription id → subscription, of all applications."""
        return self._state.profiles["subscriptions"].by_id(None)

    @property
    def actions(self) -> list[dict[str, Any]]:
        """The kept actions, in the order of their arrival."""
        return self._state.actions.of(None)

    def actions_of(self, application_id: str) -> list[dict[str, Any]]:
        """The kept actions of one application."""
        return self._state.actions.of(application_id)

    @property
    def stats(self) -> dict[str, Any]:
        """The counts of ``GET /sandbox/stats``."""
        return self._state.stats()

    def behave(self, **options: Any) -> None:
        """Change how requests are answered from now on: the fields of `Behavior`; none for properly."""
        self.behave_in_turn([Behavior(**options)])

    def behave_in_turn(self, behaviors: Sequence[Behavior]) -> None:
        """Answer in several ways, one after another: each holds for its ``times``.

        Raises:
            ValueError: None at all, or one that others are to follow has no ``times``.
        """
        self._state.behaviors.set(behaviors)

    def set_config(self, changes: dict[str, Any], application_id: str | None = None) -> None:
        """Change what ``GET /v1/config`` answers: the defaults with these changes.

        Args:
            changes: Keys of the app config and their values.
            application_id: To whom; None: to every application without a config of its own.
        """
        self._state.configs.set(changes, application_id)

    def accept_only(self, applications: Iterable[str] | None) -> None:
        """Accept these application ids from now on and answer 401 to others; None accepts any."""
        self._state.applications.accept_only(applications)

    def clear(self) -> None:
        """Forget every event, profile, action and count."""
        self._state.clear()

    def _abort(self, client: Any) -> None:
        if self._server is not None:
            self._server.abort(client)

    def _close(self, client: Any) -> None:
        if self._server is not None:
            self._server.close(client)


def _reachable(host: str) -> str:
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - nothing is bound here: what to call when all were
        return "localhost"
    return f"[{host}]" if ":" in host else host
