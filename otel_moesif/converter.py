"""The converter: a few times a second, everything that was stored becomes events.

A pass of expressions costs some milliseconds however few rows it has, so it runs over as much as there is:
when 4,096 records wait, or a second after the last pass, or 200 ms after the first record if there was no
pass lately. One transaction adds the events (and the rows that wait for others) and removes the raw requests;
a crash repeats a step or finds it done.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from otel_moesif.config.model import DeduplicateSettings
from otel_moesif.errors import describe
from otel_moesif.event_log import EventLog
from otel_moesif.held import from_ipc
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import Conversion, DeadLetter, NewChunk, RawRequest
from otel_moesif.lanes import Lanes
from otel_moesif.pipeline import FAILURES, Pipeline
from otel_moesif.stream import KNOWN, Converted, Stream
from otel_moesif.takeup import TakeUp
from otel_moesif.telemetry import Telemetry
from otel_moesif.trouble import Trouble

logger = logging.getLogger(__name__)

LINGER_SECONDS = 0.2
# With so few records that a pass costs more than they do: a quarter less CPU at 400 requests a second.
BETWEEN_SECONDS = 1.0
ENOUGH_RECORDS = 4096
ENOUGH_BYTES = 8 << 20
BATCH_RECORDS = 8192
BATCH_BYTES = 16 << 20
# Requests beyond this are not kept in memory: they are read back from the journal when their turn comes.
_MEMORY_BYTES = 64 << 20
_RETRY_SECONDS = 1.0
_NS_PER_S = 1_000_000_000


@dataclass
class _Waiting:
    """Stored requests that wait for conversion: ids ``first`` to ``last``; in memory if ``raw`` is there."""

    first: int
    last: int
    records: int
    raw: RawRequest | None

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self.raw.body) if self.raw else 0


class Converter:
    """Turns stored requests into stored events.

    Args:
        journal: Where both are.
        pipelines: All of them.
        log: Where the senders read.
        deduplicate: How calls that come twice are treated.
        telemetry: Counts what makes no event.
        lanes: Who delivers what; None: no exporter routes.
    """

    def __init__(
        self,
        journal: Journal,
        pipelines: Sequence[Pipeline],
        log: EventLog,
        deduplicate: DeduplicateSettings,
        telemetry: Telemetry,
        lanes: Lanes | None = None,
    ) -> None:
        self._lanes = lanes or Lanes()
        self._journal = journal
        self._log = log
        self._stream = Stream(pipelines, deduplicate, telemetry)
        self._telemetry = telemetry
        self._take_up = TakeUp(journal, pipelines, deduplicate, telemetry, self._lanes, self._stream)
        self._waiting: deque[_Waiting] = deque()
        self._records = 0
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._trouble = Trouble(logger, "converter: converting and storing again")
        self._deadline = float("inf")
        self._began = float("-inf")
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take up what an earlier run left, and begin."""
        left = self._load_held()
        last = self._journal.last_raw()
        if last:
            logger.info("converter: resuming with requests left from an earlier run")
            self._waiting.append(_Waiting(0, last, BATCH_RECORDS, None))
            self._records = BATCH_RECORDS
        self._thread = threading.Thread(target=self._work, args=(left,), name="converter", daemon=True)
        self._thread.start()

    def stored(self, requests: list[RawRequest], counts: list[int]) -> None:
        """Take note of what the intake has just committed; called from its thread."""
        with self._changed:
            idle = not self._waiting
            for raw, count in zip(requests, counts, strict=True):
                self._records += count
                if self._bytes + len(raw.body) <= _MEMORY_BYTES:
                    self._bytes += len(raw.body)
                    self._waiting.append(_Waiting(raw.id, raw.id, count, raw))
                elif self._waiting and self._waiting[-1].raw is None:
                    self._waiting[-1].last = raw.id
                    self._waiting[-1].records += count
                else:
                    self._waiting.append(_Waiting(raw.id, raw.id, count, None))
            if idle or self._is_enough():  # a thread woken for each group costs more than the group
                self._changed.notify()

    def shutdown(self, timeout: float) -> None:
        """Convert what waits, then stop; safe unstarted and twice.

        Args:
            timeout: Seconds that this may take; what is left stays raw in the journal.
        """
        with self._changed:
            self._stopping = True
            self._deadline = time.monotonic() + timeout
            self._changed.notify()
        if self._thread:
            self._thread.join(timeout)

    def _work(self, left: Converted) -> None:
        if left.step.released:
            try:
                self._store(left)
                self._say_buried(left.step.dead_letters)
            except FAILURES as error:  # the next start finds them again
                self._fails(error)
        while (taken := self._next()) is not None:
            try:
                batch = self._requests(taken)
                if taken or self._is_due():
                    made = self._stream.convert(batch, time.monotonic_ns())
                    self._stream.stored(made, self._store(made))
                    taken = []
                if self._take_up.is_due():
                    self._take_up.work(self._store)
                self._trouble.works()
            except FAILURES as error:
                # also a panic of polars': a thread that died would leave requests lying, unnoticed
                self._fails(error)
                self._put_back(taken)
                self._pause()

    def _say_buried(self, letters: Sequence[DeadLetter]) -> None:
        """Rows that waited and that nobody takes back: they can be replayed under their old names."""
        if not letters:
            return
        rows: Counter[str] = Counter()
        for letter in letters:
            rows[letter.origin] += letter.count
            attributes = {"pipeline": letter.origin.partition(",")[0], "error": "nobody takes them back"}
            self._telemetry.dead_requests.add(1, attributes)
        named = ", ".join(f"{count} of {slot}" for slot, count in rows.items())
        logger.warning("rows that waited are nobody's any more and go to the dead letters: %s", named)

    def _fails(self, error: BaseException) -> None:
        if isinstance(error, sqlite3.Error):
            self._trouble.fails("", "journal: cannot store events: %s; trying again until it works", error)
        else:
            said = describe(error)
            self._trouble.fails(said, "converter: unexpected %s; trying again until it works", said)

    def _pause(self) -> bool:
        """Wait before the next try, unless the stop comes just now; False if there is no time left."""
        with self._changed:
            stopping = self._stopping
            self._changed.wait_for(lambda: self._stopping and not stopping, _RETRY_SECONDS)
        return time.monotonic() < self._deadline

    def _store(self, made: Converted) -> list[int]:
        """Store what a batch became; gives the ids of its held rows.

        Tries until it works: to convert the batch again would count everything in it again.

        Raises:
            sqlite3.Error: There is no time left.
        """
        batches = [x for names, events in made.events for x in self._lanes.split(names, events, made.only)]
        made.step.chunks = [NewChunk(names, len(events), events.to_ipc()) for names, events in batches]
        while True:
            made.step.keep = self._journal.keeps_raw
            try:
                chunks, pieces = self._journal.convert(made.step)
            except sqlite3.Error as error:
                self._fails(error)
                if not self._pause():
                    raise
            else:
                self._log.publish([(id_, *rest) for id_, rest in zip(chunks, batches, strict=True)])
                return pieces

    def _next(self) -> list[_Waiting] | None:
        """Wait for a batch worth a pass; none if only what waits is due; None at the end."""
        with self._changed:
            while not self._waiting and not self._stopping:
                left = self._seconds_left()
                if left <= 0:
                    return []
                self._changed.wait(left)
            now = time.monotonic()
            next_pass = min(self._began + BETWEEN_SECONDS, now + self._seconds_until_due())
            end = max(now + LINGER_SECONDS, next_pass)
            while not self._is_enough() and not self._stopping:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            if not self._waiting or time.monotonic() > self._deadline:
                return None
            self._began = time.monotonic()
            return self._take()

    def _is_enough(self) -> bool:
        return self._records >= ENOUGH_RECORDS or self._bytes >= ENOUGH_BYTES

    def _is_due(self) -> bool:
        return self._stream.due is not None and self._stream.due <= time.monotonic_ns()

    def _seconds_left(self) -> float:
        """Until something is due that does not come from the intake."""
        return min(self._seconds_until_due(), self._take_up.seconds_left())

    def _seconds_until_due(self) -> float:
        due = self._stream.due
        return float("inf") if due is None else (due - time.monotonic_ns()) / _NS_PER_S

    def _take(self) -> list[_Waiting]:
        """As many requests from memory as make a batch, or one range that is only on disk."""
        taken = [self._waiting.popleft()]
        records, size = taken[0].records, taken[0].size
        while (
            taken[0].raw
            and self._waiting
            and self._waiting[0].raw
            and records < BATCH_RECORDS
            and size < BATCH_BYTES
        ):
            taken.append(self._waiting.popleft())
            records += taken[-1].records
            size += taken[-1].size
        self._records -= records
        self._bytes -= size
        return taken

    def _requests(self, taken: list[_Waiting]) -> list[RawRequest]:
        """The requests themselves; of a range on disk its first part, the rest goes back to the front."""
        in_memory = [item.raw for item in taken if item.raw]
        if in_memory or not taken:
            return in_memory
        (item,) = taken
        found = self._journal.raw(item.first, item.last, BATCH_BYTES)
        if found and found[-1].id < item.last:
            with self._changed:
                self._waiting.appendleft(replace(item, first=found[-1].id + 1))
                self._records += item.records
            item.last = found[-1].id
        return found

    def _put_back(self, taken: list[_Waiting]) -> None:
        with self._changed:
            self._waiting.extendleft(reversed(taken))
            self._records += sum(item.records for item in taken)
            self._bytes += sum(item.size for item in taken)

    def _load_held(self) -> Converted:
        """Take up what waited; what nobody understands any more goes on, or becomes a dead letter."""
        left = Converted(Conversion(), time.monotonic_ns())
        intact: list[tuple[int, str, bytes]] = []
        for id_, slot, body in self._journal.held():
            if body is None:
                logger.error("journal: rows that waited (%s) are damaged", slot)
                left.step.released.append(id_)
            else:
                intact.append((id_, slot, body))
        intact = self._take_up.load(intact)
        for id_, slot, body in self._stream.load(intact, left.now):
            left.step.released.append(id_)
            if slot.startswith(KNOWN):
                continue
            if batch := self._stream.waited(slot, body):
                left.events.append(batch)
            else:
                reason = "what kept it back is no longer in the configuration"
                left.step.dead_letters.append(
                    DeadLetter(slot, "held", reason, body, count=from_ipc(body).height)
                )
        return left
