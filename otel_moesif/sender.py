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
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import polars as pl

from otel_moesif.backlog import Backlog, Batch
from otel_moesif.circuit import RETRYABLE, Circuit
from otel_moesif.component import Exporter
from otel_moesif.errors import OtelMoesifError, PausedError, PermanentError, RetryableError, describe
from otel_moesif.event_log import EventLog
from otel_moesif.events import Events
from otel_moesif.health import Health, Status
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import DeadLetter, Position
from otel_moesif.own_thread import in_own_thread
from otel_moesif.pipeline import FAILURES
from otel_moesif.settings import ExporterConfig
from otel_moesif.telemetry import Telemetry
from otel_moesif.trouble import Trouble

logger = logging.getLogger(__name__)

_JOURNAL_RETRY_SECONDS = 1.0
# Reasons for a dead letter are logged once each, and no more than this many; the counter knows all.
_KNOWN_REFUSALS = 20
# Batches that may be done while an older one is not. Beyond, a batch that the backend never takes would make
# a restart repeat ever more.
_WINDOW = 256


class _DroppedError(Exception):
    """The journal has dropped a batch before it could be sent."""


@dataclass
class _Attempts:
    """How it stands with one batch, or one half of it.

    Attributes:
        events: What is to be sent.
        began: When it was tried first, or the exporter was paused last; seconds of the monotonic clock.
        count: How often it was tried.
    """

    events: Events
    began: float = field(default_factory=time.monotonic)
    count: int = 0


