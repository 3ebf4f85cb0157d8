"""The journal: what was acknowledged, until every exporter has it. SQLite, one file.

Durability: `Journal.append` is followed by an acknowledgement, so it alone waits for the disk
(``service.journal.fsync: commit``). All else may be lost by a power cut, but only from the end of the log,
and only what came after the last synced commit: conversion and delivery then step back *together*, and are
repeated under the same transaction ids. docs/durability.md tells what each level survives.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from isal import isal_zlib

from otel_moesif.component import Signal
from otel_moesif.errors import Refused, StartError
from otel_moesif.journal.connection import Role, used_bytes
from otel_moesif.journal.database import Database
from otel_moesif.journal.room import (
    Made,
    delete_delivered,
    drop_events,
    drop_kept,
    drop_letters,
    join,
    read_cursors,
    split,
    waiting,
)
from otel_moesif.journal.rows import (
    Chunk,
    Conversion,
    DeadLetter,
    InboxItem,
    NewChunk,
    Position,
    RawRequest,
    ReplayPart,
    Stored,
)
from otel_moesif.journal.schema import checksum
from otel_moesif.journal.settings import JournalSettings, OnFull

# isal's level 0 costs 0.8 µs a span and leaves a fifth; level 1 a quarter more for a sixth.
_COMPRESSION = 0
_RETRY_AFTER_FULL = 5.0
_SIGNALS = {signal.value: signal for signal in Signal}
_ADD_RAW = "insert into raw (time, receiver, signal, crc, body) values (?, ?, ?, ?, ?)"
_KEEP_RAW = (  # a journal that was made anew may have both what was deleted and what came in its place
    "insert or replace into kept (id, time, receiver, signal, crc, body)"
    " select id, time, receiver, signal, crc, body from raw where id = ?"
)
_READ_RAW = "select id, receiver, signal, crc, body from raw where id between ? and ? order by id"
_READ_KEPT = "select id, receiver, signal, crc, body from kept where id > ? and id <= ? order by id"


class Journal:
    """The journal in one directory; the directory belongs to one collector at a time.

    Args:
        settings: Where, how durable, how large, and what is kept.

    Raises:
        StartError: The directory cannot be used, or another process uses it.
    """

    def __init__(self, settings: JournalSettings) -> None:
        self._settings = settings
        self.database = Database(settings)

    def close(self) -> None:
        """Give the directory free; safe twice."""
        self.database.close()

    @property
    def keeps_raw(self) -> bool:
        """Whether converted requests are kept for a replay; not while the disk is full."""
        return bool(self._settings.keep_raw) and self.database.reserve.held

    # -- intake ---------------------------------------------------------------------------------------

    def append(self, requests: Sequence[RawRequest]) -> Stored:
        """Store requests; when this returns they are as safe as ``service.journal.fsync`` says.

        Raises:
            Refused: There is no room. Nothing was stored.
            sqlite3.Error: Nothing was stored.
        """
        if not self.database.reserve.held:
            raise Refused("not stored: the disk is full; try again", _RETRY_AFTER_FULL, "disk is full")
        self.database.shorten_log()
        now = time.time()
        bodies = [isal_zlib.compress(raw.body, _COMPRESSION) for raw in requests]
        rows = [
            (now, raw.receiver, raw.signal.value, checksum(body), body)
            for raw, body in zip(requests, bodies, strict=True)
        ]
        with self.database.transaction(Role.INTAKE) as connection:
            made = self._make_room(connection, sum(map(len, bodies)))
            connection.executemany(_ADD_RAW, rows)
            (last,) = connection.execute("select last_insert_rowid()").fetchone()
        ids = list(range(last - len(rows) + 1, last + 1))
        return Stored(ids, made.dropped, made.letters, made.kept, made.dropped_to)

    def _make_room(self, connection: sqlite3.Connection, size: int) -> Made:
        """See to it that ``size`` more bytes fit below the bound, or refuse them."""
        made = Made()
        leavers = [drop_kept]
        if self._settings.on_full is OnFull.DROP_OLDEST:
            leavers += [drop_events, drop_letters]
        while leavers and used_bytes(connection) + size > self._settings.max_size:
            if not leavers[0](connection, made):
                del leavers[0]
        if not leavers and used_bytes(connection) + size > self._settings.max_size:
            raise Refused("not stored: the journal is full; try again", _RETRY_AFTER_FULL, "journal is full")
        return made

    # -- converter ------------------------------------------------------------------------------------

    def last_raw(self) -> int:
        """The id of the newest raw request; 0 when there is none."""
        return int(self.database.read("select coalesce(max(id), 0) from raw")[0][0])

    def raw(self, first: int, last: int, max_bytes: int) -> list[RawRequest]:
        """Stored requests from id ``first`` to id ``last``: the first one, and more up to ``max_bytes``."""
        return _requests(self.database.rows(_READ_RAW, (first, last)), max_bytes)

    def convert(self, step: Conversion) -> tuple[list[int], list[int]]:
        """Add events and remove the raw requests that they came from, in one transaction.

        What goes goes first: what comes takes its room.

        Returns:
            Ids of the added chunks and of the added held rows.

        Raises:
            sqlite3.Error: Nothing was changed.
        """
        done = [(id_,) for id_ in step.done]
        with self.database.transaction(Role.CONVERTER) as connection:
            if step.keep:
                connection.executemany(_KEEP_RAW, done)
            connection.executemany("delete from raw where id = ?", done)
            connection.executemany("delete from inbox where id = ?", [(id_,) for id_ in step.inbox])
            connection.executemany("delete from held where id = ?", [(id_,) for id_ in step.released])
            chunks = [_add_chunk(connection, chunk) for chunk in step.chunks]
            held = [
                _insert(
                    connection,
                    "insert into held (slot, crc, body) values (?, ?, ?)",
                    (slot, checksum(body), body),
                )
                for slot, body in step.held
            ]
            _add_dead_letters(connection, step.dead_letters)
            if step.replay:
                id_, last, count = step.replay
                connection.execute(
                    "update replays set done_to = ?, done = done + ? where id = ?", (last, count, id_)
                )
            connection.execute("delete from replays where id = ?", (step.replayed,))
        return chunks, held

    def held(self) -> Iterator[tuple[int, str, bytes | None]]:
        """All rows that are kept back: id, slot, Arrow IPC; None where the disk has damaged it."""
        for id_, slot, crc, body in self.database.rows("select id, slot, crc, body from held order by id"):
            damaged = checksum(body) != crc
            self.database.unreadable += damaged
            yield id_, slot, None if damaged else body

    def inbox(self, max_bytes: int) -> list[InboxItem]:
        """Dead letters that shall be tried again: the first one, and more up to ``max_bytes``."""
        found, size = [], 0
        query = "select id, kind, receiver, origin, count, crc, body from inbox order by id"
        for id_, kind, receiver, origin, count, crc, body in self.database.rows(query):
            found.append(InboxItem(id_, kind, receiver, origin, count, body, checksum(body) != crc))
            size += len(body)
            if size >= max_bytes:
                break
        return found

    def next_replay(self, max_bytes: int) -> ReplayPart | None:
        """What the oldest replay has to do next; None when nobody asked for one."""
        for id_, done_to, last, exporters in self.database.read(
            "select id, done_to, last, exporters from replays order by id limit 1"
        ):
            requests = _requests(self.database.rows(_READ_KEPT, (done_to, last)), max_bytes)
            return ReplayPart(id_, split(exporters), requests, requests[-1].id if requests else last)
        return None

    def forget_replays(self) -> None:
        """Delete rows that waited in a replay which is over, or which somebody has cancelled."""
        over = "slot like 'replay,%' and cast(substr(slot, 8) as integer) not in (select id from replays)"
        if self.database.read(f"select exists (select 1 from held where {over})")[0][0]:  # noqa: S608
            with self.database.transaction(Role.CONVERTER) as connection:
                connection.execute(f"delete from held where {over}")  # noqa: S608

    # -- senders --------------------------------------------------------------------------------------

    def next_chunk(self, exporter: str, start: int) -> Chunk | None:
        """The first stored batch for an exporter whose id is ``start`` or more."""
        query = (
            "select id, count, exporters, crc, body from events where id >= ? and instr(exporters, ?)"
            " order by id limit 1"
        )
        for id_, count, exporters, crc, body in self.database.read(query, (start, join([exporter]))):
            return Chunk(id_, count, body, split(exporters), damaged=checksum(body) != crc)
        return None

    def cursors(self) -> dict[str, Position]:
        """Where each exporter that was ever here stands."""
        rows = self.database.read("select exporter, chunk, row from cursors")
        return {name: Position(chunk, row) for name, chunk, row in rows}

    def register(self, exporters: Iterable[str]) -> Mapping[str, Position]:
        """Give each exporter a cursor, if it has none, and mark those that run; returns all cursors.

        Raises:
            StartError: There is no room on the disk for it.
        """
        names = [(name,) for name in exporters]
        if {*names} != {*self.database.read("select exporter from cursors where active")}:
            try:
                self._register(names)
            except sqlite3.Error:
                try:
                    self._register(names)  # the reserve was given up for it
                except sqlite3.Error as error:
                    raise StartError(f"journal: cannot write {self.database.path}: {error}") from None
        return self.cursors()

    def _register(self, names: Sequence[tuple[str]]) -> None:
        with self.database.transaction(Role.SENDERS) as connection:
            connection.execute("update cursors set active = 0")
            connection.executemany(
                "insert into cursors values (?, 0, 0, 1) on conflict do update set active = 1", names
            )

    def advance(self, exporter: str, position: Position, dead_letters: Sequence[DeadLetter] = ()) -> None:
        """Move a cursor and delete what lies behind every cursor.

        Args:
            exporter: Whose cursor.
            position: Where it stands now.
            dead_letters: What was given up on the way; stored in the same transaction.
        """
        with self.database.transaction(Role.SENDERS) as connection:
            _add_dead_letters(connection, dead_letters)
            cursors = read_cursors(connection)
            before = cursors.get(exporter, Position())
            cursors[exporter] = position
            connection.execute(  # of a damaged journal it may be gone
                "insert into cursors values (?, ?, ?, 1)"
                " on conflict do update set chunk = excluded.chunk, row = excluded.row",
                (exporter, *position),
            )
            # older ones of its own would have gone by now, but for others that have not passed them yet
            delete_delivered(connection, cursors, before.chunk, position.chunk)

    def backlog(self) -> dict[str, int]:
        """How many events wait for each exporter; a partly sent batch counts from its cursor on."""
        found: Counter[str] = Counter()
        cursors = self.cursors()
        for id_, exporters, count in self.database.rows("select id, exporters, count from events"):
            for name in split(exporters):
                found[name] += waiting(id_, count, cursors.get(name, Position()))
        return dict(found)

    # -- housekeeping ---------------------------------------------------------------------------------

    def size(self) -> int:
        """Bytes on disk."""
        found = 0
        for file in self.database.directory.glob("journal.db*"):
            with suppress(FileNotFoundError):  # SQLite's, just deleted
                found += file.stat().st_size
        return found

    def has_kept(self) -> bool:
        """Whether there are converted requests, kept for a replay."""
        return bool(self.database.read("select exists (select 1 from kept)")[0][0])

    def forget_kept(self) -> None:
        """Delete what was kept long enough, but nothing that a replay still has to do."""
        oldest = time.time() - self._settings.keep_raw.total_seconds()
        query = (
            "delete from kept where time < ? and not exists"
            " (select 1 from replays where kept.id > done_to and kept.id <= last)"
        )
        if self.database.read("select exists (select 1 from kept where time < ?)", (oldest,))[0][0]:
            with self.database.transaction(Role.CONVERTER) as connection:
                connection.execute(query, (oldest,))


def _requests(rows: Iterator[tuple[int, str, str, int, bytes]], max_bytes: int) -> list[RawRequest]:
    found, size = [], 0
    for id_, receiver, signal, crc, stored in rows:
        damaged = checksum(stored) != crc or signal not in _SIGNALS
        body = stored if damaged else isal_zlib.decompress(stored)
        found.append(RawRequest(receiver, _SIGNALS.get(signal, Signal.TRACES), body, id_, damaged))
        size += len(body)
        if size >= max_bytes:
            break
    return found


def _add_chunk(connection: sqlite3.Connection, chunk: NewChunk) -> int:
    statement = "insert into events (time, exporters, count, crc, body) values (?, ?, ?, ?, ?)"
    values = (time.time(), join(chunk.exporters), chunk.count, checksum(chunk.body), chunk.body)
    return _insert(connection, statement, values)


def _insert(connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> int:
    return int(connection.execute(statement, values).lastrowid or 0)


def _add_dead_letters(connection: sqlite3.Connection, letters: Iterable[DeadLetter]) -> None:
    now = time.time()
    connection.executemany(
        "insert into dead_letters"
        " (time, origin, kind, receiver, reason, response, attempts, count, crc, body)"
        " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                now,
                x.origin,
                x.kind,
                x.receiver,
                x.reason,
                x.response,
                x.attempts,
                x.count,
                checksum(x.body),
                x.body,
            )
            for x in letters
        ],
    )
