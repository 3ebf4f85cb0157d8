"""What the journal's tables hold, as Python values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from otel_moesif.component import Signal


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One accepted export request.

    Attributes:
        receiver: Id of the receiver that took it.
        signal: Which of the OTLP services.
        body: The serialized request.
        id: Its place in the journal; 0 before it is stored.
        damaged: The disk has changed it; ``body`` is what is left, as it is stored.
    """

    receiver: str
    signal: Signal
    body: bytes
    id: int = 0
    damaged: bool = False


class Position(NamedTuple):
    """How far an exporter is: every chunk before ``chunk``, and that chunk's first ``row`` events."""

    chunk: int = 0
    row: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stored batch of events.

    Attributes:
        count: How many events.
        body: Arrow IPC.
        exporters: Whom it was stored for.
        damaged: Its checksum is wrong: the disk has changed it.
    """

    id: int
    count: int
    body: bytes
    exporters: Sequence[str] = ()
    damaged: bool = False


@dataclass(frozen=True)
class DeadLetter:
    """What could not be processed or delivered.

    Attributes:
        origin: Pipeline or exporter id.
        kind: ``traces`` or ``logs`` (a raw request) or ``events`` (Arrow IPC).
        reason: Why, for people.
        body: The thing itself.
        attempts: How often it was tried.
        count: How many events, or requests.
        receiver: Id of the receiver of a raw request; replay needs it.
        response: The beginning of what the backend answered, where it answered.
        time: When it was given up, seconds since the epoch; 0 before it is stored.
        id: Its place in the journal; 0 before it is stored.
    """

    origin: str
    kind: str
    reason: str
    body: bytes
    attempts: int = 1
    count: int = 1
    receiver: str = ""
    response: str = ""
    time: float = 0.0
    id: int = 0


@dataclass(frozen=True)
class Stored:
    """What an append did.

    Attributes:
        ids: Of the stored requests, in order.
        dropped: Events that made room, by exporter that had not got them yet.
        dropped_letters: Dead letters that made room.
        dropped_kept: Converted requests, kept for a replay, that made room.
        dropped_to: Id of a batch before which none is left; 0 when none was dropped.
    """

    ids: list[int]
    dropped: Mapping[str, int] = field(default_factory=dict)
    dropped_letters: int = 0
    dropped_kept: int = 0
    dropped_to: int = 0


@dataclass(frozen=True)
class InboxItem:
    """A dead letter that somebody wants to be tried again.

    Attributes:
        id: Its place in the inbox.
        kind: As of a `DeadLetter`.
        receiver: Who took it, if it is a raw request.
        origin: The pipeline that shall convert it, or the exporter that shall deliver it.
        count: How many events, or requests.
        body: As of a `DeadLetter`.
        damaged: The disk has changed it.
    """

    id: int
    kind: str
    receiver: str
    origin: str
    count: int
    body: bytes
    damaged: bool


@dataclass(frozen=True)
class ReplayPart:
    """Some of the kept requests that somebody wants to be converted again.

    Attributes:
        id: Of the replay.
        exporters: Who gets the events; nobody named: everybody.
        requests: The next ones; none when all are done.
        last: Id of the last of them.
    """

    id: int
    exporters: Sequence[str]
    requests: Sequence[RawRequest]
    last: int


@dataclass(frozen=True)
class NewChunk:
    """Events to store.

    Attributes:
        exporters: Ids of those that get them.
        count: How many events.
        body: Arrow IPC.
    """

    exporters: Sequence[str]
    count: int
    body: bytes


@dataclass
class Conversion:
    """What one step of the converter changes, all of it or nothing.

    Attributes:
        done: Ids of the raw requests that were converted.
        keep: Whether their raw form is kept for a replay.
        chunks: Events to add.
        held: Rows to keep back: slot, Arrow IPC.
        released: Ids of held rows that wait no more.
        dead_letters: Requests that no processor could take.
        inbox: Ids of what was taken from the inbox.
        replay: A replay that goes on: its id, the last kept request that it has done, how many these were.
        replayed: Id of a replay that is over.
    """

    done: Sequence[int] = ()
    keep: bool = False
    chunks: list[NewChunk] = field(default_factory=list)
    held: list[tuple[str, bytes]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    inbox: Sequence[int] = ()
    replay: tuple[int, int, int] | None = None
    replayed: int = 0
