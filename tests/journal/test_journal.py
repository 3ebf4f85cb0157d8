"""The journal's bounds, its log, its reserve, what it keeps, and how it mends itself while it is used."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from isal import isal_zlib

from otel_moesif.component import Signal
from otel_moesif.config.model import MetricsSettings
from otel_moesif.errors import Refused
from otel_moesif.housekeeping import Housekeeping
from otel_moesif.journal.connection import Role
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import Conversion, DeadLetter, NewChunk, Position, RawRequest
from otel_moesif.journal.settings import JournalSettings
from otel_moesif.telemetry import Telemetry
from tests.journal.journals import V1
from tests.processes import until

MIB = 1 << 20


@pytest.fixture
def make(tmp_path):
    opened = []

    def make(**options) -> Journal:
        journal = Journal(JournalSettings(directory=tmp_path, **options))
        opened.append(journal)
        return journal

    yield make
    for journal in opened:
        journal.close()


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311


def request(size: int = 100_000) -> RawRequest:
    return RawRequest("otlp", Signal.TRACES, noise(size))


def fill(journal: Journal) -> int:
    """Append until it is full; gives how many fitted."""
    for number in range(10_000):
        try:
            journal.append([request()])
        except Refused as refusal:
            return number if refusal.retry_after and refusal.reason == "journal is full" else -1
    raise AssertionError("it is never full")


def chunks(count: int, exporters=("a",), size: int = 100_000) -> Conversion:
    return Conversion(chunks=[NewChunk(exporters, 10, noise(size)) for _ in range(count)])


# -- bounds ---------------------------------------------------------------------------------------------


def test_a_full_journal_refuses_stores_nothing_of_it_and_takes_requests_again_when_there_is_room(make):
    journal = make(max_size="4MiB")
    fitted = fill(journal)
    assert 25 < fitted < 42
    assert journal.last_raw() == fitted
    journal.convert(Conversion(done=list(range(1, fitted // 2))))
    assert journal.append([request()]).ids == [fitted + 1]


def test_conversion_and_delivery_go_on_in_a_full_journal(make):
    journal = make(max_size="4MiB")
    fitted = fill(journal)
    journal.register(["a"])
    ids, _ = journal.convert(
        Conversion(done=list(range(1, fitted + 1)), chunks=[NewChunk(["a"], 1, noise(140_000))] * fitted)
    )
    with pytest.raises(Refused):
        journal.append([request()])
    journal.advance("a", Position(ids[-1] + 1))
    assert journal.append([request()]).ids


def test_the_oldest_events_make_room_if_the_user_wants_it_so_and_are_counted_for_each_exporter(make):
    journal = make(max_size="4MiB", on_full="drop_oldest")
    journal.register(["a", "b"])
    ids, _ = journal.convert(chunks(39, ("a", "b")))
    journal.advance("a", Position(ids[9], 4))  # a has got 94 of them
    stored = journal.append([request()] * 3)
    assert len(stored.ids) == 3
    first = journal.next_chunk("b", 0).id
    gone = ids.index(first) * 10
    assert stored.dropped == {"a": max(0, gone - 94), "b": gone}
    assert gone > 0


def test_what_is_kept_for_a_replay_makes_room_before_anything_else(make):
    journal = make(max_size="4MiB", keep_raw="1h")
    ids = journal.append([request()] * 20).ids
    journal.convert(Conversion(done=ids, keep=True, chunks=chunks(15).chunks))
    stored = journal.append([request()] * 5)
    assert stored.dropped_kept > 0
    assert not stored.dropped


def test_the_file_shrinks_again_after_an_outage(make):
    journal = make(max_size="64MiB")
    ids = [id_ for _ in range(25) for id_ in journal.append([request(1_000_000)]).ids]
    journal.database.checkpoint()
    large = journal.database.path.stat().st_size
    journal.convert(Conversion(done=ids))
    for _ in range(40):
        journal.database.tend()
    assert large > 24 * MIB
    assert journal.database.path.stat().st_size < 18 * MIB  # it keeps some room for what comes next


def test_the_log_does_not_grow_while_it_is_written_to_all_the_time(make):
    journal = make(max_size="64MiB")  # whose log is copied at 1 MiB
    housekeeping = Housekeeping(journal, journal._settings)
    housekeeping.start()
    log = journal.database.path.with_name("journal.db-wal")
    longest = written = 0
    while written < 120 * MIB:
        ids = journal.append([request(250_000)]).ids
        journal.convert(Conversion(done=ids))
        written += 250_000
        longest = max(longest, log.stat().st_size)
        time.sleep(0.002)  # the load, not a wait: about 50 MB/s
    housekeeping.shutdown()
    assert longest < 10 * MIB, "it is copied by whoever writes, if housekeeping does not keep up"


# -- durability -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fsync", "intake", "others"), [("commit", 2, 1), ("interval", 1, 1), ("off", 0, 0)])
def test_what_a_commit_waits_for_is_what_the_user_chose(make, fsync, intake, others):
    journal = make(fsync=fsync)
    levels = {}
    for role in Role:
        with journal.database.transaction(role) as connection:
            pass
        levels[role] = connection.execute("pragma synchronous").fetchone()[0]  # sqlite.org/pragma.html
    assert levels == {Role.INTAKE: intake, Role.CONVERTER: others, Role.SENDERS: others}


def test_at_an_interval_the_log_is_synced_by_housekeeping(make, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()))
    journal = make(fsync="interval", fsync_interval="20ms")
    housekeeping = Housekeeping(journal, journal._settings)
    housekeeping.start()
    journal.append([request(10)])
    until(lambda: len(synced) >= 2)
    housekeeping.shutdown()
    assert {file.name for file in synced} == {"journal.db-wal"}


def test_without_its_reserve_the_journal_refuses_until_it_has_it_back(make, monkeypatch):
    journal = make()
    journal.append([request()])
    assert journal.database.reserve.give_up()
    monkeypatch.setattr(os, "posix_fallocate", _no_room)
    journal.database.tend()
    with pytest.raises(Refused, match="disk is full"):
        journal.append([request()])
    monkeypatch.undo()
    journal.database.tend()
    assert journal.append([request()]).ids == [2]


def test_the_reserve_is_not_taken_back_before_who_needed_it_has_tried_again(make, monkeypatch, caplog):
    """Housekeeping comes by four times a second, and a converter tries again after one."""
    journal = make()
    writer = journal.database._writers[Role.CONVERTER]
    for _ in range(3):
        writer.execute("pragma max_page_count = 1")  # which is the disk's end for this one
        with pytest.raises(sqlite3.OperationalError, match="full"):
            journal.convert(chunks(1))
        assert not journal.database.reserve.held
        journal.database.tend()
        assert not journal.database.reserve.held
        writer.execute("pragma max_page_count = 1000000")
        journal.convert(chunks(1))
        now = time.monotonic()
        with monkeypatch.context() as later:
            later.setattr(time, "monotonic", lambda now=now: now + 5)
            journal.database.tend()
        assert journal.database.reserve.held
    assert caplog.text.count("using the reserve") == 1


def test_what_the_file_is_going_to_grow_by_is_set_aside_before_it_is_committed(make):
    """Else a log that finds no room to be copied would keep all the rest, and nothing could leave."""
    journal = make(max_size="64MiB")
    reserve = journal.database.directory / "journal.reserve"
    assert reserve.stat().st_size == 2 * MIB
    ids = journal.append([request(1_000_000)] * 5).ids
    assert reserve.stat().st_size > 5_000_000 + MIB
    journal.database.tend()
    assert reserve.stat().st_size == 2 * MIB
    journal.convert(Conversion(done=ids))
    journal.append([request(1_000_000)] * 4)  # it is free room that they take
    assert reserve.stat().st_size == 2 * MIB


def test_what_cannot_be_set_aside_is_not_stored_but_what_needs_no_more_room_is(make, monkeypatch):
    journal = make(max_size="64MiB")
    journal.register(["a"])
    first = journal.append([request(1_000_000)] * 3).ids
    (chunk, *_), _ = journal.convert(chunks(2, size=1_000_000))
    monkeypatch.setattr(os, "posix_fallocate", _no_room)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        journal.append([request(1_000_000)] * 5)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        journal.convert(chunks(5, size=1_000_000))
    assert journal.database.path.with_name("journal.db-wal").stat().st_size == 0, "it is copied at once"
    journal.advance("a", Position(chunk + 1))
    journal.convert(
        Conversion(done=first, chunks=chunks(3, size=900_000).chunks)
    )  # in the place of what goes
    assert journal.last_raw() == 0


def test_what_is_kept_leaves_when_the_disk_is_full_and_nothing_more_is_kept_until_there_is_room(
    make, monkeypatch, caplog
):
    journal = make(max_size="64MiB", keep_raw="1h")
    ids = journal.append([request()] * 40).ids
    journal.convert(Conversion(done=ids, keep=journal.keeps_raw))
    assert journal.has_kept()
    monkeypatch.setattr(os, "posix_fallocate", _no_room)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        journal.convert(chunks(5, size=1_000_000))
    assert not journal.keeps_raw
    before = journal.database.path.stat().st_size
    for _ in range(4):
        journal.database.tend()
    assert not journal.has_kept()
    assert journal.database.path.stat().st_size < before - 3 * MIB, "the disk has the room back"
    assert "requests that were kept for a replay make room" in caplog.text
    monkeypatch.undo()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 5)
    journal.database.tend()
    assert journal.keeps_raw


def test_a_disk_that_fails_for_another_reason_costs_nothing_that_is_kept(make):
    journal = make(keep_raw="1h")
    journal.convert(Conversion(done=journal.append([request()]).ids, keep=True))
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    with pytest.raises(sqlite3.OperationalError), journal.database.transaction(Role.CONVERTER):
        raise error
    assert not journal.database.reserve.held
    journal.database.tend()
    assert journal.has_kept()


def _no_room(*_):
    raise OSError(28, "No space left on device")


# -- replay ---------------------------------------------------------------------------------------------


def test_converted_requests_are_kept_as_long_as_they_shall_be(make, monkeypatch):
    journal = make(keep_raw="1h")
    ids = journal.append([request(10), request(20)]).ids
    journal.convert(Conversion(done=ids, keep=True))
    assert journal.has_kept()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3500)
    journal.forget_kept()
    assert journal.has_kept()
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    journal.forget_kept()
    assert not journal.has_kept()


# -- damage ---------------------------------------------------------------------------------------------


def test_a_journal_that_is_damaged_while_it_is_used_mends_itself(make, caplog):
    journal = make()
    journal.register(["a"])
    for _ in range(50):
        journal.append([request(20_000)])
    journal.convert(chunks(30, size=20_000))
    journal.database.checkpoint()
    with journal.database.path.open("r+b") as file:
        for page in range(3, journal.database.path.stat().st_size // 4096, 2):
            file.seek(page * 4096)
            file.write(noise(4096))
    found: list[RawRequest] = []
    for _ in range(3):  # whoever meets the damage is told so, and succeeds when he tries again
        try:
            found = journal.raw(0, journal.last_raw(), 1 << 30)
            journal.append([request(30)])
            break
        except sqlite3.Error:
            continue
    else:
        raise AssertionError("it does not mend itself")
    assert journal.database.salvages <= 1
    assert all(raw.damaged or raw.body == noise(20_000) for raw in found)
    lost = 50 - sum(not raw.damaged for raw in found)
    assert lost > 0
    if journal.database.salvages:
        assert "journal-corrupt-" in caplog.text
        assert journal.database.unreadable > 0
    last = journal.raw(0, journal.last_raw(), 1 << 30)[-1]
    assert last.body == noise(30)


def test_a_dead_letter_keeps_everything_that_is_known_of_it(make):
    journal = make()
    letter = DeadLetter("moesif/eu", "events", "HTTP 400", b"body", 3, 5, response='{"error": 1}')
    journal.convert(Conversion(dead_letters=[letter]))
    row = journal.database.read(
        "select origin, kind, reason, response, attempts, count, body from dead_letters"
    )
    assert row == [("moesif/eu", "events", "HTTP 400", '{"error": 1}', 3, 5, b"body")]


def test_salvages_can_be_read_as_metrics():
    telemetry = Telemetry(MetricsSettings(address="localhost:0"), {})
    telemetry.counter("otelcol_journal_salvages", "…", lambda: {(): 3.0})
    from prometheus_client import generate_latest  # noqa: PLC0415

    assert b"otelcol_journal_salvages_total 3.0" in generate_latest(telemetry._registry)
    telemetry.shutdown()


def test_a_journal_of_the_version_before_is_brought_up_to_date(tmp_path, make):
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as old:
        old.execute("pragma journal_mode = wal")
        old.executescript(f"begin; {V1} pragma user_version = 1; commit;")
        body = isal_zlib.compress(b"request", 0)
        old.execute("insert into raw (receiver, signal, body) values ('otlp', 'traces', ?)", (body,))
        old.execute("insert into events values (3, ',moesif,', 9, x'00')")
        old.execute("insert into cursors values ('moesif', 3, 4)")
    journal = make()
    assert [raw.body for raw in journal.raw(0, 9, 99)] == [b"request"]
    assert journal.cursors() == {"moesif": Position(3, 4)}
    assert journal.append([request(10)]).ids == [2]
    assert journal.database.salvages == 0


def test_a_row_whose_text_the_disk_has_changed_is_damaged_and_stops_nobody(make):
    journal = make()
    journal.append([request(10), request(20), request(30)])
    with closing(sqlite3.connect(journal.database.path, isolation_level=None)) as other:
        other.execute("update raw set signal = cast(x'74ff6163' as text) where id = 2")
    assert [raw.damaged for raw in journal.raw(0, 9, 999)] == [False, True, False]


def test_a_directory_that_the_journal_makes_is_its_owners_alone(tmp_path):
    Journal(JournalSettings(directory=tmp_path / "new" / "journal")).close()
    assert (tmp_path / "new" / "journal").stat().st_mode & 0o077 == 0


def test_what_was_captured_is_its_owners_alone_also_in_a_directory_of_others(make, tmp_path):
    tmp_path.chmod(0o755)
    journal = make()
    journal.append([request(10)])
    files = list(journal.database.directory.glob("journal.db*"))
    assert len(files) == 3
    assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o600"] * 3


def test_a_repair_for_which_there_is_no_room_is_tried_again(make, monkeypatch, caplog):
    monkeypatch.setattr("otel_moesif.journal.database._REPAIR_SECONDS", 0)
    journal = make()
    journal.append([request(10)])
    journal.database.checkpoint()
    in_the_way = journal.database.directory / "journal.salvaging.copy" / "x"
    in_the_way.mkdir(parents=True)
    with closing(sqlite3.connect(journal.database.path, isolation_level=None)) as other:
        other.execute("pragma writable_schema = on")
        other.execute("update sqlite_master set rootpage = 999 where name = 'events'")
        other.execute("pragma schema_version = 99")  # so that the others read it again
    for _ in range(3):
        with pytest.raises(sqlite3.Error):
            journal.convert(chunks(1))
        with pytest.raises((sqlite3.Error, Refused)):
            journal.append([request(10)])
    assert caplog.text.count("cannot make it anew") == 1
    in_the_way.rmdir()
    in_the_way.parent.rmdir()
    with pytest.raises(sqlite3.Error):
        journal.convert(chunks(1))  # this one makes it anew
    journal.convert(chunks(1))
    assert journal.database.salvages == 1
    assert [x.body for x in journal.raw(0, 99, MIB)] == [noise(10)]


def test_a_cursor_that_was_lost_with_a_damaged_journal_is_written_again(make):
    journal = make()
    journal.register(["a", "b"])
    (chunk, *_), _ = journal.convert(chunks(1, ["a", "b"]))
    with closing(sqlite3.connect(journal.database.path, isolation_level=None)) as other:
        other.execute("delete from cursors where exporter = 'a'")
    journal.advance("a", Position(chunk + 1, 0))
    journal.advance("b", Position(chunk + 1, 0))
    assert journal.cursors()["a"] == Position(chunk + 1, 0)
    assert journal.backlog() == {}  # else it stayed for ever


def test_a_log_that_a_long_reader_has_made_long_becomes_short_again(make):
    journal = make(max_size="64MiB")
    log = journal.database.path.with_name("journal.db-wal")
    with closing(sqlite3.connect(journal.database.path, isolation_level=None)) as other:
        other.execute("begin")
        other.execute("select count(*) from raw").fetchall()
        while log.stat().st_size < 5 * MIB:
            journal.append([request()])
    journal.database.tend()
    journal.append([request(10)])
    assert log.stat().st_size <= MIB
