"""What one exporter has still to get: read on from its cursor, and cut into batches."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from otel_moesif.event_log import EventLog, Published
from otel_moesif.events import Events
from otel_moesif.journal.rows import DeadLetter, Position
from otel_moesif.own_thread import in_own_thread
from otel_moesif.settings import BatchSettings

# A batch of calls with captured bodies is cut at this size in memory, far below Moesif's 50 MB (apidocs
# _errors.md): 1,000 calls with 450 KB bodies must not come together.
_BATCH_BYTES = 8 << 20


@dataclass(eq=False)
class Batch:
    """Events in flight.

    Attributes:
        events: What is sent.
        end: Where the cursor may stand once this batch and all before it are done.
        parts: Of how many events, and up to where, each part is that was stored by itself.
        done: It need not be sent any more.
        dead_letters: What was given up.
    """

    events: Events
    end: Position
    parts: list[tuple[int, Position]] = field(default_factory=list)
    done: bool = False
    dead_letters: list[DeadLetter] = field(default_factory=list)

    def drop(self, before: Position) -> None:
        """Let go of those parts that end before a position."""
        gone = [count for count, end in self.parts if end <= before]
        if gone:
            self.parts = self.parts[len(gone) :]
            self.events = self.events.slice(sum(gone))


class Backlog:
    """Reads the event log for one exporter.

    Args:
        name: The exporter's id.
        settings: How batches are put together.
        log: Where from.
        start: Where to begin.
        stopping: Set when a batch shall not wait for more any longer.
    """

    def __init__(
        self, name: str, settings: BatchSettings, log: EventLog, start: Position, stopping: asyncio.Event
    ) -> None:
        self._name = name
        self._settings = settings
        self._log = log
        self._read = start
        self._stopping = stopping
        self._waker = log.waker()
        self._buffer: deque[Batch] = deque()

    async def next(self) -> Batch | None:
        """The next batch: full, or as old as ``flush_timeout`` allows; None at the end."""
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        while self._buffered() < self._settings.min_size:
            self._waker.clear()
            more = await self._fill()
            if self._buffer and deadline is None:  # also for what the last batch had no room for
                deadline = loop.time() + self._settings.flush_timeout.total_seconds()
            if more:
                continue
            if self._stopping.is_set():
                break
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                break
            await self._wait(left)
        return self._cut() if self._buffer else None

    async def _wait(self, seconds: float | None) -> None:
        """Until something was published, it is time to stop, or so many seconds have passed."""
        waiters = [asyncio.ensure_future(event.wait()) for event in (self._waker, self._stopping)]
        try:
            await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()

    async def _fill(self) -> bool:
        """Read one more stored batch; False when there is none."""
        known, chunk = self._log.recent(self._name, self._read.chunk)
        if not known:
            chunk = await in_own_thread(self._log.stored, self._name, self._read.chunk)
        if chunk is None:
            return False
        skip = self._read.row if chunk.id == self._read.chunk else 0
        self._read = Position(chunk.id + 1, 0)
        if chunk.unreadable:
            self._buffer.append(Batch(Events.none(), self._read, dead_letters=[self._letter(chunk)]))
            return True
        events = chunk.events.slice(skip) if skip else chunk.events
        for start, length in _pieces(events, self._settings.max_size):
            last = start + length == len(events)
            end = self._read if last else Position(chunk.id, skip + start + length)
            self._buffer.append(Batch(events.slice(start, length), end))
        if not len(events):
            self._buffer.append(Batch(events, self._read))
        return True

    def _letter(self, chunk: Published) -> DeadLetter:
        return DeadLetter(self._name, "events", chunk.unreadable, chunk.body, 0, chunk.count)

    def _buffered(self) -> int:
        return sum(len(part.events) for part in self._buffer)

    def _cut(self) -> Batch:
        dropped_to = self._log.dropped_to
        parts: list[Batch] = []
        letters: list[DeadLetter] = []
        size = weight = 0
        end = self._read
        while self._buffer:
            part = self._buffer[0]
            heavy = int(part.events.frame.estimated_size())
            full = size + len(part.events) > self._settings.max_size or weight + heavy > _BATCH_BYTES
            if parts and full:
                break
            self._buffer.popleft()
            end = part.end
            if end <= dropped_to:  # meanwhile: only the cursor has to know
                continue
            parts.append(part)
            letters += part.dead_letters
            size, weight = size + len(part.events), weight + heavy
        events = [part.events for part in parts] or [Events.none()]
        return Batch(
            events[0] if len(events) == 1 else Events.concat(events),
            end,
            [(len(part.events), part.end) for part in parts],
            dead_letters=letters,
        )


def _pieces(events: Events, max_size: int) -> list[tuple[int, int]]:
    """Cut a stored batch into (start, length) below the bounds of rows and bytes."""
    rows = len(events)
    per_row = max(1, int(events.frame.estimated_size()) // max(rows, 1))
    length = max(1, min(max_size, _BATCH_BYTES // per_row))
    return [(start, min(length, rows - start)) for start in range(0, rows, length)]
