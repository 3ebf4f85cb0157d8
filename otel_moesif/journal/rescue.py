"""Reading a damaged journal: copies that SQLite opens, and each of their rows that is still readable."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from otel_moesif.journal.schema import create
from otel_moesif.journal.swap import COPY, NAME
from otel_moesif.journal.wal import PAGE_BYTES, View, WalState

# The tables of version 1, which had no numbers to check anything by.
_V1 = {
    "raw": ["id", "receiver", "signal", "body"],
    "events": ["id", "exporters", "count", "body"],
    "cursors": ["exporter", "chunk", "row"],
    "held": ["id", "slot", "body"],
    "dead_letters": ["id", "time", "origin", "kind", "reason", "attempts", "count", "body"],
}
# How many ids in a row may be missing, until the rest is taken from the other end; unreadable ones, which
# take longer, count tenfold: a page has a few hundred rows at most.
_PATIENCE = 10_000
_UNREADABLE = 10
LAST_ID = 1 << 53  # SQLite's go to 2**63; nobody gets that far but by damage

# What is the same in the header of every journal (sqlite.org/fileformat2.html#the_database_header):
# magic and page size; reserved space and fill; format of the definitions; text encoding.
CONSTANT = (slice(0, 18), slice(20, 24), slice(44, 48), slice(56, 60))

Row = dict[str, Any]


class Template(NamedTuple):
    """A journal as `create` makes it.

    Attributes:
        page: Its first page, which has the definitions of the tables and where each of them begins.
        tables: Columns of each table.
        definitions: The table of tables.
    """

    page: bytes
    tables: Mapping[str, list[str]]
    definitions: list[Any]


@lru_cache(maxsize=1)
def template() -> Template:
    """An empty journal. Where its tables begin depends on nothing but their order."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create(connection)
        return Template(connection.serialize()[:PAGE_BYTES], _tables(connection), definitions(connection))


def definitions(connection: sqlite3.Connection) -> list[Any]:
    """Name, first page and definition of all tables."""
    return connection.execute("select type, name, rootpage, sql from sqlite_master order by rowid").fetchall()


def tables_of(connection: sqlite3.Connection) -> Mapping[str, list[str]] | None:
    """Columns of each table, of this version's journal or of version 1's; else None."""
    if definitions(connection) == template().definitions:
        return template().tables
    if connection.execute("pragma user_version").fetchone() == (1,) and _tables(connection) == _V1:
        return _V1
    return None


def connect(path: Path, options: str) -> sqlite3.Connection:
    """Open a file by URI; bytes that are no text any more become U+FFFD instead of an error."""
    uri = f"file:{quote(str(path.absolute()))}?{options}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    connection.text_factory = lambda text: text.decode(errors="replace")
    return connection


