"""What whoever runs the collector may want to be rid of, while the collector goes on."""

from __future__ import annotations

import sqlite3

from otel_moesif.journal.room import join, read_cursors, split, waiting
from otel_moesif.journal.rows import Position
from otel_moesif.journal.visit import Visit, VisitError

# A batch of events that others still wait for is written anew without the name; so many bytes in one step.
_STEP_BYTES = 4 << 20
_STEP_ROWS = 256
_VACUUM_PAGES = 1024


def prune_exporter(visit: Visit, exporter: str) -> int:
    """Drop what waits for an exporter that is no longer in the configuration, and forget where it was.

    What was dropped stays so if this is interrupted; then it can be called again.

    Returns:
        How many events that were.

    Raises:
        VisitError: It is unknown, or the collector that runs delivers to it.
    """
    if not visit.read("select 1 from cursors where exporter = ?", (exporter,)):
        known = ", ".join(name for (name,) in visit.read("select exporter from cursors")) or "none"
        raise VisitError(f"there is no exporter {exporter} in the journal (exporters: {known})")
    named = join([exporter])
    after = 0

    def step(connection: sqlite3.Connection, running: bool) -> int | None:
        nonlocal after
        _refuse_active(connection, exporter, running=running)
        cursors = read_cursors(connection)
        freed = size = rows = 0
        query = "select id, exporters, count, length(body) from events where id > ? and instr(exporters, ?)"
        for id_, exporters, count, length in connection.execute(
            f"{query} order by id limit {_STEP_ROWS}", (after, named)
        ).fetchall():
            after, rows = id_, rows + 1
            freed += waiting(id_, count, cursors.get(exporter, Position()))
            others = [name for name in split(exporters) if name != exporter]
            if all(cursors.get(name, Position()).chunk > id_ for name in others):
                connection.execute("delete from events where id = ?", (id_,))
            else:
                connection.execute("update events set exporters = ? where id = ?", (join(others), id_))
                size += length
            if size >= _STEP_BYTES:
                break
        if not rows:
            connection.execute("delete from cursors where exporter = ?", (exporter,))
            return None
        return freed

    return visit.in_steps(step)


def prune_kept(visit: Visit) -> int:
    """Drop all converted requests that are kept for a replay, and end the replays that are not done.

    Returns:
        How many requests.
    """
    last = visit.read("select coalesce(max(id), 0) from kept")[0][0]
    with visit.transaction() as (connection, _):
        connection.execute("delete from replays")

    def step(connection: sqlite3.Connection, _: bool) -> int | None:
        some = "select id from kept where id <= ? order by id limit ?"
        query = f"delete from kept where id in ({some})"  # noqa: S608 - only our own words
        return connection.execute(query, (last, _STEP_ROWS)).rowcount or None

    return visit.in_steps(step)


def give_back(visit: Visit) -> int:
    """Give free room back to the disk.

    Returns:
        How many bytes.
    """
    page = visit.read("pragma page_size")[0][0]
    most = visit.read("pragma freelist_count")[0][0]  # what others free meanwhile would make this endless
    given = 0

    def step(connection: sqlite3.Connection, _running: bool) -> int | None:
        nonlocal given
        before = connection.execute("pragma page_count").fetchone()[0]
        # A step of this statement gives back one page, and the sqlite3 module makes only one step of it.
        for _ in range(min(_VACUUM_PAGES, most - given)):
            connection.execute("pragma incremental_vacuum(1)")
        done = before - connection.execute("pragma page_count").fetchone()[0]
        given += done
        return done if done and given < most else None

    visit.in_steps(step)
    visit.read("pragma wal_checkpoint(passive)")
    return int(given * page)


def _refuse_active(connection: sqlite3.Connection, exporter: str, *, running: bool) -> None:
    found = connection.execute("select active from cursors where exporter = ?", (exporter,)).fetchone()
    if running and found and found[0]:
        raise VisitError(f"{exporter} is in use by the collector that runs; stop it first")
