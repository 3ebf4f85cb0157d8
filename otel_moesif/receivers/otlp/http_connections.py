"""All HTTP connections of a server: how many, for how long, and who has to leave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from otel_moesif.receivers.otlp.http_answer import Answer
from otel_moesif.receivers.otlp.http_connection import Connection
from otel_moesif.receivers.otlp.http_request import Request
from otel_moesif.receivers.otlp.http_settings import HttpSettings

Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]
# What is taken from the kernel at once.
_READ_BYTES = 256 << 10
# Deadlines are looked at so often: one timer for all connections, not several for each.
_LONGEST_TICK = 1.0


@dataclass(frozen=True)
class Times:
    """How long a client may take, in seconds; see `HttpSettings`."""

    headers: float
    body: float
    write: float
    idle: float
    age: float

    @classmethod
    def of(cls, settings: HttpSettings) -> Times:
        """As configured."""
        return cls(
            settings.read_header_timeout.total_seconds(),
            settings.read_timeout.total_seconds(),
            settings.write_timeout.total_seconds(),
            settings.idle_timeout.total_seconds(),
            settings.max_connection_age.total_seconds(),
        )


class Connections:
    """What connections share.

    Args:
        settings: The bounds.
        answer: Answers a request; raises nothing but `Disconnected`.
        deny: Counts what is turned away, by one of few fixed reasons.

    Attributes:
        buffer: Where what comes is read to, for as long as it takes to parse it.
    """

    def __init__(self, settings: HttpSettings, answer: Handler, deny: Callable[[str], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.times = Times.of(settings)
        self.answer = answer
        self.deny = deny
        self.stopping = False
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self._most = settings.max_connections
        self._open: set[Connection] = set()
        # Whose client has to do something, the longest wait first: those of whom nothing was taken yet, and
        # the others.
        self._strangers: dict[Connection, None] = {}
        self._friends: dict[Connection, None] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._watch = self.loop.create_task(self._look_at_deadlines())

    def new(self) -> Connection | None:
        """A connection for a client that has come; None if there is no room for it."""
        if len(self._open) >= self._most and not self.make_room():
            self.deny("too many connections")
            return None
        connection = Connection(self)
        self._open.add(connection)
        self.waits(connection)
        return connection

    def make_room(self) -> bool:
        """End the connection whose client has kept us waiting longest; whether there was one.

        Clients have to send again what they were sending just then, so those of whom something was taken
        before come last.
        """
        for connection in (*islice(self._strangers, 1), *islice(self._friends, 1)):
            connection.abort()
            self.deny("made room for another connection")
            return True
        return False

    def waits(self, connection: Connection) -> None:
        """Its client has to do something now."""
        self.works(connection)
        (self._friends if connection.known else self._strangers)[connection] = None

    def works(self, connection: Connection) -> None:
        """We have to do something for it now."""
        self._strangers.pop(connection, None)
        self._friends.pop(connection, None)

    def gone(self, connection: Connection) -> None:
        """It is closed."""
        self._open.discard(connection)
        self.works(connection)

    def serve(self, task: asyncio.Task[None]) -> None:
        """Remember who is being answered."""
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def shutdown(self, grace: float) -> None:
        """Answer what came in within so many seconds, then end all connections."""
        self.stopping = True
        for connection in list(self._open):
            connection.finish()
        if self._serving:
            _, late = await asyncio.wait(set(self._serving), timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in list(self._open):
            connection.abort()
        self._watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watch

    async def _look_at_deadlines(self) -> None:
        shortest = min(self.times.headers, self.times.body, self.times.write, self.times.idle)
        while True:
            await asyncio.sleep(min(_LONGEST_TICK, shortest / 4))
            now = self.loop.time()
            for connection in [one for one in self._open if one.deadline <= now]:
                connection.expire()