class Sender:
    """Delivers the event log to one exporter.

    Args:
        name: The exporter's id, or that of one of its lanes.
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
        self._settings = settings
        self._log = log
        self._journal = journal
        self._telemetry = telemetry
        self._attributes = {"exporter": name}
        self._cursor = Position()
        self._in_flight: deque[Batch] = deque()
        self._window = asyncio.Semaphore(_WINDOW)
        self._committing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._circuit = Circuit(settings.retry_on_failure, self._stopping, jitter)
        self.health = Health()
        self._trouble = Trouble(logger, f"{name}: delivering again")
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
        self._cursor = cursor
        self._log.passed(self.name, cursor.chunk)
        queue = self._settings.sending_queue
        backlog = Backlog(self.name, queue.batch, self._log, cursor, self._stopping)
        consumers = asyncio.Semaphore(queue.num_consumers)
        async with asyncio.TaskGroup() as tasks:
            while (batch := await backlog.next()) is not None:
                await consumers.acquire()
                await self._window.acquire()
                # At the end a backend that is down, or a batch that it does not take, is not waited for.
                if self._stopping.is_set() and (self._circuit.is_open or len(self._in_flight) >= _WINDOW):
                    break
                self._in_flight.append(batch)
                tasks.create_task(self._consume(batch, consumers))

    def stop(self) -> None:
        """Deliver what is there without further waiting; a backend that fails now is not waited for."""
        self._stopping.set()
        self._window.release()  # so that nobody waits for an older batch

    async def _consume(self, batch: Batch, consumers: asyncio.Semaphore) -> None:
        try:
            batch.done = not len(batch.events) or await self._deliver(batch, _Attempts(batch.events))
            if batch.done:
                self._count_unreadable(batch)
                batch.events = (
                    Events.none()
                )  # what is done may have to wait for older ones, but not in memory
                await self._commit()
        finally:
            consumers.release()

    async def _deliver(self, batch: Batch, attempts: _Attempts) -> bool:
        """Send until the backend has the events or will never have them, or the journal has dropped them.

        Returns:
            False if the sender was stopped before.
        """
        while True:
            attempts.count += 1
            try:
                sent = await self._circuit.call(lambda: self._export(self._left(batch, attempts)))
            except _DroppedError:
                return True
            except RETRYABLE as error:
                self._telemetry.send_failed.add(len(attempts.events), self._attributes)
                if self._stopping.is_set():  # first: perhaps it was not even tried
                    return False
                if isinstance(error, PausedError):  # until somebody has mended it, no time counts
                    attempts.began = time.monotonic()
                elif self._is_too_old(attempts):
                    self._bury(batch, attempts, error, "gave up")
                    return True
                self._fails(error)
                await self._circuit.wait_on_its_own(attempts.count)
            except FAILURES as error:  # whatever a plugin raises: one batch, not the sender
                if isinstance(error, PermanentError) and len(error.rows):
                    return await self._without(batch, attempts, error)
                self._telemetry.send_failed.add(len(attempts.events), self._attributes)
                return await self._bisect(batch, attempts, error)
            else:
                self._works()
                self._telemetry.sent.add(len(attempts.events) if sent is None else sent, self._attributes)
                return True

    def _left(self, batch: Batch, attempts: _Attempts) -> Events:
        """What is left to be sent, just before it is: while it waited, the journal may have dropped some.

        A part of a batch that was refused goes with the whole batch.

        Raises:
            _DroppedError: Nothing is left.
        """
        whole = attempts.events is batch.events
        batch.drop(self._log.dropped_to)
        if not len(batch.events):
            raise _DroppedError
        if whole:
            attempts.events = batch.events
        return attempts.events

    async def _export(self, events: Events) -> int | None:
        export = self._exporter.export
        plain = not inspect.iscoroutinefunction(export)
        sent = await in_own_thread(export, events) if plain else export(events)
        if not inspect.isawaitable(sent):
            return sent
        seconds = self._settings.timeout.total_seconds()
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await sent
        except TimeoutError:
            if not limit.expired():
                raise
            raise RetryableError(f"no answer within {seconds:g} s") from None
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            raise RetryableError("the exporter has cancelled its own work") from None

    def _is_too_old(self, attempts: _Attempts) -> bool:
        """Whether the user wants to give up by now; by default never."""
        retry = self._settings.retry_on_failure
        longest = retry.max_elapsed_time.total_seconds()
        return not retry.enabled or bool(longest and time.monotonic() - attempts.began >= longest)

    def _fails(self, error: Exception) -> None:
        """Say what is wrong; what only somebody can mend is an error."""
        reason = str(error) if isinstance(error, OtelMoesifError) else describe(error)
        status = Status.PAUSED if isinstance(error, PausedError) else Status.FAILING
        self.health = Health(status, reason)
        if status is Status.PAUSED:
            self._trouble.fails(status, "%s: paused, everything is kept and waits: %s", self.name, reason)
        else:
            text = "%s: cannot deliver, will try until it works: %s"
            self._trouble.fails(status, text, self.name, reason, level=logging.WARNING)

    def _works(self) -> None:
        self.health = Health()
        self._trouble.works()

    # -- giving up ------------------------------------------------------------------------------------

    async def _without(self, batch: Batch, attempts: _Attempts, error: PermanentError) -> bool:
        """Bury the events that the exporter has named, and deliver the others."""
        frame = attempts.events.frame
        guilty = pl.Series(sorted({row for row in error.rows if 0 <= row < frame.height}), dtype=pl.UInt32)
        if guilty.is_empty():
            return await self._bisect(batch, attempts, error)
        self._telemetry.send_failed.add(len(guilty), self._attributes)
        self._bury(batch, replace(attempts, events=Events(frame[guilty])), error, "refused")
        rest = frame.filter(~pl.int_range(frame.height, eager=True).is_in(guilty.to_list()))
        return not rest.height or await self._deliver(batch, replace(attempts, events=Events(rest)))

    async def _bisect(self, batch: Batch, attempts: _Attempts, error: BaseException) -> bool:
        """Find the guilty events, which become dead letters; the rest goes on."""
        events = attempts.events
        if len(events) == 1:
            self._bury(batch, attempts, error, "refused")
            return True
        middle = len(events) // 2
        return await self._deliver(batch, _Attempts(events.slice(0, middle))) and await self._deliver(
            batch, _Attempts(events.slice(middle))
        )

    def _bury(self, batch: Batch, attempts: _Attempts, error: BaseException, why: str) -> None:
        """Make a dead letter of events."""
        reason = str(error) if isinstance(error, PermanentError) else describe(error)
        if why != "refused":
            seconds = time.monotonic() - attempts.began
            reason = f"{why} after {attempts.count} attempts in {seconds:.0f} s: {reason}"
        kind = reason[:80]
        if kind not in self._known_refusals and len(self._known_refusals) < _KNOWN_REFUSALS:
            self._known_refusals.add(kind)
            logger.error("%s: an event goes to the dead letters: %s", self.name, reason[:300])
        count = len(attempts.events)
        self._telemetry.dead_events.add(count, {**self._attributes, "reason": why})
        response = error.response if isinstance(error, PermanentError) else ""
        batch.dead_letters.append(
            DeadLetter(
                self.name,
                "events",
                reason[:2000],
                attempts.events.to_ipc(),
                attempts.count,
                count,
                response=response[:2000],
            )
        )

    def _count_unreadable(self, batch: Batch) -> None:
        for letter in batch.dead_letters:
            if not letter.attempts:
                logger.error("%s: %d events are %s", self.name, letter.count, letter.reason)
                self._telemetry.dead_events.add(letter.count, {**self._attributes, "reason": "damaged"})

    # -- cursor ---------------------------------------------------------------------------------------

    async def _commit(self) -> None:
        """Move the cursor over everything that is done in order."""
        async with self._committing:
            letters: list[DeadLetter] = []
            end = None
            while self._in_flight and self._in_flight[0].done:
                batch = self._in_flight.popleft()
                self._window.release()
                letters += batch.dead_letters
                end = batch.end
            said = False
            while end is not None and end > self._cursor:
                try:
                    await in_own_thread(self._journal.advance, self.name, end, letters)
                    self._cursor = end
                    self._log.passed(self.name, end.chunk)
                except sqlite3.Error as error:
                    if not said:
                        logger.error("%s: cannot store how far it is: %s; trying again", self.name, error)  # noqa: TRY400 - the disk's state, not a bug
                    said = True
                    await asyncio.sleep(_JOURNAL_RETRY_SECONDS)
