"""The way in: checks requests, stores them, and only then lets the receiver acknowledge.

Bad records of a request are left out, and the receipt says so; the good ones are stored first.

Natural batching, without a timer: a worker thread takes whatever waits as one group; while it stores that
group, the next one forms. A group costs one commit however many requests it has.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from otel_moesif.component import Receipt, Signal
from otel_moesif.errors import InvalidData, Refused, TooLarge, describe
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import RawRequest, Stored
from otel_moesif.otlp.check import Checked, NothingTakenError, check, too_large
from otel_moesif.otlp.limits import DEFAULT, Limits
from otel_moesif.otlp.origin import with_attributes
from otel_moesif.own_thread import in_own_thread
from otel_moesif.reserved import RESERVED
from otel_moesif.telemetry import Telemetry
from otel_moesif.trouble import Trouble

logger = logging.getLogger(__name__)

# A group ends here, so that no request waits long for its neighbours' commit.
_GROUP_BYTES = 8 << 20
_GROUP_REQUESTS = 512
_RETRY_AFTER = 1.0
_RETRY_AFTER_DISK = 5.0
# What goes on for long is said again after so long.
_SAY_SECONDS = 60.0

_NOTHING = Checked(0, b"")


@dataclass(slots=True)
class _Waiting:
    raw: RawRequest
    transport: str
    answer: asyncio.Future[Receipt]
    metadata: Mapping[str, str] | None
    checked: Checked = _NOTHING


_Outcome: TypeAlias = tuple[_Waiting, Exception | None]


class Intake:
    """Takes requests from all receivers into the journal.

    Args:
        journal: Where they are stored.
        telemetry: Counts what is accepted, refused and rejected.
        max_bytes: Most bytes that may wait; beyond it requests are refused.
        stored: Called from the worker thread with what was just stored, and how many records each holds.
        dropped: Called from the worker thread when events made room: none is left before this id.
        limits: What one request may hold.
    """

    def __init__(
        self,
        journal: Journal,
        telemetry: Telemetry,
        max_bytes: int,
        stored: Callable[[list[RawRequest], list[int]], None],
        dropped: Callable[[int], None] = lambda _: None,
        limits: Limits = DEFAULT,
    ) -> None:
        self._journal = journal
        self._telemetry = telemetry
        self._max_bytes = max_bytes
        self._stored = stored
        self._dropped = dropped
        # What can never wait here shall not be told to come again.
        self._limits = replace(limits, request_bytes=min(limits.request_bytes, max_bytes))
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._trouble = Trouble(logger, "taking requests again")
        self._say_dropping = 0.0
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
            await in_own_thread(self._thread.join)

    def bind(self, receiver: str, signals: frozenset[Signal]) -> BoundIntake:
        """The intake as one receiver sees it."""
        return BoundIntake(self, receiver, signals)

    async def accept(
        self,
        receiver: str,
        signal: Signal,
        request: bytes,
        transport: str,
        metadata: Mapping[str, str] | None = None,
    ) -> Receipt:
        """See `otel_moesif.component.Intake.accept`."""
        if not request:  # OTLP specification: an empty request is a success
            return Receipt()
        size = len(request)
        if size > self._limits.request_bytes:
            error = TooLarge(too_large(size, self._limits))
            self._count_rejected(receiver, transport, error)
            raise error
        if not self._open or self._waiting_bytes + size > self._max_bytes:
            reason = "intake is full" if self._open else "shutting down"
            self._count_refused(receiver, transport, reason)
            raise Refused(f"not stored: {reason}; try again", _RETRY_AFTER, reason)
        self._waiting_bytes += size
        answer: asyncio.Future[Receipt] = self._loop.create_future()

        def done(answer: asyncio.Future[Receipt]) -> None:
            self._waiting_bytes -= size
            answer.exception()  # perhaps nobody else asks for it

        answer.add_done_callback(done)
        self._queue.put(_Waiting(RawRequest(receiver, signal, request), transport, answer, metadata))
        # A client that gives up does not undo what the worker is about to store; until then it takes room.
        return await asyncio.shield(answer)

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
            if error := self._examine(item):
                outcomes.append((item, error))
            else:
                good.append(item)
        full = [item for item in good if item.checked.count]
        failure = self._append(full) if full else None
        outcomes += [(item, failure if item.checked.count else None) for item in good]
        self._loop.call_soon_threadsafe(_answer, outcomes)
        self._count(outcomes)

    def _append(self, group: list[_Waiting]) -> Refused | None:
        """Store a group and pass it on; says why if it could not be stored."""
        try:
            stored = self._journal.append([item.raw for item in group])
            requests = [replace(item.raw, id=id_) for item, id_ in zip(group, stored.ids, strict=True)]
            self._stored(requests, [item.checked.count for item in group])
            self._count_dropped(stored)
        except Refused as error:
            failure = error
        except sqlite3.Error as error:
            text = f"not stored: the journal cannot be written ({error}); try again"
            failure = Refused(text, _RETRY_AFTER_DISK, "journal")
        except Exception as error:  # noqa: BLE001 - nobody must wait for ever, not even for a bug of ours
            return self._bug(error)
        else:
            self._trouble.works()
            return None
        self._trouble.fails(failure.reason, "%s: senders are told to retry", failure)
        return failure

    def _bug(self, error: Exception) -> Refused:
        said = describe(error)
        self._trouble.fails(said, "intake: unexpected %s: the sender is told to retry", said)
        return Refused("not stored: internal error; try again", _RETRY_AFTER_DISK, "bug")

    def _examine(self, item: _Waiting) -> Exception | None:
        """Put what can be taken of a request in its place; says why if that is nothing."""
        try:
            item.checked = check(item.raw.signal, item.raw.body, self._limits)
            body = item.checked.body
            if (
                item.metadata or RESERVED.encode() in body
            ):  # also where nothing is attached, nobody may claim it
                body = with_attributes(body, item.metadata or {})
            item.raw = replace(item.raw, body=body)
        except InvalidData as error:
            return error
        except Exception as error:  # noqa: BLE001 - as in `_append`
            return self._bug(error)
        return None

    def _count(self, outcomes: list[_Outcome]) -> None:
        accepted: Counter[tuple[str, Signal, str]] = Counter()
        rejected: Counter[tuple[str, Signal, str, str]] = Counter()
        for item, error in outcomes:
            key = (item.raw.receiver, item.raw.signal, item.transport)
            if error is None:
                accepted[key] += item.checked.count
                reasons = item.checked.reasons
            elif isinstance(error, InvalidData):
                self._count_rejected(item.raw.receiver, item.transport, error)
                reasons = error.reasons if isinstance(error, NothingTakenError) else {}
            else:
                reasons = {}
                reason = error.reason if isinstance(error, Refused) else "bug"
                self._count_refused(item.raw.receiver, item.transport, reason)
            for reason, count in reasons.items():
                rejected[*key, reason] += count
        for (receiver, signal, transport), count in accepted.items():
            self._telemetry.accepted[signal].add(count, {"receiver": receiver, "transport": transport})
        for (receiver, signal, transport, reason), count in rejected.items():
            attributes = {"receiver": receiver, "transport": transport, "signal": signal, "reason": reason}
            self._telemetry.rejected_records.add(count, attributes)

    def _count_rejected(self, receiver: str, transport: str, error: InvalidData) -> None:
        reason = getattr(error, "reason", "malformed")
        self._telemetry.rejected.add(1, {"receiver": receiver, "transport": transport, "reason": reason})

    def _count_refused(self, receiver: str, transport: str, reason: str) -> None:
        attributes = {"receiver": receiver, "transport": transport, "reason": reason}
        self._telemetry.refused.add(1, attributes)

    def _count_dropped(self, stored: Stored) -> None:
        if stored.dropped_to:
            self._dropped(stored.dropped_to)
        if any(stored.dropped.values()) and time.monotonic() >= self._say_dropping:
            self._say_dropping = time.monotonic() + _SAY_SECONDS
            logger.warning(
                "the journal is full: the oldest events leave undelivered, as service.journal.on_full says"
            )
        for exporter, count in stored.dropped.items():
            if count:
                self._telemetry.dropped_events.add(count, {"exporter": exporter, "reason": "journal is full"})
        for kind, count in (("dead letters", stored.dropped_letters), ("kept requests", stored.dropped_kept)):
            if count:
                self._telemetry.dropped_rows.add(count, {"kind": kind, "reason": "journal is full"})


def _answer(outcomes: list[_Outcome]) -> None:
    for item, error in outcomes:
        if item.answer.done():
            continue
        if error is None:
            item.answer.set_result(Receipt(item.checked.rejected, item.checked.message))
        else:
            item.answer.set_exception(error)


@dataclass(frozen=True)
class BoundIntake:
    """The intake of one receiver; see `otel_moesif.component.Intake`."""

    intake: Intake
    receiver: str
    signals: frozenset[Signal]

    async def accept(
        self, signal: Signal, request: bytes, *, transport: str, metadata: Mapping[str, str] | None = None
    ) -> Receipt:
        return await self.intake.accept(self.receiver, signal, request, transport, metadata)
