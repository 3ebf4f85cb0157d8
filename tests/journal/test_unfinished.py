"""What a large transaction leaves that was killed before its commit, or failed: no damage, and no rows."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import closing

import pytest

from otel_moesif.component import Signal
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import Conversion, NewChunk, RawRequest
from otel_moesif.journal.salvage import needs_salvage, salvage
from otel_moesif.journal.schema import create
from otel_moesif.journal.settings import JournalSettings
from otel_moesif.journal.visit import Visit
from otel_moesif.journal.wal import View, inspect
from tests.journal.journals import STRIDE, Made, add, change, checked, connect, contents, held_now, leave

NOISE = random.Random(3)  # noqa: S311 - to be the same each time


def convert(connection, marks=8):
    """A transaction beyond its cache: it writes before it commits, and some pages once more."""
    connection.execute("pragma cache_size = 10")
    connection.execute("begin immediate")
    for i in range(marks):
        add(connection, "events", b"uncommitted %d " % i + NOISE.randbytes(60_000))
        connection.execute("update cursors set row = row + 1")
    connection.execute("delete from raw where id < 5")


@pytest.fixture
def work(tmp_path):
    """A connection to a journal, half of it in its log; `leave` copies it as a kill would leave it."""
    (tmp_path / "work").mkdir()
    with closing(connect(tmp_path / "work" / "journal.db")) as connection:
        create(connection)
        connection.execute("insert into cursors values ('moesif', 0, 0, 1)")
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        for i in range(10):
            add(connection, "raw", b"request %d " % i + NOISE.randbytes(5000))
        yield connection


@pytest.fixture
def left(work, tmp_path):
    """Killed before the commit of a large conversion."""
    before = contents(work)
    convert(work)
    leave(tmp_path / "work", tmp_path / "left")
    work.execute("rollback")
    return Made(tmp_path / "left", [before])


def test_a_kill_before_the_commit_of_a_large_transaction_is_not_damage(left, caplog):
    state = inspect(left.log)
    assert any(state.intact[state.readable :]), "frames that agree with each other follow a wrong one"
    assert not state.damaged
    assert state.torn > 20
    assert needs_salvage(left.directory) is None
    assert "is incomplete" in caplog.text
    assert held_now(left.directory) == left.states[-1]


def test_a_kill_while_sqlite_mends_the_checksums_of_a_commit_is_not_damage(work, left, tmp_path):
    """It writes the frames' headers anew, one after another, when the commit's frame is there already."""
    shutil.copyfile(left.log, tmp_path / "before")
    convert(work)
    work.execute("commit")
    leave(tmp_path / "work", tmp_path / "done")
    done = (tmp_path / "done" / "journal.db-wal").read_bytes()
    before = (tmp_path / "before").read_bytes()
    valid, frames = inspect(left.log).valid, (len(done) - 32) // STRIDE
    assert inspect(tmp_path / "done" / "journal.db-wal").valid == frames
    for mended in range(valid, frames, 7):
        log = bytearray(done)
        for i in range(mended, frames):
            start = 32 + i * STRIDE
            old = before[start + 8 : start + 24]
            log[start + 8 : start + 24] = old if len(old) == 16 else bytes(16)
        left.log.write_bytes(log)
        state = inspect(left.log)
        assert (state.damaged, state.valid) == (False, valid), mended


def test_what_a_failed_transaction_left_behind_a_shorter_one_is_not_damage(work, tmp_path):
    convert(work)
    work.execute("rollback")
    add(work, "raw", b"shorter")
    leave(tmp_path / "work", tmp_path / "left")
    assert inspect(tmp_path / "left" / "journal.db-wal").torn > 20
    assert needs_salvage(tmp_path / "left") is None
    assert ("raw", b"shorter") in held_now(tmp_path / "left")


def test_damage_before_an_unfinished_transaction_is_found_and_brings_none_of_its_rows_back(left):
    state = inspect(left.log)
    change(left.log, 32 + 5 * STRIDE + 3000, b"noise")
    damaged = inspect(left.log)
    assert damaged.readable == 5
    frames, _ = damaged.pages(View.WRITTEN)
    assert max(frames.values()) == state.valid - 1
    result = salvage(left.directory, needs_salvage(left.directory))
    assert result.frames
    with closing(checked(left.directory)) as connection:
        assert connection.execute("select count(*) from events").fetchone() == (0,)
        assert len(left.states[-1] - contents(connection)) <= 1  # the row that the noise has met


def test_a_damaged_header_before_an_unfinished_transaction_brings_none_of_its_rows_back(left):
    change(left.log, 13, b"\x99")
    salvage(left.directory, needs_salvage(left.directory))
    with closing(checked(left.directory)) as connection:
        assert contents(connection) == left.states[-1]


@pytest.mark.parametrize(
    ("offset", "noise"),
    [
        (24 + 3000, b"noise"),
        (4, b"\x01"),
        (8, b"\x99"),
        (16, b"\x99"),
        (0, bytes(STRIDE)),
        (0, b"\xee" * STRIDE),
    ],
    ids=["content", "size", "salts", "checksum", "zeros", "all of it"],
)
def test_a_last_commit_that_is_damaged_itself_is_found_when_more_was_written_after_it(left, offset, noise):
    last = inspect(left.log).valid - 1
    change(left.log, 32 + last * STRIDE + offset, noise)
    state = inspect(left.log)
    assert state.damaged
    assert state.readable == last
    salvage(left.directory, needs_salvage(left.directory))
    with closing(checked(left.directory)) as connection:
        assert len(left.states[-1] - contents(connection)) <= 1


def test_two_last_transactions_whose_commits_are_noise_are_damage(left, work, tmp_path):
    """No commit is left, but what the disk has made of them is nothing that SQLite writes."""
    add(work, "raw", os.urandom(20_000))
    leave(tmp_path / "work", tmp_path / "two")
    log = tmp_path / "two" / "journal.db-wal"
    commits = [i for i, frame in enumerate(inspect(log).frames[: inspect(log).valid]) if frame.size]
    for i in commits[-2:]:
        change(log, 32 + i * STRIDE, os.urandom(STRIDE))
    assert inspect(log).damaged


# -- the journal's own connections leave nothing of the kind -------------------------------------------------


@pytest.fixture
def journal(tmp_path):
    with closing(Journal(JournalSettings(directory=tmp_path / "journal", keep_raw="1h"))) as journal:
        yield journal


def test_nothing_is_written_before_its_commit(journal, monkeypatch):
    log = journal.database.path.with_name("journal.db-wal")
    body = os.urandom(100_000)
    ids = [
        id_
        for _ in range(4)
        for id_ in journal.append([RawRequest("otlp", Signal.TRACES, body) for _ in range(20)]).ids
    ]
    sizes = []
    monkeypatch.setattr("otel_moesif.journal.journal.join", lambda x: sizes.append(log.stat().st_size) or "")
    journal.convert(Conversion(ids, keep=True, chunks=[NewChunk(["a"], 1, os.urandom(3_000_000))] * 4))
    assert len(set(sizes)) == 1
    assert log.stat().st_size > sizes[0] + 10_000_000


def test_deleted_rows_are_not_written_once_more(journal):
    ids = journal.append([RawRequest("otlp", Signal.TRACES, os.urandom(3_000_000))]).ids
    journal.database.checkpoint()
    journal.append([RawRequest("otlp", Signal.TRACES, b"")])  # the log begins anew
    log = journal.database.path.with_name("journal.db-wal")
    before = len(inspect(log).frames[: inspect(log).valid])
    journal.convert(Conversion(ids))
    assert inspect(log).valid - before < 20


def test_whoever_visits_does_neither(journal, tmp_path):
    with closing(Visit(tmp_path / "journal")) as visit:
        assert visit.read("pragma cache_spill") == [(0,)]
        assert visit.read("pragma secure_delete") == [(0,)]


def test_a_journal_that_has_a_request_both_kept_and_raw_converts_it(journal):
    """As a salvage may leave it: what was deleted comes back from an older state of a page."""
    ids = journal.append([RawRequest("otlp", Signal.TRACES, b"body")]).ids
    with journal.database.transaction("converter") as connection:
        connection.execute("insert into kept select * from raw")
    journal.convert(Conversion(ids, keep=True))
    assert journal.last_raw() == 0
    assert journal.has_kept()
