"""The bound on the journal's size, and what leaves when the user wants the new rather than the old."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from otel_moesif.journal.rows import Position

# Rows that leave at once; what is freed beyond the need spares the next requests the same work.
_STEP = 8


@dataclass
class Made:
    """What made room.

    Attributes:
        dropped: Events, by exporter that had not got them yet.
        letters: Dead letters.
        kept: Converted requests that were kept for a replay.
        dropped_to: Id before which no events are left; 0 when none were dropped.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    letters: int = 0
    kept: int = 0
    dropped_to: int = 0


def drop_kept(connection: sqlite3.Connection, made: Made) -> bool:
    """Drop the oldest converted requests, whose events are stored elsewhere; whether there were any."""
    cursor = connection.execute(
        "delete from kept where id in (select id from kept order by id limit ?)", (_STEP,)
    )
    made.kept += cursor.rowcount
    return cursor.rowcount > 0


def drop_events(connection: sqlite3.Connection, made: Made) -> bool:
    """Drop the oldest events, and count them for each exporter that was yet to get them."""
    oldest = connection.execute(
        "select id, exporters, count from events order by id limit ?", (_STEP,)
    ).fetchall()
    cursors = read_cursors(connection)
    for id_, exporters, count in oldest:
        for name in split(exporters):
            made.dropped[name] += waiting(id_, count, cursors.get(name, Position()))
        made.dropped_to = id_ + 1
    connection.executemany("delete from events where id = ?", [(id_,) for id_, *_ in oldest])
    return bool(oldest)


def drop_letters(connection: sqlite3.Connection, made: Made) -> bool:
    """Drop the oldest dead letters."""
    oldest = connection.execute("select id, count from dead_letters order by id limit ?", (_STEP,)).fetchall()
    connection.executemany("delete from dead_letters where id = ?", [(id_,) for id_, _ in oldest])
    made.letters += sum(count for _, count in oldest)
    return bool(oldest)


def delete_delivered(
    connection: sqlite3.Connection, cursors: Mapping[str, Position], first: int, end: int
) -> None:
    """Delete those batches from id ``first`` to before ``end`` that lie behind every cursor they are for."""
    rows = connection.execute("select id, exporters from events where id >= ? and id < ?", (first, end))
    passed = [
        (id_,)
        for id_, exporters in rows
        if all(cursors.get(name, Position()).chunk > id_ for name in split(exporters))
    ]
    connection.executemany("delete from events where id = ?", passed)


def read_cursors(connection: sqlite3.Connection) -> dict[str, Position]:
    """Where each exporter that was ever here stands."""
    rows = connection.execute("select exporter, chunk, row from cursors")
    return {name: Position(chunk, row) for name, chunk, row in rows}


def waiting(id_: int, count: int, cursor: Position) -> int:
    """How many events of a chunk are still to be delivered."""
    if id_ == cursor.chunk:
        return max(0, count - cursor.row)
    return count if id_ > cursor.chunk else 0


def join(exporters: Sequence[str]) -> str:
    """``,a,b,``: so that one id is never found inside another. A component id has no comma."""
    return f",{','.join(exporters)}," if exporters else ""


def split(exporters: str) -> list[str]:
    """The reverse of `join`."""
    return exporters.strip(",").split(",") if exporters else []
