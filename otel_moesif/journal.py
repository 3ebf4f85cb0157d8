"""The journal: what was acknowledged, until every exporter has it. SQLite, one file.

Tables: ``raw`` holds accepted requests until they are converted; ``events`` holds batches of events (Arrow
IPC) until the cursor of each exporter named with them has passed; ``held`` holds rows that a processor
keeps back; ``dead_letters`` what nobody could take.

Durability: `append` is followed by an acknowledgement, so it alone runs with ``synchronous=FULL`` (the
commit is on disk). All else runs with NORMAL: after a power loss the write-ahead log keeps a prefix of what
was committed, so that conversion and delivery step back *together*, and are repeated under the same
transaction ids. Nothing acknowledged is in the part that can be lost, since a later FULL commit syncs all
that came before it.

Threads: any. One lock orders the writers, which spares them SQLite's busy polling.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from isal import isal_zlib

from otel_moesif.component import Signal
from otel_moesif.errors import StartError

_VERSION = 1
_SCHEMA = """
create table raw (
  id integer primary key autoincrement, receiver text not null, signal text not null, body blob not null
);
create table events (
  id integer primary key autoincrement, exporters text not null, count integer not null, body blob not null
);
create table cursors (exporter text primary key, chunk integer not null, row integer not null) without rowid;
create table held (id integer primary key autoincrement, slot text not null, body blob not null);
create table dead_letters (
  id integer primary key autoincrement, time real not null, origin text not null, kind text not null,
  reason text not null, attempts integer not null, count integer not null, body blob not null
);
"""
# isal's level 0 costs 0.8 µs a span and leaves a fifth; level 1 a quarter more for a sixth.
_COMPRESSION = 0
# Checkpoints run on the converter's connection, at this many pages of write-ahead log (16 MiB), and so
# never in the way of an acknowledgement.
_CHECKPOINT_PAGES = 4096


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One accepted export request.

    Attributes:
        receiver: Id of the receiver that took it.
        signal: Which of the OTLP services.
        body: The serialized request.
        id: Its place in the journal; 0 before it is stored.
    """

    receiver: str
    signal: Signal
    body: bytes
    id: int = 0


class Position(NamedTuple):
    """How far an exporter is: every chunk before ``chunk``, and that chunk's first ``row`` events."""

    chunk: int = 0
    row: int = 0


class Chunk(NamedTuple):
    """A stored batch of events."""

    id: int
    body: bytes


@dataclass(frozen=True)
class DeadLetter:
    """What could not be processed or delivered.

    Attributes:
        origin: Pipeline or exporter id.
        kind: ``traces`` or ``logs`` (a raw request) or ``events`` (Arrow IPC).
        reason: Why, for people.
        attempts: How often it was tried.
        count: How many events, or requests.
        body: The thing itself.
    """

    origin: str
    kind: str
    reason: str
    body: bytes
    attempts: int = 1
    count: int = 1


@dataclass
class Conversion:
    """What one step of the converter changes, all of it or nothing.

    Attributes:
        done: Ids of the raw requests that were converted.
        chunks: Events to add: ids of the exporters that get them, how many, Arrow IPC.
        held: Rows to keep back: slot, Arrow IPC.
        released: Ids of held rows that wait no more.
        dead_letters: Requests that no processor could take.
    """

    done: Sequence[int] = ()
    chunks: list[tuple[Sequence[str], int, bytes]] = field(default_factory=list)
    held: list[tuple[str, bytes]] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


