# ruff: noqa: S311, S608 - dice that fall the same each time; our own names only
from __future__ import annotations

import os
import random
import shutil
import struct
from contextlib import closing

import pytest

from otel_moesif.errors import StartError
from otel_moesif.journal.rescue import template
from otel_moesif.journal.salvage import needs_salvage, salvage, upgrade
from otel_moesif.journal.schema import VERSION, create
from otel_moesif.journal.wal import inspect
from tests.journal.journals import (
    BODIES,
    PAGE,
    STRIDE,
    add,
    change,
    checked,
    connect,
    contents,
    cursors,
    held_now,
    in_one_file,
    leave,
    letters,
    root,
    sequences,
)

# -- what is sound stays as it is -------------------------------------------------------------------------


def test_a_sound_journal_needs_nothing_and_is_left_as_it_is(made):
    before = {file.name: file.read_bytes() for file in made.directory.iterdir()}
    assert needs_salvage(made.directory) is None
    after = {
        file.name: file.read_bytes() for file in made.directory.iterdir() if not file.name.endswith("-shm")
    }
    assert after == before
    assert held_now(made.directory) == made.states[-1]


def test_a_missing_journal_needs_nothing(tmp_path):
    assert needs_salvage(tmp_path) is None
    assert needs_salvage(tmp_path / "missing") is None
    assert upgrade(tmp_path) is None


@pytest.mark.parametrize("statements", [1, 2])
def test_a_journal_that_was_never_finished_needs_nothing(tmp_path, statements):
    with closing(connect(tmp_path / "journal.db")) as connection:
        for statement in ("pragma auto_vacuum = incremental", "pragma journal_mode = wal")[:statements]:
            connection.execute(statement).fetchall()
    assert needs_salvage(tmp_path) is None


def test_a_new_journal_needs_nothing(tmp_path):
    with closing(connect(tmp_path / "journal.db")) as connection:
        create(connection)
        leave(tmp_path, tmp_path / "left")
    assert needs_salvage(tmp_path) is None
    assert needs_salvage(tmp_path / "left") is None


def test_a_torn_end_of_the_log_needs_nothing_and_loses_no_whole_transaction(made, caplog):
    size = made.log.stat().st_size
    os.truncate(made.log, size - 100)
    assert needs_salvage(made.directory) is None
    assert "the last transaction in journal.db-wal is incomplete" in caplog.text
    assert held_now(made.directory) == made.states[-2]


def test_a_log_cut_anywhere_leaves_what_was_committed_before(base, tmp_path):
    dice = random.Random(3)
    size = base.log.stat().st_size
    for case in range(60):
        made = base.copy(tmp_path / str(case))
        os.truncate(made.log, dice.randrange(size + 1) if case else 0)
        assert needs_salvage(made.directory) is None
        assert held_now(made.directory) in made.states


def test_a_newer_version_is_left_alone(made):
    with closing(connect(made.path)) as connection:
        connection.execute(f"pragma user_version = {VERSION + 1}")
        leave(made.directory, made.directory.with_name("left"))
    for directory in (made.directory, made.directory.with_name("left")):
        before = (directory / "journal.db").read_bytes()
        with pytest.raises(StartError, match="written by a newer version of otel-moesif"):
            needs_salvage(directory)
        assert (directory / "journal.db").read_bytes() == before


# -- damage of the log ------------------------------------------------------------------------------------


def test_what_sqlite_would_ignore_after_a_damaged_frame_is_saved(made):
    # The page of this frame is written again later, so nothing is lost at all.
    state = inspect(made.log)
    again = {frame.page for frame in state.frames[40:]}
    index = next(i for i in range(20, 40) if state.frames[i].page in again and state.frames[i].page > 2)
    change(made.log, 32 + index * STRIDE + 1000, os.urandom(300))
    with closing(connect(made.copy(made.directory.with_name("other")).path)) as connection:
        assert len(contents(connection)) < len(made.states[-1])  # without us
    reason = needs_salvage(made.directory)
    assert reason.startswith(f"journal.db-wal is damaged at frame {index + 1}")
    result = salvage(made.directory, reason)
    assert result.frames == 1
    with closing(checked(made.directory)) as connection:
        assert contents(connection) >= made.states[-1]
        assert cursors(connection) == made.cursors
        assert all(seq >= made.sequences.get(name, 0) for name, seq in sequences(connection).items())
        assert connection.execute("select done_to, last, total, done from replays").fetchall() == [
            (3, 9, 6, 2)
        ]
    assert result.set_aside.exists()
    assert result.set_aside.with_name(result.set_aside.name + "-wal").exists()
    assert "1 frames of the log are damaged" in str(result)
    assert str(result.set_aside) in str(result)
    assert "\n" not in str(result)


