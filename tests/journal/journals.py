"""Journals for tests, written by SQLite itself and left as a killed process leaves them."""

# ruff: noqa: S608 - our own names only
from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from otel_moesif.journal.rescue import template
from otel_moesif.journal.salvage import needs_salvage
from otel_moesif.journal.schema import VERSION, checksum, create

PAGE = 4096
STRIDE = PAGE + 24
BODIES = ("raw", "events", "held", "kept", "dead_letters", "inbox")

# The layout before version 2, word for word.
V1 = """
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


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma wal_autocheckpoint = 0")
    return connection


def add(connection: sqlite3.Connection, table: str, body: bytes, **values: object) -> None:
    row = {
        "raw": {"time": 1.0, "receiver": "otlp", "signal": "traces"},
        "kept": {"time": 1.0, "receiver": "otlp", "signal": "logs"},
        "events": {"time": 1.0, "exporters": ",moesif,file,", "count": 10},
        "held": {"slot": "apim_event"},
        "inbox": {"kind": "events", "receiver": "", "origin": "moesif", "count": 3},
        "dead_letters": {
            "time": 1.0,
            "origin": "moesif",
            "kind": "events",
            "receiver": "",
            "reason": "refused",
            "response": "\N{REPLACEMENT CHARACTER}",
            "attempts": 1,
            "count": 2,
        },
    }[table] | {"crc": checksum(body), "body": body, **values}
    connection.execute(
        f"insert into {table} ({', '.join(row)}) values ({', '.join('?' * len(row))})",
        list(row.values()),
    )


Contents = frozenset[tuple[str, bytes]]


def contents(connection: sqlite3.Connection) -> Contents:
    """All bodies that are as they were written."""
    connection.text_factory = lambda text: text.decode(errors="replace")
    return frozenset(
        (table, body)
        for table in BODIES
        for crc, body in connection.execute(f"select crc, body from {table}")
        if isinstance(body, bytes) and checksum(body) == crc
    )


def wrong(connection: sqlite3.Connection) -> int:
    """How many rows a reader would take for damaged."""
    return sum(
        not isinstance(body, bytes) or checksum(body) != crc
        for table in BODIES
        for crc, body in connection.execute(f"select crc, body from {table}")
    )


def cursors(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    return {
        name: (chunk, row)
        for name, chunk, row in connection.execute("select exporter, chunk, row from cursors")
    }


def sequences(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("select name, seq from sqlite_sequence").fetchall())


@dataclass
class Made:
    """A journal with a log.

    Attributes:
        states: What it held after each transaction that is in the log; first, what the database itself holds.
        cursors: Where they stand.
        sequences: The highest id that was given, by table.
    """

    directory: Path
    states: list[Contents] = field(default_factory=list)
    cursors: dict[str, tuple[int, int]] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.directory / "journal.db-wal"

    @property
    def path(self) -> Path:
        return self.directory / "journal.db"

    def copy(self, directory: Path) -> Made:
        directory.mkdir(parents=True)
        for file in self.directory.iterdir():
            shutil.copyfile(file, directory / file.name)
        return Made(directory, self.states, self.cursors, self.sequences)


def leave(source: Path, target: Path) -> None:
    """Copy an open database as a kill would leave it."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("journal.db", "journal.db-wal"):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def make(directory: Path, seed: int = 1) -> Made:
    """A journal in the middle of its work: half of it in the database, half in the log, with deletions."""
    dice = random.Random(seed)  # noqa: S311 - to be the same each time
    made = Made(directory)

    def step(connection: sqlite3.Connection, round_: int) -> None:
        connection.execute("begin immediate")
        for table in BODIES:
            for _ in range(dice.randrange(3)):
                add(connection, table, dice.randbytes(dice.choice((40, 700, 3000, 20_000))))
        if round_ % 3 == 2:
            connection.execute("delete from raw where id = (select min(id) from raw)")
            connection.execute("delete from events where id = (select min(id) from events)")
        connection.execute(
            "update cursors set chunk = coalesce((select min(id) from events), 1), row = row + 1"
        )
        connection.execute("commit")

    work = directory.with_name(f"{directory.name}-work")
    work.mkdir(parents=True)
    with closing(connect(work / "journal.db")) as connection:
        create(connection)
        connection.executemany("insert into cursors values (?, 0, 0, 1)", [("moesif",), ("file",)])
        connection.execute(
            "insert into replays (done_to, last, total, done, exporters) values (3, 9, 6, 2, ',file,')"
        )
        for i in range(12):
            step(connection, i)
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        made.states.append(contents(connection))
        for i in range(12):
            step(connection, i)
            made.states.append(contents(connection))
        made.cursors, made.sequences = cursors(connection), sequences(connection)
        leave(work, directory)
    shutil.rmtree(work)
    return made


def make_v1(directory: Path) -> None:
    """A journal of version 1, closed."""
    directory.mkdir(parents=True)
    with closing(connect(directory / "journal.db")) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.executescript(f"begin; {V1} pragma user_version = 1; commit;")
        for i in range(30):
            body = bytes([i]) * (i * 700)
            connection.execute("insert into raw (receiver, signal, body) values ('otlp', 'logs', ?)", (body,))
            connection.execute("insert into events (exporters, count, body) values (',a,', ?, ?)", (i, body))
            connection.execute("insert into held (slot, body) values ('s', ?)", (body,))
            connection.execute(
                "insert into dead_letters (time, origin, kind, reason, attempts, count, body)"
                " values (5.0, 'a', 'events', 'r', 2, 3, ?)",
                (body,),
            )
        connection.execute("insert into cursors values ('a', 7, 3)")
        connection.execute("delete from raw where id > 28 or id < 3")
        connection.execute("delete from events where id < 7")


def change(path: Path, at: int, new: bytes | Callable[[bytes], bytes], length: int = 0) -> None:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        if callable(new):
            old = file.read(length)
            file.seek(at)
            new = new(old)
        file.write(new)


def held_now(directory):
    with closing(connect(directory / "journal.db")) as connection:
        return contents(connection)


def checked(directory):
    """The journal is one that the collector can use."""
    assert needs_salvage(directory) is None
    connection = connect(directory / "journal.db")
    assert connection.execute("pragma quick_check").fetchall() == [("ok",)]
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    assert connection.execute("pragma auto_vacuum").fetchone() == (2,)
    assert connection.execute("pragma user_version").fetchone() == (VERSION,)
    return connection


def letters(connection):
    return connection.execute(
        "select origin, kind, receiver, count, body from dead_letters where reason like 'damaged in the%'"
    ).fetchall()


def root(table):
    """Where a table begins in the file."""
    return next((page - 1) * PAGE for _, name, page, _ in template().definitions if name == table)


def in_one_file(made):
    """The same journal without log."""
    with closing(connect(made.path)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