class Rescue:
    """A copy of the journal as one view of its log has it, open for reading.

    Args:
        directory: Where the journal lies; its files are not touched.
        log: What its log holds.
        view: Which frames of the log count.

    Attributes:
        tables: Columns of each table.
        grafted: The first page was useless and was taken from an empty journal.
        failed: By table, ids that cannot be read; whether a row was ever there nobody knows.
        broken: Tables of which nothing, or an unknown part, cannot be read.
        highest: By table, the highest id that was given so far, if it is known.

    Raises:
        OSError: There is no room for the copy.
    """

    def __init__(self, directory: Path, log: WalState, view: View) -> None:
        self._path = directory / COPY
        self.failed: dict[str, set[int]] = {}
        self.broken: set[str] = set()
        self.grafted = False
        _build(directory / NAME, self._path, log, view)
        try:
            self._connection = connect(self._path, "mode=ro&immutable=1")
            tables = tables_of(self._connection)
        except sqlite3.Error:
            tables = None
        if tables is None:
            self._connection.close()
            self.grafted = True
            _patch(self._path, graft=True)
            self._connection = connect(self._path, "mode=ro&immutable=1")
            tables = template().tables
        self.tables = tables
        self.highest = self._sequences()

    def close(self) -> None:
        """Delete the copy."""
        self._connection.close()
        self._path.unlink(missing_ok=True)

    def faults(self) -> list[str]:
        """What SQLite finds wrong; that does not tell whether a row is lost by it."""
        try:
            found = [text for (text,) in self._connection.execute("pragma quick_check(20)")]
        except sqlite3.Error as error:
            return [str(error)]
        # A new first page does not know the free pages.
        return [x for x in found if x != "ok" and not (self.grafted and x.endswith("is never used"))]

    def keyed(self, table: str) -> list[Row]:
        """All readable rows of a small table without ``id``."""
        columns = self.tables[table]
        rows: dict[Any, Row] = {}
        for order in ("asc", "desc"):
            try:
                query = f"select {', '.join(columns)} from {table} order by 1 {order}"  # noqa: S608 - our own
                for row in self._connection.execute(query):
                    rows[row[0]] = dict(zip(columns, row, strict=True))
                break
            except sqlite3.Error:
                self.broken.add(table)
        return list(rows.values())

    def rows(self, table: str) -> Iterator[Row]:
        """All readable rows of a table; the same one may come twice.

        First from the beginning to the first error, then from the end to the last error; what lies between is
        asked for id by id.
        """
        lowest, whole = yield from self._scan(table, "asc")
        if whole:
            return
        highest, _ = yield from self._scan(table, "desc")
        low = lowest or 0
        high = highest or min(self.highest.get(table, LAST_ID), low + 2 * _PATIENCE) + 1
        if low >= high:  # an id was damaged too
            low, high = 0, self.highest.get(table, low) + 1
        found = yield from self._gap(table, low, high)
        if not (lowest or highest or found):  # not one row: there is no saying which ids ever were there
            self.failed.pop(table, None)
        if not self.failed.get(table):
            self.broken.add(table)

    def _scan(self, table: str, order: str) -> Generator[Row, None, tuple[int | None, bool]]:
        """Rows up to an error; gives the last id, and whether there was no error."""
        columns, last = self.tables[table], None
        top = self.highest.get(table, LAST_ID)
        try:
            query = f"select {', '.join(columns)} from {table} order by id {order}"  # noqa: S608 - our own
            for row in self._connection.execute(query):
                if 0 < row[0] <= top:
                    last = row[0]
                yield dict(zip(columns, row, strict=True))
        except sqlite3.Error:
            return last, False
        return last, True

    def _gap(self, table: str, low: int, high: int) -> Generator[Row, None, bool]:
        """Rows with an id between two others, neither of them included; gives whether there was one."""
        columns = self.tables[table]
        query = f"select {', '.join(columns)} from {table} where id = ?"  # noqa: S608 - our own
        failed = self.failed.setdefault(table, set())
        found = False
        for step in (1, -1):
            id_, patience = (low if step > 0 else high), _PATIENCE
            while patience > 0 and low < id_ + step < high:
                id_ += step
                patience -= 1
                try:
                    rows = self._connection.execute(query, (id_,)).fetchall()
                except sqlite3.Error:
                    failed.add(id_)
                    patience -= _UNREADABLE - 1
                    continue
                for row in rows:
                    found, patience = True, _PATIENCE
                    yield dict(zip(columns, row, strict=True))
            if patience > 0:
                return found
            low, high = (id_, high) if step > 0 else (low, id_)
        self.broken.add(table)
        return found

    def _sequences(self) -> dict[str, int]:
        try:
            found = self._connection.execute("select name, seq from sqlite_sequence").fetchall()
        except sqlite3.Error:
            return {}
        return {name: seq for name, seq in found if isinstance(seq, int) and 0 <= seq < LAST_ID}


def _tables(connection: sqlite3.Connection) -> Mapping[str, list[str]]:
    names = connection.execute(
        "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'"
    )
    query = "select name from pragma_table_info(?)"
    return {
        name: [column for (column,) in connection.execute(query, (name,))] for (name,) in names.fetchall()
    }


def _build(journal: Path, copy: Path, log: WalState, view: View) -> None:
    copy.unlink(missing_ok=True)
    if journal.exists():
        shutil.copyfile(journal, copy)
    frames, pages = log.pages(view)
    with copy.open("r+b" if copy.exists() else "w+b") as file:
        for page, content in log.read(frames):
            file.seek((page - 1) * log.page_bytes)
            file.write(content)
        size = file.seek(0, 2)
        whole = -(-size // PAGE_BYTES)
        file.truncate(max(1, max(pages, whole) if view is View.WRITTEN else pages or whole) * PAGE_BYTES)
    _patch(copy)


def _patch(copy: Path, *, graft: bool = False) -> None:
    """Make the first page fit to a file without log (sqlite.org/fileformat2.html#the_database_header).

    Args:
        copy: The file.
        graft: Whether to take the first page from an empty journal; what it says of free pages matters to
            writers only.
    """
    with copy.open("r+b") as file:
        pages = file.seek(0, 2) // PAGE_BYTES
        file.seek(0)
        page = bytearray(template().page if graft else file.read(PAGE_BYTES))
        for part in CONSTANT:
            page[part] = template().page[part]
        page[18:20] = b"\1\1"  # no log
        struct.pack_into(">I", page, 28, pages)
        page[92:96] = page[24:28]  # so that the number of pages counts
        file.seek(0)
        file.write(page)
