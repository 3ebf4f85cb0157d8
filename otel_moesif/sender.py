"""One sender per exporter: reads on from its cursor, exports, retries, and moves the cursor after success.

Delivery is at least once and in batches that may be in flight side by side; the cursor moves in order, so
that a restart repeats what was in flight and skips nothing. A dead backend costs its own sender's time and
the disk's room, nobody else's.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from otel_moesif.component import Exporter
from otel_moesif.errors import PermanentError, RetryableError
from otel_moesif.event_log import EventLog
from otel_moesif.events import Events
from otel_moesif.journal import DeadLetter, Journal, Position
from otel_moesif.settings import ExporterConfig
from otel_moesif.telemetry import Telemetry

logger = logging.getLogger(__name__)

# A batch of calls with captured bodies is cut at this size in memory, far below Moesif's 50 MB (apidocs
# _errors.md): 1,000 calls with 450 KB bodies must not come together.
_BATCH_BYTES = 8 << 20
_JOURNAL_RETRY_SECONDS = 1.0
# Reasons for a dead letter are logged once each, and no more than this many; the counter knows all.
_KNOWN_REFUSALS = 20


@dataclass(eq=False)
class _Batch:
    """Events in flight.

    Attributes:
        events: What is sent.
        end: Where the cursor may stand once this batch and all before it are done.
        dead_letters: What was given up.
    """

    events: Events
    end: Position
    done: bool = False
    dead_letters: list[DeadLetter] = field(default_factory=list)


class Sender:
    """Delivers the event log to one exporter.

    Args:
        name: The exporter's id.
        exporter: Where to.
        settings: Its queue, batch and retry options.
        log: Where from.
        journal: Holds the cursor and the dead letters.
        telemetry: Counts what is sent, failed and dead-lettered.
        jitter: Gives a number from 0 to 1; tests put in their own.
    """

    def __init__(
        self,
        name: str,
        exporter: Exporter,
        settings: ExporterConfig,
        log: EventLog,
        journal: Journal,
        telemetry: Telemetry,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._exporter = exporter
        self._queue = settings.sending_queue
        self._retry = settings.retry_on_failure
        self._log = log
        self._journal = journal
        self._telemetry = telemetry
        self._jitter = jitter
        self._attributes = {"exporter": name}
        self._cursor = Position()
        self._read = Position()
        self._buffer: deque[tuple[Events, Position]] = deque()
        self._in_flight: deque[_Batch] = deque()
        self._stopping = asyncio.Event()
        self._failing = False
        self._known_refusals: set[str] = set()

    @property
    def cursor(self) -> Position:
        """Everything before this is delivered."""
        return self._cursor

    async def run(self, cursor: Position) -> None:
        """Deliver until `stop`, then what is left without further waiting, then return.

        Args:
            cursor: Where to begin.
        """
        self._cursor = self._read = cursor
        waker = self._log.waker()
        consumers = asyncio.Semaphore(self._queue.num_consumers)
        async with asyncio.TaskGroup() as tasks:
            while (batch := await self._next(waker)) is not None:
                await consumers.acquire()
                if self._stopping.is_set() and self._failing:
                    break  # a backend that is down at the end: what is left stays for the next start
                self._in_flight.append(batch)
                tasks.create_task(self._consume(batch, consumers))

    def stop(self) -> None:
        """Deliver what is there without further waiting; a backend that fails now is not waited for."""
        self._stopping.set()

    # -- reading --------------------------------------------------------------------------------------

    async def _next(self, waker: asyncio.Event) -> _Batch | None:
        """The next batch: full, or as old as ``flush_timeout`` allows; None at the end."""
        loop = asyncio.get_running_loop()
        settings = self._queue.batch
        deadline: float | None = None
        while self._buffered() < settings.min_size:
            waker.clear()
            more = await self._fill()
            if self._buffer and deadline is None:  # also for what the last batch had no room for
                deadline = loop.time() + settings.flush_timeout.total_seconds()
            if more:
                continue
            if self._stopping.is_set():
                break
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                break
            await self._wait(waker, left)
        return self._cut(settings.max_size) if self._buffer else None

    async def _wait(self, waker: asyncio.Event, seconds: float | None) -> None:
        """Until something was published, it is time to stop, or so many seconds have passed."""
        waiters = [asyncio.ensure_future(event.wait()) for event in (waker, self._stopping)]
        try:
            await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()

    async def _fill(self) -> bool:
        """Read one more stored batch; False when there is none."""
        known, chunk = self._log.recent(self.name, self._read.chunk)
        if not known:
            chunk = await asyncio.to_thread(self._log.stored, self.name, self._read.chunk)
        if chunk is None:
            return False
        skip = self._read.row if chunk.id == self._read.chunk else 0
        self._read = Position(chunk.id + 1, 0)
        events = chunk.events.slice(skip) if skip else chunk.events
        for start, length in _pieces(events, self._queue.batch.max_size):
            last = start + length == len(events)
            end = self._read if last else Position(chunk.id, skip + start + length)
            self._buffer.append((events.slice(start, length), end))
        return True

    def _buffered(self) -> int:
        return sum(len(events) for events, _ in self._buffer)

    def _cut(self, max_size: int) -> _Batch:
        parts: list[Events] = []
        size = weight = 0
        while self._buffer:
            events, end = self._buffer[0]
            heavy = int(events.frame.estimated_size())
            if parts and (size + len(events) > max_size or weight + heavy > _BATCH_BYTES):
                break
            self._buffer.popleft()
            parts.append(events)
            size, weight, position = size + len(events), weight + heavy, end
        return _Batch(parts[0] if len(parts) == 1 else Events.concat(parts), position)

    # -- sending --------------------------------------------------------------------------------------

    async def _consume(self, batch: _Batch, consumers: asyncio.Semaphore) -> None:
        try:
            batch.done = await self._deliver(batch, batch.events)
            await self._commit()
        finally:
            consumers.release()

    async def _deliver(self, batch: _Batch, events: Events) -> bool:
        """Send until the backend has the events or will never have them.

        Returns:
            False if the sender was stopped before.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._export(events)
            except (RetryableError, OSError, TimeoutError) as error:
                self._telemetry.send_failed.add(len(events), self._attributes)
                if self._stopping.is_set():
                    self._failing = True
                    return False
                await self._back_off(error, attempt)
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises: one batch, not the sender
                self._telemetry.send_failed.add(len(events), self._attributes)
                return await self._give_up(batch, events, error, attempt)
            else:
                if self._failing:
                    logger.info("%s: delivering again", self.name)
                self._failing = False
                self._telemetry.sent.add(len(events), self._attributes)
                return True

    async def _export(self, events: Events) -> None:
        export = self._exporter.export
        if inspect.iscoroutinefunction(export):
            await export(events)
        else:
            await asyncio.to_thread(export, events)

    async def _give_up(self, batch: _Batch, events: Events, error: Exception, attempt: int) -> bool:
        """Bisect to the guilty events, which become dead letters; the rest goes on."""
        if len(events) > 1:
            middle = len(events) // 2
            return await self._deliver(batch, events.slice(0, middle)) and await self._deliver(
                batch, events.slice(middle)
            )
        reason = str(error) if isinstance(error, PermanentError) else f"{type(error).__name__}: {error}"
        kind = reason[:80]
        if kind not in self._known_refusals and len(self._known_refusals) < _KNOWN_REFUSALS:
            self._known_refusals.add(kind)
            logger.error("%s: an event goes to the dead letters: %s", self.name, reason[:300])
        self._telemetry.dead_events.add(1, self._attributes)
        batch.dead_letters.append(DeadLetter(self.name, "events", reason[:2000], events.to_ipc(), attempt))
        return True

    async def _back_off(self, error: Exception, attempt: int) -> None:
        """Wait: full jitter below a growing bound, but never less than the backend asked for."""
        retry = self._retry
        bound = min(
            retry.max_interval.total_seconds(),
            retry.initial_interval.total_seconds() * retry.multiplier ** min(attempt - 1, 64),
        )
        wait = self._jitter() * bound
        if isinstance(error, RetryableError) and error.retry_after is not None:
            wait = max(wait, error.retry_after)
        if not self._failing:
            logger.warning("%s: cannot deliver, will try until it works: %s", self.name, error)
        self._failing = True
        try:
            await asyncio.wait_for(self._stopping.wait(), wait)
        except TimeoutError:
            return

    async def _commit(self) -> None:
        """Move the cursor over everything that is done in order."""
        letters: list[DeadLetter] = []
        end = None
        while self._in_flight and self._in_flight[0].done:
            batch = self._in_flight.popleft()
            letters += batch.dead_letters
            end = batch.end
        while end is not None and end > self._cursor:
            try:
                await asyncio.to_thread(self._journal.advance, self.name, end, letters)
                self._cursor = end
            except sqlite3.Error as error:
                logger.error("%s: cannot store how far it is: %s; trying again", self.name, error)  # noqa: TRY400 - the disk's state, not a bug
                await asyncio.sleep(_JOURNAL_RETRY_SECONDS)


def _pieces(events: Events, max_size: int) -> list[tuple[int, int]]:
    """Cut a stored batch into (start, length) below the bounds of rows and bytes."""
    rows = len(events)
    per_row = max(1, int(events.frame.estimated_size()) // max(rows, 1))
    length = max(1, min(max_size, _BATCH_BYTES // per_row))
    return [(start, min(length, rows - start)) for start in range(0, rows, length)]
