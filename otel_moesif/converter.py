"""The converter: a few times a second, everything that was stored becomes events.

A pass of expressions costs some milliseconds however few rows it has, so it runs over as much as there is:
when 8,192 records wait, or 200 ms after the first one came. One transaction adds the events (and the rows
that a processor holds back) and removes the raw requests; a crash repeats a step or finds it done.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from otel_moesif.event_log import EventLog
from otel_moesif.events import Events
from otel_moesif.journal import Conversion, DeadLetter, Journal, RawRequest
from otel_moesif.pipeline import Outcome, Pipeline, from_ipc, to_ipc

logger = logging.getLogger(__name__)

LINGER_SECONDS = 0.2
BATCH_RECORDS = 8192
_BATCH_BYTES = 16 << 20
# Requests beyond this are not kept in memory: they are read back from the journal when their turn comes.
_MEMORY_BYTES = 64 << 20
_RETRY_SECONDS = 1.0


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
    """

    def __init__(self, journal: Journal, pipelines: Sequence[Pipeline], log: EventLog) -> None:
        self._journal = journal
        self._pipelines = pipelines
        self._log = log
        self._waiting: deque[_Waiting] = deque()
        self._records = 0
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._deadline = float("inf")
        self._held: dict[str, pl.DataFrame] = {}
        self._thread = threading.Thread(target=self._work, name="converter", daemon=True)

    def start(self) -> None:
        """Take up what an earlier run left, and begin."""
        self._load_held()
        last = self._journal.last_raw()
        if last:
            logger.info("converter: resuming with requests left from an earlier run")
            self._waiting.append(_Waiting(0, last, BATCH_RECORDS, None))
            self._records = BATCH_RECORDS
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
            if (
                idle or self._records >= BATCH_RECORDS
            ):  # a thread woken for each group costs more than the group
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
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            batch: list[RawRequest] = []
            try:
                batch = self._requests(taken)
                self._convert(batch)
            except sqlite3.Error as error:
                logger.error("journal: cannot store events: %s; trying again", error)  # noqa: TRY400 - the disk's state, not a bug
                self._put_back(taken)
            except Exception:
                logger.exception("converter: unexpected error; trying again")
                self._put_back(taken)

    def _next(self) -> list[_Waiting] | None:
        """Wait for a batch worth a pass; None when it is time to end."""
        with self._changed:
            while not self._waiting and not self._stopping:
                self._changed.wait()
            end = time.monotonic() + LINGER_SECONDS
            while self._records < BATCH_RECORDS and not self._stopping:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            if not self._waiting or time.monotonic() > self._deadline:
                return None
            return self._take()

    def _take(self) -> list[_Waiting]:
        """As many requests from memory as make a batch, or one range that is only on disk."""
        taken = [self._waiting.popleft()]
        records, size = taken[0].records, taken[0].size
        while (
            taken[0].raw
            and self._waiting
            and self._waiting[0].raw
            and records < BATCH_RECORDS
            and size < _BATCH_BYTES
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
        if in_memory:
            return in_memory
        (item,) = taken
        found = self._journal.raw(item.first, item.last, _BATCH_BYTES)
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
            self._changed.wait_for(lambda: self._stopping, _RETRY_SECONDS)

    def _convert(self, batch: list[RawRequest]) -> None:
        step = Conversion(done=[raw.id for raw in batch])
        produced: list[tuple[Sequence[str], Events]] = []
        held = dict(self._held)
        taken: set[int] = set()
        for pipeline in self._pipelines:
            requests = [x for x in batch if x.signal is pipeline.signal and x.receiver in pipeline.receivers]
            taken.update(raw.id for raw in requests)
            if requests:
                outcome = pipeline.run(
                    requests, {slot: held[slot] for slot in pipeline.slots if slot in held}
                )
                self._add(step, pipeline, outcome, produced)
                for slot in pipeline.slots:
                    held.pop(slot, None)
                held |= outcome.held
        step.dead_letters += [_unwanted(raw) for raw in batch if raw.id not in taken]
        fresh = self._plan_held(step, held)
        chunks, pieces = self._journal.convert(step)
        self._held = _numbered(held, dict(zip(fresh, pieces, strict=True)))
        self._log.publish([(id_, *rest) for id_, rest in zip(chunks, produced, strict=True)])

    @staticmethod
    def _add(
        step: Conversion, pipeline: Pipeline, outcome: Outcome, produced: list[tuple[Sequence[str], Events]]
    ) -> None:
        step.dead_letters += outcome.dead_letters
        for events in outcome.events:
            step.chunks.append((pipeline.exporters, len(events), events.to_ipc()))
            produced.append((pipeline.exporters, events))

    def _plan_held(self, step: Conversion, held: dict[str, pl.DataFrame]) -> list[str]:
        """Store rows that wait since this batch, release the pieces of which no row waits any more.

        A piece stays as long as one of its rows waits. After a crash its other rows come back too and find
        no partner: harmless, since only the partner makes an event.
        """
        fresh = []
        for slot, rows in held.items():
            new = rows.filter(pl.col("piece").is_null())
            if new.height:
                step.held.append((slot, to_ipc(new)))
                fresh.append(slot)
        for slot, rows in self._held.items():
            before = set(rows["piece"].unique())
            now = set(held[slot]["piece"].unique()) if slot in held else set()
            step.released += sorted(before - now)
        return fresh

    def _load_held(self) -> None:
        slots = {slot for pipeline in self._pipelines for slot in pipeline.slots}
        parts: dict[str, list[pl.DataFrame]] = {}
        for id_, slot, body in self._journal.held():
            if slot in slots:
                parts.setdefault(slot, []).append(from_ipc(body).with_columns(piece=pl.lit(id_, pl.Int64)))
        self._held = {slot: pl.concat(frames, how="diagonal") for slot, frames in parts.items()}


def _unwanted(raw: RawRequest) -> DeadLetter:
    """For a request that was accepted under another configuration: kept, since it was acknowledged."""
    reason = f"no pipeline takes {raw.signal} of receiver {raw.receiver} any more"
    return DeadLetter(raw.receiver, raw.signal.value, reason, raw.body)


def _numbered(held: dict[str, pl.DataFrame], pieces: dict[str, int]) -> dict[str, pl.DataFrame]:
    """Write into new rows under which number they were stored."""
    return {
        slot: rows.with_columns(pl.col("piece").fill_null(pieces[slot])) if slot in pieces else rows
        for slot, rows in held.items()
    }