def test_a_damaged_header_of_the_log_loses_nothing_else(made):
    change(made.log, 13, b"\x99")
    assert needs_salvage(made.directory) == "the header of journal.db-wal is damaged"
    result = salvage(made.directory, "test")
    with closing(checked(made.directory)) as connection:
        assert contents(connection) >= made.states[-1]
        assert cursors(connection) == made.cursors
    assert result.rows["raw"] >= 10


def frames_of(log, text):
    """Frames whose page has a text, from the first on."""
    data = log.read_bytes()
    starts = range(32, len(data), STRIDE)
    return [start for start in starts if text in data[start + 24 : start + STRIDE]]


def test_of_a_damaged_page_in_the_log_all_rows_but_the_damaged_one_are_saved(tmp_path):
    bodies = [b"row %02d " % i * 20 for i in range(15)]
    with closing(connect(tmp_path / "work.db")) as connection:
        create(connection)
        connection.execute("begin")
        for body in bodies:
            add(connection, "raw", body)
        connection.execute("commit")
        add(connection, "events", b"later")
        for suffix in ("", "-wal"):
            shutil.copyfile(tmp_path / f"work.db{suffix}", tmp_path / f"journal.db{suffix}")
    log = tmp_path / "journal.db-wal"
    (start,) = frames_of(log, bodies[7])
    change(log, start + log.read_bytes()[start : start + STRIDE].index(bodies[7]), b"noise")
    result = salvage(tmp_path, needs_salvage(tmp_path))
    with closing(checked(tmp_path)) as connection:
        assert {body for table, body in contents(connection) if table == "raw"} == {*bodies} - {bodies[7]}
        assert ("events", b"later") in contents(connection)
        assert [body[:5] for *_, body in letters(connection)] == [b"noise"]
    assert (result.damaged, result.frames) == (1, 1)


def test_rows_that_moved_to_a_page_that_is_lost_are_saved_from_where_they_were(tmp_path):
    old = [b"old %02d " % i * 20 for i in range(15)]
    with closing(connect(tmp_path / "work.db")) as connection:
        create(connection)
        for body in old:
            add(connection, "raw", body)
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        connection.execute("begin")
        for i in range(30):  # the table's first page has no room for them: its rows move
            add(connection, "raw", b"new %02d " % i * 20)
        connection.execute("commit")
        add(connection, "events", b"later")
        for suffix in ("", "-wal"):
            shutil.copyfile(tmp_path / f"work.db{suffix}", tmp_path / f"journal.db{suffix}")
    log = tmp_path / "journal.db-wal"
    for start in frames_of(log, old[7]):
        change(log, start, os.urandom(STRIDE))
    result = salvage(tmp_path, needs_salvage(tmp_path))
    with closing(checked(tmp_path)) as connection:
        assert {("raw", body) for body in old} <= contents(connection)
        assert ("events", b"later") in contents(connection)
    assert result.frames


@pytest.mark.parametrize("empty", [True, False])
def test_a_log_whose_database_is_gone_is_salvaged(made, empty):
    """A young journal is all in its log, which SQLite would delete."""
    work = made.directory.with_name("work")
    work.mkdir()
    with closing(connect(work / "journal.db")) as connection:
        create(connection)
        for i in range(20):
            add(connection, "raw", bytes([i]) * 5000)
        expected = contents(connection)
        leave(work, work / "left")
    path = work / "left" / "journal.db"
    path.write_bytes(b"")
    if not empty:
        path.unlink()
    assert needs_salvage(path.parent) == (
        "journal.db is empty" if empty else "journal.db is missing, but its log is there"
    )
    salvage(path.parent, "test")
    with closing(checked(path.parent)) as connection:
        assert contents(connection) == expected


# -- damage of the database -------------------------------------------------------------------------------


def test_the_tables_begin_at_the_same_pages_in_every_journal(tmp_path):
    with closing(connect(tmp_path / "journal.db")) as connection:
        create(connection)
        for i in range(2000):
            add(connection, "raw", bytes(3000))
            if i % 3:
                connection.execute("delete from raw where id = ?", (i,))
        connection.execute("pragma incremental_vacuum").fetchall()
        connection.execute("vacuum")
        found = connection.execute(
            "select type, name, rootpage, sql from sqlite_master order by rowid"
        ).fetchall()
    assert found == template().definitions
    assert len(found) == 9  # with sqlite_sequence


@pytest.mark.parametrize("damage", [b"", os.urandom(PAGE), bytes(PAGE)], ids=["none", "noise", "zeros"])
def test_a_destroyed_first_page_costs_nothing(made, damage):
    in_one_file(made)
    change(made.path, 0, damage)
    reason = needs_salvage(made.directory)
    assert bool(reason) == bool(damage)
    result = salvage(made.directory, "test")
    assert result.complete
    with closing(checked(made.directory)) as connection:
        assert contents(connection) == made.states[-1]
        assert cursors(connection) == made.cursors
        assert sequences(connection).items() >= made.sequences.items()


