"""What the sandbox has received: the events as they came, and the counts."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from itertools import islice
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json

from otel_moesif_sandbox.applications import means, shortened
from otel_moesif_sandbox.checks import Item

IDS_PER_EVENT = 20
"""Transaction ids are remembered for this many times as many events as the events themselves."""

DISTINCT = 1000
"""Most distinct API names, reasons and so on that are counted one by one; the others count as OTHER."""

OTHER = "(other)"


class Store:
    """Events and counts, in memory.

    Events are kept as JSON text: a tenth of the memory of dicts, and nothing for the garbage collector to
    walk through.

    Args:
        max_events: Events that are kept; beyond that the oldest leave.
    """

    def __init__(self, max_events: int) -> None:
        self._max_ids = max_events * IDS_PER_EVENT
        self._kept: deque[tuple[str | None, bytes, str]] = deque(maxlen=max_events)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._ids: OrderedDict[bytes, None] = OrderedDict()
        self._unique = self._repeated = self._received = self._bytes = self._wire = 0
        self._requests: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._applications: Counter[str] = Counter()
        self._events_of: Counter[str] = Counter()
        self._repeated_of: Counter[str] = Counter()
        self._types: Counter[str] = Counter()
        self._apis: dict[str, Counter[str]] = {}

    def take(self, events: Iterable[Item], application: str) -> None:
        """Take valid events of one application.

        Args:
            events: Each of them parsed, and as JSON.
            application: Its id.
        """
        # One transaction id in two applications is two events; eight bytes tell applications apart.
        whose = blake2b(application.encode(), digest_size=8).digest()
        received, repeated = self._received, self._repeated
        for event, text in events:
            id_ = event.get("transaction_id")
            self._received += 1
            self._kept.append((id_, text, application))
            if id_ is not None and self._seen(whose, id_):
                self._repeated += 1
            else:  # Moesif takes a repeated transaction id once, so it counts once by API and type too
                self._count(event)
        shown = shortened(application)
        _count(self._events_of, shown, self._received - received)
        _count(self._repeated_of, shown, self._repeated - repeated)

    def _count(self, event: Mapping[str, Any]) -> None:
        metadata = event.get("metadata") or {}
        _count(self._types, str(metadata.get("eventType") or "(none)"))
        name = str(metadata.get("apiName") or "(none)")
        if name not in self._apis and len(self._apis) >= DISTINCT:
            name = OTHER
        status = str((event.get("response") or {}).get("status", "(none)"))
        self._apis.setdefault(name, Counter())[status] += 1

    def request(self, status: str, application: str, size: int, wire: int) -> None:
        """Count one answered event request.

        Args:
            status: What was answered; ``dropped`` when the connection was closed instead.
            application: Its id, or empty.
            size: Bytes of the body.
            wire: The same before inflating.
        """
        self._requests[status] += 1
        if application:
            _count(self._applications, shortened(application))
        self._bytes += size
        self._wire += wire

    def reject(self, reason: str) -> None:
        """Count one rejected request under its reason."""
        _count(self._rejected, reason)

    def stats(self) -> dict[str, Any]:
        """All counts, ready for JSON; the README says what each means."""
        return {
            "events": self._received,
            "unique_transaction_ids": self._unique,
            "repeated": self._repeated,
            "kept": len(self._kept),
            "left": self._received - len(self._kept),
            "requests": {"total": self._requests.total(), "by_status": dict(self._requests)},
            "rejected": dict(self._rejected),
            "by_api": {name: dict(statuses) for name, statuses in self._apis.items()},
            "by_event_type": dict(self._types),
            "by_application": dict(self._applications),
            "events_by_application": {
                shown: {"events": events, "repeated": self._repeated_of[shown]}
                for shown, events in self._events_of.items()
            },
            "bytes": {"received": self._wire, "inflated": self._bytes},
        }

    def page(
        self, offset: int, limit: int, transaction_id: str | None = None, application: str | None = None
    ) -> bytes:
        """Some of the kept events as JSON: ``{"total", "offset", "next_offset", "events": [...]}``.

        Args:
            offset: Number of the first event wanted; events are numbered from 0 in the order of arrival, and
                keep their number when older ones leave.
            limit: Most events in the answer.
            transaction_id: Only events with this id; then offset and limit count among those.
            application: The same for those of an application: its id, or what is shown of it.
        """
        if transaction_id is None and application is None:
            first = self._received - len(self._kept)
            offset = max(offset, first)
            texts = (text for _, text, _ in self._kept)
            found = list(islice(texts, offset - first, offset - first + limit))
            total = self._received
        else:
            matching = [
                text
                for id_, text, whose in self._kept
                if transaction_id in {None, id_} and means(application, whose)
            ]
            found = matching[offset : offset + limit]
            total = len(matching)
        head = to_json({"total": total, "offset": offset, "next_offset": offset + len(found)})
        return head[:-1] + b',"events":[' + b",".join(found) + b"]}"

    def parsed(self, application: str | None = None) -> list[dict[str, Any]]:
        """The kept events, oldest first: all, or those of an application (its id, or what is shown of it)."""
        return [from_json(text) for _, text, whose in self._kept if means(application, whose)]

    def transaction_ids(self) -> list[str]:
        """Transaction ids of the kept events, oldest first, repeated ones repeatedly."""
        return [id_ for id_, _, _ in self._kept if id_ is not None]

    def _seen(self, whose: bytes, transaction_id: str) -> bool:
        """Remember an id; whether it was known."""
        key = whose + UUID(transaction_id).bytes  # bytes: small, and upper or lower case no matter
        if key in self._ids:
            return True
        if len(self._ids) >= self._max_ids:
            self._ids.popitem(last=False)  # of a plain dict that would scan what was deleted before
        self._ids[key] = None
        self._unique += 1
        return False


def _count(counter: Counter[str], key: str, more: int = 1) -> None:
    counter[key if key in counter or len(counter) < DISTINCT else OTHER] += more
