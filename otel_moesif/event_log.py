"""The stored events as senders read them: fresh ones from memory, older ones from the journal."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from otel_moesif.events import Events
from otel_moesif.journal import Journal

# What is kept in memory for senders that keep up; one that lags reads the disk.
_MEMORY_BYTES = 64 << 20


class Published(NamedTuple):
    """A batch of events with its id in the journal."""

    id: int
    events: Events


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
        # Every chunk from this id on is in memory.
        self._floor: int | None = None
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
            for id_, (exporters, events, _) in self._recent.items():
                if id_ >= start and exporter in exporters:
                    return True, Published(id_, events)
            return True, None

    def stored(self, exporter: str, start: int) -> Published | None:
        """The next chunk for an exporter, from disk."""
        chunk = self._journal.next_chunk(exporter, start)
        return Published(chunk.id, Events.from_ipc(chunk.body)) if chunk else None

    def forget(self, before: int) -> None:
        """Drop from memory what every sender has read."""
        with self._lock:
            while self._recent and next(iter(self._recent)) < before:
                id_, (_, _, size) = self._recent.popitem(last=False)
                self._bytes -= size
                self._floor = id_ + 1

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()
