"""The journal's tables.

``raw`` holds accepted requests until they are converted; ``kept`` holds them afterwards, if they are kept for
a replay; ``events`` holds batches of events until the cursor of each exporter named with them has passed;
``held`` holds rows that the converter or a processor keeps back; ``dead_letters`` what nobody could take;
``inbox`` and ``replays`` what another process (the command line) asks the collector to take up.

Every body has a checksum (CRC-32 of the bytes as they are stored), since SQLite has none of its own.
"""

from __future__ import annotations

import sqlite3

from isal import isal_zlib

VERSION = 2

# Changing anything here, also the order, changes the root pages: salvage relies on them, and a newer version
# must not be opened by an older one. Count VERSION up then.
TABLES = """
create table raw (
  id integer primary key autoincrement, time real not null, receiver text not null, signal text not null,
  crc integer not null, body blob not null
);
create table events (
  id integer primary key autoincrement, time real not null, exporters text not null, count integer not null,
  crc integer not null, body blob not null
);
create table cursors (
  exporter text primary key, chunk integer not null, row integer not null, active integer not null default 1
) without rowid;
create table held (
  id integer primary key autoincrement, slot text not null, crc integer not null, body blob not null
);
create table kept (
  id integer primary key autoincrement, time real not null, receiver text not null, signal text not null,
  crc integer not null, body blob not null
);
create table dead_letters (
  id integer primary key autoincrement, time real not null, origin text not null, kind text not null,
  receiver text not null, reason text not null, response text not null, attempts integer not null,
  count integer not null, crc integer not null, body blob not null
);
create table inbox (
  id integer primary key autoincrement, kind text not null, receiver text not null, origin text not null,
  count integer not null, crc integer not null, body blob not null
);
create table replays (
  id integer primary key autoincrement, done_to integer not null, last integer not null,
  total integer not null, done integer not null, exporters text not null
);
"""


def create(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty database.

    ``auto_vacuum``: a journal that grew during an outage shall give the disk its room back.
    """
    connection.execute("pragma auto_vacuum = incremental")
    connection.execute("pragma journal_mode = wal")
    connection.executescript(f"begin; {TABLES} pragma user_version = {VERSION}; commit;")


def checksum(body: bytes) -> int:
    """CRC-32 of a body as it is stored."""
    return int(isal_zlib.crc32(body))
