"""The way in: checks requests, stores them, and only then lets the receiver acknowledge.

Natural batching, without a timer: a worker thread takes whatever waits as one group; while it stores that
group, the next one forms. A group costs one commit however many requests it has.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData, Refused
from otel_moesif.journal import Journal, RawRequest
from otel_moesif.otlp.decode import check
from otel_moesif.telemetry import Telemetry

logger = logging.getLogger(__name__)

# A group ends here, so that no request waits long for its neighbours' commit.
_GROUP_BYTES = 8 << 20
_GROUP_REQUESTS = 512
_RETRY_AFTER = 1.0
_RETRY_AFTER_DISK = 5.0


@dataclass(slots=True)
class _Waiting:
    raw: RawRequest
    transport: str
    answer: asyncio.Future[None]
    count: int = 0


_Outcome: TypeAlias = tuple[_Waiting, Exception | None]


class Intake:
    """Takes requests from all receivers into the journal.

    Args:
        journal: Where they are stored.
        telemetry: Counts what is accepted, refused and rejected.
        max_bytes: Most bytes that may wait; beyond it requests are refused.
        stored: Called from the worker thread with what was just stored, and how many records each holds.
    """

    def __init__(
        self,
        journal: Journal,
        telemetry: Telemetry,
        max_bytes: int,
        stored: Callable[[list[RawRequest], list[int]], None],
    ) -> None:
        self._journal = journal
        self._telemetry = telemetry
        self._max_bytes = max_bytes
        self._stored = stored
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._open = False
        self._thread = threading.Thread(target=self._work, name="intake", daemon=True)

    def start(self) -> None:
        """Begin to take requests."""
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._thread.start()

    async def shutdown(self) -> None:
        """Store and acknowledge what still waits, then refuse everything; safe unstarted and twice."""
        if self._open:
            self._open = False
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def bind(self, receiver: str, signals: frozenset[Signal]) -> BoundIntake:
        """The intake as one receiver sees it."""
        return BoundIntake(self, receiver, signals)

    async def accept(self, receiver: str, signal: Signal, request: bytes, transport: str) -> None:
        """See `otel_moesif.component.Intake.accept`."""
        if not request:  # OTLP specification: an empty request is a success
            return
        size = len(request)
        if not self._open or self._waiting_bytes + size > self._max_bytes:
            reason = "intake is full" if self._open else "shutting down"
            self._count_refused(receiver, transport, 1, reason)
            raise Refused(f"not stored: {reason}; try again", _RETRY_AFTER)
        self._waiting_bytes += size
        answer = self._loop.create_future()
        self._queue.put(_Waiting(RawRequest(receiver, signal, request), transport, answer))
        try:
            # A client that gives up does not undo what the worker is about to store.
            await asyncio.shield(answer)
        finally:
            self._waiting_bytes -= size

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            group, last = self._take(first)
            self._store(group)
            if last:
                break

    def _take(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        """Everything that waits now, up to the size of a group; and whether the end was among it."""
        group, size = [first], len(first.raw.body)
        while len(group) < _GROUP_REQUESTS and size < _GROUP_BYTES:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return group, True
            group.append(item)
            size += len(item.raw.body)
        return group, False

    def _store(self, group: list[_Waiting]) -> None:
        outcomes: list[_Outcome] = []
        good: list[_Waiting] = []
        for item in group:  # one step per request, never per span
            try:
                item.count = check(item.raw.signal, item.raw.body)
            except InvalidData as error:
                outcomes.append((item, error))
            else:
                good.append(item)
        full = [item for item in good if item.count]
        failure: Exception | None = None
        try:
            ids = self._journal.append([item.raw for item in full]) if full else []
        except sqlite3.Error as error:
            logger.error("journal: cannot store: %s; senders are told to retry", error)  # noqa: TRY400 - the disk's state, not a bug
            failure = Refused("not stored: the journal cannot be written; try again", _RETRY_AFTER_DISK)
        except Exception:
            # Nobody must wait for ever, not even for a bug of ours.
            logger.exception("intake: cannot store")
            failure = Refused("not stored: internal error; try again", _RETRY_AFTER_DISK)
        else:
            stored = [replace(item.raw, id=id_) for item, id_ in zip(full, ids, strict=True)]
            self._stored(stored, [item.count for item in full])
        outcomes += [(item, failure) for item in good]
        self._loop.call_soon_threadsafe(_answer, outcomes)
        self._count(outcomes)

    def _count(self, outcomes: list[_Outcome]) -> None:
        accepted: dict[tuple[str, Signal, str], int] = {}
        for item, error in outcomes:
            attributes = {"receiver": item.raw.receiver, "transport": item.transport}
            if error is None:
                key = (item.raw.receiver, item.raw.signal, item.transport)
                accepted[key] = accepted.get(key, 0) + item.count
            elif isinstance(error, InvalidData):
                self._telemetry.rejected.add(1, {**attributes, "reason": "malformed"})
            else:
                self._count_refused(item.raw.receiver, item.transport, 1, "journal")
        for (receiver, signal, transport), count in accepted.items():
            self._telemetry.accepted[signal].add(count, {"receiver": receiver, "transport": transport})

    def _count_refused(self, receiver: str, transport: str, requests: int, reason: str) -> None:
        attributes = {"receiver": receiver, "transport": transport, "reason": reason}
        self._telemetry.refused.add(requests, attributes)


def _answer(outcomes: list[_Outcome]) -> None:
    for item, error in outcomes:
        if item.answer.done():
            continue
        if error is None:
            item.answer.set_result(None)
        else:
            item.answer.set_exception(error)


@dataclass(frozen=True)
class BoundIntake:
    """The intake of one receiver; see `otel_moesif.component.Intake`."""

    intake: Intake
    receiver: str
    signals: frozenset[Signal]

    async def accept(self, signal: Signal, request: bytes, *, transport: str) -> None:
        await self.intake.accept(self.receiver, signal, request, transport)
