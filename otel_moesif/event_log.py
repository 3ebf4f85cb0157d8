"""The stored events as senders read them: fresh ones from memory, older ones from the journal."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from otel_moesif.errors import InvalidData
from otel_moesif.events import Events
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import Position

# What is kept in memory for senders that keep up; one that lags reads the disk.
_MEMORY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Published:
    """A batch of events with its id in the journal.

    Attributes:
        events: None of them if the batch cannot be read.
        unreadable: Why it cannot be read; "" when it can.
        body: What is there instead.
        count: How many events it was.
    """

    id: int
    events: Events
    unreadable: str = ""
    body: bytes = b""
    count: int = 0


class EventLog:
    """What the converter wrote and senders read.

    Args:
        journal: Holds everything that is not in memory.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._recent: OrderedDict[int, tuple[frozenset[str], Events, int]] = OrderedDict()
        self._bytes = 0
        self._passed: dict[str, int] = {}
        # Every chunk from this id on is in memory, if somebody has still to read it.
        self._floor: int | None = None
        self._dropped_to = 0
        self._wakers: list[asyncio.Event] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Remember the loop on which the senders wait."""
        self._loop = asyncio.get_running_loop()

    def waker(self) -> asyncio.Event:
        """An event that is set whenever something was published."""
        event = asyncio.Event()
        self._wakers.append(event)
        return event

    def publish(self, chunks: Sequence[tuple[int, Sequence[str], Events]]) -> None:
        """Make committed chunks (id, exporters, events) known; from any thread."""
        with self._lock:
            for id_, exporters, events in chunks:
                size = int(events.frame.estimated_size())
                self._recent[id_] = (frozenset(exporters), events, size)
                self._bytes += size
                self._floor = id_ if self._floor is None else self._floor
            while self._bytes > _MEMORY_BYTES and len(self._recent) > 1:
                _, (_, _, size) = self._recent.popitem(last=False)
                self._bytes -= size
                self._floor = next(iter(self._recent))
        if self._loop is not None and chunks:
            self._loop.call_soon_threadsafe(self._wake)

    def recent(self, exporter: str, start: int) -> tuple[bool, Published | None]:
        """The next chunk for an exporter, if memory can tell.

        Args:
            exporter: Whose.
            start: Lowest id that it has not read.

        Returns:
            Whether memory can tell, and the chunk, if there is one.
        """
        with self._lock:
            if self._floor is None or start < self._floor:
                return False, None
            known = ((id_, exporters) for id_, (exporters, *_) in self._recent.items() if id_ >= start)
            found = next((id_ for id_, exporters in known if exporter in exporters), None)
            if found is None:
                return True, None
            return True, Published(found, self._recent[found][1])

    def stored(self, exporter: str, start: int) -> Published | None:
        """The next chunk for an exporter, from disk."""
        chunk = self._journal.next_chunk(exporter, start)
        if chunk is None:
            return None
        try:
            if chunk.damaged:
                raise InvalidData("damaged in the journal: wrong checksum")  # noqa: TRY301
            return Published(chunk.id, Events.from_ipc(chunk.body))
        except InvalidData as problem:  # one batch must not stop the sender for ever
            return Published(
                chunk.id, Events.none(), unreadable=str(problem), body=chunk.body, count=chunk.count
            )

    def passed(self, exporter: str, chunk: int) -> None:
        """Drop from memory what all have got.

        Args:
            exporter: Who tells.
            chunk: It needs none before this id any more.
        """
        with self._lock:
            self._passed[exporter] = chunk
            while self._recent:
                id_, (exporters, _, size) = next(iter(self._recent.items()))
                if any(self._passed.get(name, 0) <= id_ for name in exporters):
                    break
                del self._recent[id_]
                self._bytes -= size

    @property
    def dropped_to(self) -> Position:
        """What ends before this has been dropped, and counted as such: whoever has it still lets go of it."""
        return Position(self._dropped_to)

    def forget(self, before: int) -> None:
        """Drop from memory what the journal has dropped, so that it is not sent after all."""
        with self._lock:
            self._dropped_to = max(self._dropped_to, before)
            while self._recent and next(iter(self._recent)) < before:
                id_, (_, _, size) = self._recent.popitem(last=False)
                self._bytes -= size
                self._floor = id_ + 1

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()