@pytest.mark.parametrize("table", BODIES)
def test_a_destroyed_table_spares_the_others_and_is_reported(made, table):
    in_one_file(made)
    change(made.path, root(table), os.urandom(PAGE))
    result = salvage(made.directory, needs_salvage(made.directory))
    assert table in result.tables
    assert result.unreadable
    assert f"not all of {table} could be read" in str(result)
    with closing(checked(made.directory)) as connection:
        assert {x for x in made.states[-1] if x[0] != table} == contents(connection)
        assert sequences(connection)[table] >= made.sequences[table]


def test_destroyed_cursors_are_reported_and_no_id_is_given_twice(made):
    in_one_file(made)
    change(made.path, root("cursors"), os.urandom(PAGE))
    change(made.path, root("sqlite_sequence"), os.urandom(PAGE))
    result = salvage(made.directory, needs_salvage(made.directory))
    assert "an exporter whose cursor is lost gets stored events again" in str(result)
    with closing(checked(made.directory)) as connection:
        assert contents(connection) == made.states[-1]
        assert cursors(connection) == {}
        assert all(seq >= max(connection.execute(f"select max(id) from {name}").fetchone()[0] or 0, 10)
                   for name, seq in sequences(connection).items())  # fmt: skip


def test_rows_around_an_unreadable_one_are_saved_from_both_sides_and_between(tmp_path):
    with closing(connect(tmp_path / "journal.db")) as connection:
        create(connection)
        for i in range(300):
            add(connection, "raw", struct.pack(">I", i) * 5000)
        expected = contents(connection)
    data = (tmp_path / "journal.db").read_bytes()
    for i in (40, 41, 170, 260):  # the pointers to the next overflow pages of these rows
        start = data.index(struct.pack(">I", i) * 900) // PAGE * PAGE
        change(tmp_path / "journal.db", start, b"\xff" * 4)
    result = salvage(tmp_path, needs_salvage(tmp_path))
    with closing(checked(tmp_path)) as connection:
        lost = expected - contents(connection)
    assert {struct.unpack(">I", body[:4])[0] for _, body in lost} <= {40, 41, 170, 260}
    assert result.unreadable + result.damaged >= len(lost)
    assert result.rows["raw"] >= 296
    assert result.unreadable + result.damaged <= 8


def test_rows_that_a_page_has_lost_without_an_error_are_reported(tmp_path):
    with closing(connect(tmp_path / "journal.db")) as connection:
        create(connection)
        for i in range(10):
            add(connection, "raw", bytes([i]) * 100)
    # A leaf's number of rows, sqlite.org/fileformat2.html#b_tree_pages.
    change(tmp_path / "journal.db", root("raw") + 3, struct.pack(">H", 7))
    result = salvage(tmp_path, needs_salvage(tmp_path))
    assert result.rows["raw"] == 7
    assert result.unreadable == 1
    assert result.set_aside.exists()


def test_rows_with_a_wrong_checksum_become_dead_letters(made):
    with closing(connect(made.path)) as connection:
        for table in BODIES:
            add(connection, table, f"a damaged {table}".encode(), crc=1)
        before = connection.execute("select count(*) from dead_letters").fetchone()[0]
    result = salvage(made.directory, "test")
    assert result.damaged == len(BODIES) - 1
    assert result.unreadable == 1  # what was held back is of no use to a reader
    with closing(checked(made.directory)) as connection:
        assert contents(connection) >= made.states[-1]
        assert connection.execute("select count(*) from dead_letters").fetchone()[0] == before + 4
        assert set(letters(connection)) == {
            ("otlp", "traces", "otlp", 1, b"a damaged raw"),
            ("otlp", "logs", "otlp", 1, b"a damaged kept"),
            ("moesif,file", "events", "", 10, b"a damaged events"),
            ("moesif", "events", "", 3, b"a damaged inbox"),
            ("moesif", "events", "", 2, b"a damaged dead_letters"),
        }
    assert result.events == sum(10 for table, _ in made.states[-1] if table == "events")


def test_a_cursor_beyond_all_events_is_noise(made):
    with closing(connect(made.path)) as connection:
        connection.execute("update cursors set chunk = 1000000 where exporter = 'file'")
    result = salvage(made.directory, needs_salvage(made.directory))
    assert "cursor" in result.reason
    with closing(checked(made.directory)) as connection:
        assert cursors(connection) == {"moesif": made.cursors["moesif"]}
    assert not result.complete


def test_each_byte_of_the_database_header_may_be_wrong(base, tmp_path):
    whole = base.copy(tmp_path / "whole")
    in_one_file(whole)
    for at in set(range(100)) - {63}:  # the lowest byte of the version may be a newer one's
        made = whole.copy(tmp_path / str(at))
        change(made.path, at, lambda old: bytes([old[0] ^ 0xFF]), 1)
        reason = needs_salvage(made.directory)
        if reason:
            salvage(made.directory, reason)
        with closing(checked(made.directory)) as connection:
            assert contents(connection) == made.states[-1], at
        shutil.rmtree(made.directory)
