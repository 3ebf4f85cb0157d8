"""OTLP over HTTP: the listening sockets, and who is let through them."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from otel_moesif.component import Context, Intake
from otel_moesif.endpoint import format_endpoint, parse_endpoint
from otel_moesif.errors import StartError
from otel_moesif.receivers.otlp.access import Access
from otel_moesif.receivers.otlp.http_connection import Connection
from otel_moesif.receivers.otlp.http_connections import Connections
from otel_moesif.receivers.otlp.http_export import Exports
from otel_moesif.receivers.otlp.http_settings import HttpSettings

# What a stop leaves to requests that are just being answered.
_GRACE_SECONDS = 5.0
# Connections that the kernel completes before we take them.
_BACKLOG = 1024
# The process, or the machine, has nothing left for one more connection.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_EXHAUSTED_PAUSE = 0.1
# The machine does not have this family of addresses: another one of the same name does.
_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class HttpServer:
    """Listens for OTLP/HTTP.

    Args:
        settings: Validated options.
        access: Judges who may send.
        context: The receiver's identity and logger.
    """

    def __init__(self, settings: HttpSettings, access: Access, context: Context) -> None:
        self._settings = settings
        self._access = access
        self._context = context
        self._listening: list[asyncio.Task[None]] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._connections: Connections | None = None
        self._transcoder: ThreadPoolExecutor | None = None
        self.port = 0

    async def start(self, intake: Intake) -> None:
        """Listen.

        Raises:
            StartError: The port is in use, or a certificate is unusable.
        """
        context = self._access.ssl_context()
        self._sockets = await self._listen()
        self.port = self._sockets[0].getsockname()[1]
        self._transcoder = ThreadPoolExecutor(1, "otlp-json")
        exports = Exports(self._settings, self._access, self._context, intake, self._transcoder)
        self._connections = Connections(self._settings, exports.answer, self._access.deny)
        self._listening = [
            asyncio.create_task(self._accept(listener, self._connections, context))
            for listener in self._sockets
        ]
        what = "OTLP/HTTP with TLS" if context else "OTLP/HTTP"
        host, _ = parse_endpoint(self._settings.endpoint)
        self._context.logger.info("listening for %s on %s", what, format_endpoint(host, self.port))

    async def shutdown(self) -> None:
        """Answer what came in, and take nothing any more; safe unstarted and twice."""
        listening, self._listening = self._listening, []
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        for listener in self._sockets:
            listener.close()
        self._sockets = []
        connections, self._connections = self._connections, None
        if connections:
            await connections.shutdown(_GRACE_SECONDS)
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        transcoder, self._transcoder = self._transcoder, None
        if transcoder:
            transcoder.shutdown(wait=False, cancel_futures=True)

    async def _listen(self) -> list[socket.socket]:
        """A socket for each address that the host's name has, all with the same port."""
        host, port = parse_endpoint(self._settings.endpoint)
        sockets: list[socket.socket] = []
        absent: OSError | None = None
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, address in sorted({(one[0], one[4]) for one in found}):  # IPv4 first
                try:
                    sockets.append(_bind(family, (address[0], port, *address[2:])))
                except OSError as error:
                    if error.errno not in _ABSENT:
                        raise
                    absent = error
                else:
                    port = port or sockets[0].getsockname()[1]
            if absent and not sockets:
                raise absent
        except UnicodeError:  # a label of no or too many characters
            raise self._cannot_listen("Name or service not known;") from None
        except OSError as error:
            for one in sockets:
                one.close()
            why = "is the port in use?" if error.errno == errno.EADDRINUSE else f"{error.strerror};"
            raise self._cannot_listen(why) from None
        return sockets

    def _cannot_listen(self, why: str) -> StartError:
        option = f"receivers::{self._context.id}::protocols::http::endpoint"
        return StartError(
            f"{self._context.id}: cannot listen on {self._settings.endpoint} ({why} set {option})"
        )

    async def _accept(
        self, listener: socket.socket, connections: Connections, context: ssl.SSLContext | None
    ) -> None:
        """Take connections for ever.

        Not `asyncio.Server`: that would agree on TLS with any number of clients before we hear of one.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _EXHAUSTED and not connections.make_room():
                    await asyncio.sleep(_EXHAUSTED_PAUSE)
                continue
            connection = connections.new()
            if connection is None:
                client.close()
                continue
            seconds = self._settings.read_header_timeout.total_seconds() if context else None
            task = connection.opening = loop.create_task(
                _open(connection, client, context, seconds), name="otlp-http-open"
            )
            self._opening.add(task)
            task.add_done_callback(partial(self._opened, connection, client))

    def _opened(self, connection: Connection, client: socket.socket, task: asyncio.Task[None]) -> None:
        """The end of `_open`, of which a task that is cancelled early may not have run a line."""
        self._opening.discard(task)
        connection.opening = None
        if task.cancelled() or task.exception():
            if not task.cancelled():
                self._access.deny("no TLS, or none that is allowed here")
            connection.abort()
            client.close()


async def _open(
    connection: Connection, client: socket.socket, context: ssl.SSLContext | None, seconds: float | None
) -> None:
    """Agree on TLS, if it is spoken here.

    Raises:
        OSError: There is no agreement.
    """
    await asyncio.get_running_loop().connect_accepted_socket(
        lambda: connection,
        client,
        ssl=context,
        ssl_handshake_timeout=seconds,
        ssl_shutdown_timeout=seconds,
    )


def _bind(family: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)  # noqa: FBT003 - it has no keyword
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # else it would take IPv4's port as well
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