class Journal:
    """The journal in one directory; the directory belongs to one process at a time.

    Args:
        directory: Made if absent.

    Raises:
        StartError: The directory cannot be used, or another process uses it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._write_lock = threading.Lock()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._process_lock = (directory / "journal.lock").open("a")
            fcntl.flock(self._process_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"journal: {directory} is in use by another collector (set service.journal.directory)"
            ) from None
        except OSError as error:
            raise StartError(f"journal: cannot use directory {directory}: {error.strerror}") from None
        try:
            self._intake = self._connect("FULL")
            self._prepare()
            self._worker = self._connect("NORMAL")
            self._senders = self._connect("NORMAL")
            self._reader = self._connect("NORMAL")
        except sqlite3.Error as error:
            raise StartError(f"journal: cannot open {self.path}: {error}") from None
        self._reader_lock = threading.Lock()

    @property
    def path(self) -> Path:
        """The database file."""
        return self.directory / "journal.db"

    def close(self) -> None:
        """Close the connections and give the directory free; safe twice."""
        with self._write_lock, self._reader_lock:
            for connection in (self._reader, self._senders, self._worker, self._intake):
                connection.close()
            self._process_lock.close()

    # -- intake ---------------------------------------------------------------------------------------

    def append(self, requests: Sequence[RawRequest]) -> list[int]:
        """Store requests; when this returns they are on disk.

        Returns:
            Their ids, in order.

        Raises:
            sqlite3.Error: Nothing was stored.
        """
        rows = [
            (raw.receiver, raw.signal.value, isal_zlib.compress(raw.body, _COMPRESSION)) for raw in requests
        ]
        with self._transaction(self._intake) as connection:
            connection.executemany("insert into raw (receiver, signal, body) values (?, ?, ?)", rows)
            (last,) = connection.execute("select last_insert_rowid()").fetchone()
        return list(range(last - len(rows) + 1, last + 1))

    # -- converter ------------------------------------------------------------------------------------

    def last_raw(self) -> int:
        """The id of the newest raw request; 0 when there is none."""
        return int(self._read("select coalesce(max(id), 0) from raw")[0][0])

    def raw(self, first: int, last: int, max_bytes: int) -> list[RawRequest]:
        """Stored requests from id ``first`` to id ``last``: the first one, and more up to ``max_bytes``."""
        found, size = [], 0
        with self._reader_lock:
            query = "select id, receiver, signal, body from raw where id between ? and ? order by id"
            for id_, receiver, signal, body in self._reader.execute(query, (first, last)):
                found.append(RawRequest(receiver, Signal(signal), isal_zlib.decompress(body), id_))
                size += len(found[-1].body)
                if size >= max_bytes:
                    break
        return found

    def convert(self, step: Conversion) -> tuple[list[int], list[int]]:
        """Add events and remove the raw requests that they came from, in one transaction.

        Returns:
            Ids of the added chunks and of the added held rows.

        Raises:
            sqlite3.Error: Nothing was changed.
        """
        with self._transaction(self._worker) as connection:
            chunks = [
                _insert(
                    connection,
                    "insert into events (exporters, count, body) values (?, ?, ?)",
                    (_join(exporters), count, body),
                )
                for exporters, count, body in step.chunks
            ]
            held = [
                _insert(connection, "insert into held (slot, body) values (?, ?)", row) for row in step.held
            ]
            connection.executemany("delete from held where id = ?", [(id_,) for id_ in step.released])
            _add_dead_letters(connection, step.dead_letters)
            connection.executemany("delete from raw where id = ?", [(id_,) for id_ in step.done])
        if self._log_is_long():
            self._worker.execute("pragma wal_checkpoint(passive)")
        return chunks, held

    def held(self) -> Iterable[tuple[int, str, bytes]]:
        """All rows that processors keep back: id, slot, Arrow IPC."""
        return self._read("select id, slot, body from held order by id")

    # -- senders --------------------------------------------------------------------------------------

    def next_chunk(self, exporter: str, start: int) -> Chunk | None:
        """The first stored batch for an exporter whose id is ``start`` or more."""
        query = "select id, body from events where id >= ? and instr(exporters, ?) order by id limit 1"
        rows = self._read(query, (start, _join([exporter])))
        return Chunk(*rows[0]) if rows else None

    def cursors(self) -> dict[str, Position]:
        """Where each exporter that was ever here stands."""
        return {name: Position(chunk, row) for name, chunk, row in self._read("select * from cursors")}

    def register(self, exporters: Iterable[str]) -> Mapping[str, Position]:
        """Give each exporter a cursor, if it has none; returns all of theirs."""
        with self._transaction(self._senders) as connection:
            connection.executemany(
                "insert or ignore into cursors values (?, 0, 0)", [(name,) for name in exporters]
            )
        return self.cursors()

    def advance(self, exporter: str, position: Position, dead_letters: Sequence[DeadLetter] = ()) -> None:
        """Move a cursor and delete what lies behind every cursor.

        Args:
            exporter: Whose cursor.
            position: Where it stands now.
            dead_letters: What was given up on the way; stored in the same transaction.
        """
        with self._transaction(self._senders) as connection:
            _add_dead_letters(connection, dead_letters)
            connection.execute(
                "update cursors set chunk = ?, row = ? where exporter = ?", (*position, exporter)
            )
            cursors = dict(connection.execute("select exporter, chunk from cursors"))
            for (exporters,) in connection.execute("select distinct exporters from events").fetchall():
                passed = min(cursors.get(name, 0) for name in exporters.strip(",").split(","))
                connection.execute("delete from events where exporters = ? and id < ?", (exporters, passed))

    def backlog(self) -> dict[str, int]:
        """How many events wait for each exporter; a partly sent batch counts from its cursor on."""
        waiting: dict[str, int] = {}
        cursors = self.cursors()
        for id_, exporters, count in self._read("select id, exporters, count from events"):
            for name in exporters.strip(",").split(","):
                chunk, row = cursors.get(name, Position())
                left = count if id_ > chunk else count - row if id_ == chunk else 0
                waiting[name] = waiting.get(name, 0) + left
        return waiting

    def dead_letters(self) -> list[DeadLetter]:
        """Everything that was given up, oldest first."""
        query = "select origin, kind, reason, body, attempts, count from dead_letters order by id"
        return [DeadLetter(*row) for row in self._read(query)]

    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.directory.glob("journal.db*"))

    # -- inside ---------------------------------------------------------------------------------------

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        connection.execute("pragma journal_mode = wal")
        connection.execute(f"pragma synchronous = {synchronous}")
        connection.execute("pragma wal_autocheckpoint = 0")
        return connection

    def _prepare(self) -> None:
        (version,) = self._intake.execute("pragma user_version").fetchone()
        if version > _VERSION:
            raise StartError(f"journal: {self.path} was written by a newer version of otel-moesif")
        if version == 0:
            self._intake.executescript(f"begin; {_SCHEMA} pragma user_version = {_VERSION}; commit;")

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        with self._write_lock:
            connection.execute("begin immediate")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise

    def _read(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        with self._reader_lock:
            return self._reader.execute(query, parameters).fetchall()

    def _log_is_long(self) -> bool:
        log = self.path.with_name("journal.db-wal")
        return log.exists() and log.stat().st_size > _CHECKPOINT_PAGES * 4096


def _insert(connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> int:
    return int(connection.execute(statement, values).lastrowid or 0)


def _add_dead_letters(connection: sqlite3.Connection, letters: Iterable[DeadLetter]) -> None:
    connection.executemany(
        "insert into dead_letters (time, origin, kind, reason, attempts, count, body)"
        " values (?, ?, ?, ?, ?, ?, ?)",
        [(time.time(), x.origin, x.kind, x.reason, x.attempts, x.count, x.body) for x in letters],
    )


def _join(exporters: Sequence[str]) -> str:
    """``,a,b,``: so that one id is never found inside another. A component id has no comma."""
    return f",{','.join(exporters)},"
