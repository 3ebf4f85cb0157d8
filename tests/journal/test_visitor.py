"""Another process beside the collector: what it finds, what it may delete, and what it asks for."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time

import pytest

from otel_moesif.component import Signal
from otel_moesif.errors import StartError
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import Conversion, DeadLetter, NewChunk, Position, RawRequest
from otel_moesif.journal.settings import JournalSettings
from otel_moesif.journal.visitor import DamagedLetter, Letters, VisitError, Visitor


@pytest.fixture
def journal(tmp_path):
    """A collector's journal; as long as it is open, the collector runs."""
    journal = Journal(JournalSettings(directory=tmp_path, keep_raw="1h"))
    yield journal
    journal.close()


@pytest.fixture
def visitor(journal, tmp_path):
    with Visitor(tmp_path) as visitor:
        yield visitor


def letter(origin="moesif", kind="events", body=b"body", **more) -> DeadLetter:
    return DeadLetter(origin, kind, more.pop("reason", "no"), body, **more)


def store(journal, *chunks: tuple[str, int]) -> list[int]:
    """Store batches of events, each given as ``exporter,exporter`` and a number of events."""
    made = [NewChunk(names.split(","), count, b"e" * 5000) for names, count in chunks]
    return journal.convert(Conversion(chunks=made))[0]


def bury(journal, *letters: DeadLetter) -> None:
    journal.convert(Conversion(dead_letters=list(letters)))


def keep(journal, count: int) -> list[int]:
    """Store requests, each in a commit of its own, and keep them as converted."""
    ids = []
    for number in range(count):
        ids += journal.append([RawRequest("otlp", Signal.TRACES, b"request %d" % number)]).ids
    journal.convert(Conversion(done=ids, keep=True))
    return ids


def names(journal) -> dict[int, str]:
    return dict(journal.database.read("select id, exporters from events"))


def spoil(directory) -> None:
    """Change a body without its checksum, as a disk would."""
    connection = sqlite3.connect(directory / "journal.db")
    with connection:
        connection.execute("update dead_letters set body = x'00'")
    connection.close()


# -- opening ------------------------------------------------------------------------------------------


def test_where_there_is_no_journal_one_line_says_so(tmp_path):
    with pytest.raises(VisitError, match=r"there is no journal in .*service\.journal\.directory"):
        Visitor(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("version", "said"), [(1, "older version"), (99, "newer version"), (0, "no journal")]
)
def test_a_journal_of_another_version_is_left_alone(journal, tmp_path, version, said):
    journal.close()
    connection = sqlite3.connect(tmp_path / "journal.db")
    connection.execute(f"pragma user_version = {version}")
    connection.close()
    with pytest.raises(VisitError, match=said):
        Visitor(tmp_path)


def test_another_file_is_not_taken_for_a_journal(tmp_path):
    (tmp_path / "journal.db").write_bytes(b"nothing of the kind" * 1000)
    with pytest.raises(VisitError, match="damaged"):
        Visitor(tmp_path)


def test_it_knows_whether_a_collector_runs(journal, visitor):
    assert visitor.running
    journal.close()
    assert not visitor.running


def test_a_damaged_log_is_left_to_the_collector_which_saves_it(journal, tmp_path):
    for number in range(20):
        bury(journal, letter(body=b"%d" % number * 3000))
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for file in tmp_path.glob("journal.db*"):
        shutil.copy(file, crashed)
    log = crashed / "journal.db-wal"
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    with pytest.raises(VisitError, match="damaged; start the collector once"):
        Visitor(crashed)
    assert log.read_bytes() == content


def test_a_swap_that_was_interrupted_is_left_to_the_collector(journal, tmp_path):
    journal.close()
    (tmp_path / "journal.db").rename(tmp_path / "journal.salvaged.db")
    with pytest.raises(VisitError, match="made anew; start the collector once"):
        Visitor(tmp_path)


def test_a_journal_that_was_made_anew_meanwhile_is_not_written(journal, visitor, tmp_path):
    bury(journal, letter())
    (tmp_path / "journal.db").rename(tmp_path / "journal-corrupt-20260101T000000Z.db")
    shutil.copy(tmp_path / "journal-corrupt-20260101T000000Z.db", tmp_path / "journal.db")
    with pytest.raises(VisitError, match="made anew meanwhile"):
        visitor.purge()


def test_a_busy_journal_is_one_line(journal, tmp_path):
    with Visitor(tmp_path, busy_seconds=0.05) as visitor:
        connection = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        bury(journal, letter())
        connection.execute("begin immediate")
        with pytest.raises(VisitError, match="is busy; try again"):
            visitor.purge()
        connection.execute("rollback")
        connection.close()
        assert visitor.purge() == 1


def test_no_collector_starts_while_a_visitor_writes(journal, tmp_path):
    journal.close()
    with Visitor(tmp_path) as visitor:
        with visitor._visit.transaction() as (_, running):
            assert not running
            with pytest.raises(StartError):
                Journal(JournalSettings(directory=tmp_path))
        Journal(JournalSettings(directory=tmp_path)).close()  # but while one only has it open


# -- dead letters -------------------------------------------------------------------------------------


def test_dead_letters_come_oldest_first_and_filtered(journal, visitor):
    bury(journal, letter("a", body=b"1"), letter("b", body=b"2"), letter("a", body=b"3"))
    assert [x.body for x in visitor.dead_letters()] == [b"1", b"2", b"3"]
    assert [x.body for x in visitor.dead_letters(Letters(origin="a"))] == [b"1", b"3"]
    assert [x.body for x in visitor.dead_letters(Letters(ids=[2, 99]))] == [b"2"]
    assert [x.id for x in visitor.dead_letters(newest=2)] == [2, 3]
    assert [x.id for x in visitor.dead_letters(Letters(origin="a"), newest=1)] == [3]
    assert not list(visitor.dead_letters(Letters(before=time.time() - 60)))
    assert visitor.count_letters(Letters(before=time.time() + 60)) == 3
    assert {x.body for x in visitor.dead_letters(bodies=False)} == {b""}


def test_many_dead_letters_are_all_read(journal, visitor):
    bury(journal, *(letter(body=b"x" * 200_000) for _ in range(40)), *(letter() for _ in range(600)))
    assert [x.id for x in visitor.dead_letters()] == list(range(1, 641))


def test_reading_dead_letters_does_not_keep_the_log_from_beginning_anew(journal, visitor, tmp_path):
    bury(journal, *(letter(body=b"x" * 10_000) for _ in range(600)))
    reading = visitor.dead_letters()
    next(reading)  # and there it stays, as with an export into a pipe that nobody reads
    bury(journal, *(letter(body=b"x" * 10_000) for _ in range(600)))
    journal.database.checkpoint()
    before = (tmp_path / "journal.db-wal").stat().st_size
    bury(journal, *(letter(body=b"x" * 10_000) for _ in range(100)))
    assert (tmp_path / "journal.db-wal").stat().st_size == before
    assert len(list(reading)) == 599


def test_a_damaged_body_is_marked(journal, visitor, tmp_path):
    bury(journal, letter())
    assert not isinstance(next(visitor.dead_letters()), DamagedLetter)
    spoil(tmp_path)
    assert isinstance(next(visitor.dead_letters()), DamagedLetter)


def test_purge_deletes_what_was_meant_and_nothing_else(journal, visitor):
    bury(journal, letter("a"), letter("b"), letter("a"), letter("b"))
    assert visitor.purge(Letters(origin="a")) == 2
    assert visitor.purge(Letters(ids=[4])) == 1
    assert [x.id for x in visitor.dead_letters()] == [2]
    assert visitor.purge(Letters(before=1.0)) == 0
    assert visitor.purge() == 1


def test_many_are_purged_in_steps_between_which_the_collector_writes(journal, visitor):
    bury(journal, *(letter() for _ in range(1500)))
    slowest, purged = 0.0, []
    thread = threading.Thread(target=lambda: purged.append(visitor_purge(visitor)))
    thread.start()
    while thread.is_alive():
        began = time.monotonic()
        journal.append([RawRequest("otlp", Signal.TRACES, b"request")])
        slowest = max(slowest, time.monotonic() - began)
    thread.join()
    assert purged == [1500]
    assert slowest < 1


def visitor_purge(visitor) -> int:
    with Visitor(visitor._visit.directory) as other:  # a connection belongs to its thread
        return other.purge()


def test_what_shall_be_tried_again_is_in_the_inbox_and_no_dead_letter(journal, visitor):
    bury(journal, letter("traces", "traces", b"raw", receiver="otlp"), letter("moesif", count=3))
    assert visitor.try_again(Letters(origin="moesif")) == 1
    assert visitor.try_again() == 1
    assert [(x.kind, x.receiver, x.origin, x.count, x.body) for x in journal.inbox(1 << 20)] == [
        ("events", "", "moesif", 3, b"body"),
        ("traces", "otlp", "traces", 1, b"raw"),
    ]
    assert not any(x.damaged for x in journal.inbox(1 << 20))
    assert not list(visitor.dead_letters())
    assert visitor.status().inbox == 2


def test_damaged_bodies_cannot_be_tried_again_and_stay(journal, visitor):
    held = letter("traces,apim_event,clients", "held")
    bury(journal, held, letter(), letter(reason="damaged in the journal: wrong checksum", attempts=0))
    assert visitor.try_again() == 2
    assert [x.id for x in visitor.dead_letters()] == [3]
    assert visitor.try_again(Letters(ids=[3])) == 0
    assert next((x.kind, x.origin) for x in journal.inbox(1 << 20)) == ("held", held.origin)


def test_a_checksum_goes_with_what_is_tried_again(journal, visitor, tmp_path):
    bury(journal, letter())
    spoil(tmp_path)
    visitor.try_again()
    assert [x.damaged for x in journal.inbox(1 << 20)] == [True]


def test_many_large_ones_are_tried_again_in_steps(journal, visitor):
    bury(journal, *(letter(body=b"x" * 1_000_000) for _ in range(10)))
    assert visitor.try_again() == 10
    assert len(journal.inbox(1 << 30)) == 10


# -- replay -------------------------------------------------------------------------------------------


def test_a_replay_does_what_was_accepted_between_two_moments(journal, visitor):
    keep(journal, 2)
    since = time.time()
    middle = keep(journal, 3)
    until = time.time()
    keep(journal, 2)
    journal.register(["moesif"])
    number, count = visitor.replay(since, until, ["moesif"])
    assert count == 3
    part = journal.next_replay(1 << 20)
    assert (part.id, part.exporters, part.last) == (number, ["moesif"], middle[-1])
    assert [(raw.id, raw.body) for raw in part.requests] == [
        (id_, b"request %d" % number) for number, id_ in enumerate(middle)
    ]


def test_how_far_a_replay_is(journal, visitor):
    ids = keep(journal, 3)
    number, _ = visitor.replay(0, time.time())
    assert visitor.progress(number) == visitor.progress(number).__class__(0, 3, over=False)
    journal.convert(Conversion(replay=(number, ids[1], 2)))
    assert (visitor.progress(number).done, visitor.progress(number).over) == (2, False)
    assert [(x.id, x.done, x.total) for x in visitor.status().replays] == [(number, 2, 3)]
    journal.convert(Conversion(replayed=number))
    assert visitor.progress(number).over


def test_a_cancelled_replay_does_no_more(journal, visitor):
    keep(journal, 1)
    number, _ = visitor.replay(0, time.time())
    visitor.cancel(number)
    assert journal.next_replay(1 << 20) is None
    with pytest.raises(VisitError, match=f"no replay {number}"):
        visitor.cancel(number)


def test_a_replay_of_nothing_or_for_nobody_is_refused(journal, visitor):
    with pytest.raises(VisitError, match="keep_raw"):
        visitor.replay(0, time.time())
    keep(journal, 1)
    with pytest.raises(VisitError, match="keep_raw"):
        visitor.replay(0, time.time() - 60)
    with pytest.raises(VisitError, match=r"nope .*exporters: none"):
        visitor.replay(0, time.time(), ["nope"])
    journal.register(["old", "moesif"])
    journal.register(["moesif"])
    with pytest.raises(VisitError, match=r"old \(exporters: moesif\)"):
        visitor.replay(0, time.time(), ["moesif", "old"])
    assert journal.next_replay(1 << 20) is None


# -- status and room ----------------------------------------------------------------------------------


def test_the_status_counts_everything(journal, visitor, tmp_path):
    journal.register(["gone"])
    journal.register(["a", "b"])
    first, _, third = store(journal, ("a,b", 10), ("a", 5), ("gone", 7))
    journal.advance("a", Position(first, 4))
    journal.append([RawRequest("otlp", Signal.TRACES, b"raw")])
    bury(journal, letter(count=3), letter("traces", "traces"))
    (tmp_path / "journal-corrupt-20260101T000000Z.db").write_bytes(b"x" * 100)
    (tmp_path / "journal-corrupt-20260101T000000Z.db-wal").write_bytes(b"x" * 11)
    status = visitor.status()
    assert status.running
    assert {x.exporter: (x.active, x.events) for x in status.backlogs} == {
        "a": (True, 6 + 5),
        "b": (True, 10),
        "gone": (False, 7),
    }
    assert all(time.time() - 60 < x.oldest <= time.time() for x in status.backlogs)
    assert (status.raw, status.kept, status.letters, status.dead_letters) == (1, 0, 2, 4)
    assert time.time() - 60 < status.oldest_raw <= time.time()
    assert status.bytes_on_disk == journal.size()
    assert [(x.path.name, x.bytes) for x in status.set_aside] == [
        ("journal-corrupt-20260101T000000Z.db", 111)
    ]
    assert third


def test_an_empty_journal_has_a_status(visitor):
    status = visitor.status()
    assert (status.raw, status.oldest_raw, status.kept_since, status.letters) == (0, None, None, 0)
    assert not [*status.backlogs, *status.replays, *status.set_aside]


def test_pruning_an_exporter_keeps_what_others_still_wait_for(journal, visitor):
    journal.register(["gone", "a", "gone/2"])
    ids = store(journal, ("gone", 1), ("gone,a", 2), ("a,gone,gone/2", 4), ("a", 8), ("gone,a", 16))
    journal.advance("a", Position(ids[2]))  # a has the first ones already
    journal.register(["a", "gone/2"])
    assert visitor.prune_exporter("gone") == 1 + 2 + 4 + 16
    assert names(journal) == {ids[2]: ",a,gone/2,", ids[3]: ",a,", ids[4]: ",a,"}
    assert journal.backlog() == {"a": 4 + 8 + 16, "gone/2": 4}
    assert set(journal.cursors()) == {"a", "gone/2"}
    journal.advance("a", Position(ids[4] + 1))
    journal.advance("gone/2", Position(ids[4] + 1))
    assert not names(journal)  # nobody waits in its name


def test_pruning_counts_a_batch_that_was_partly_delivered_from_its_cursor_on(journal, visitor):
    journal.register(["gone"])
    (id_,) = store(journal, ("gone", 10))
    journal.advance("gone", Position(id_, 7))
    journal.register([])
    assert visitor.prune_exporter("gone") == 3


def test_pruning_an_exporter_that_is_in_use_is_refused_while_the_collector_runs(journal, visitor):
    journal.register(["moesif"])
    ids = store(journal, ("moesif", 5))
    with pytest.raises(VisitError, match="moesif is in use"):
        visitor.prune_exporter("moesif")
    assert list(names(journal)) == ids
    with pytest.raises(VisitError, match=r"no exporter nope .*exporters: moesif"):
        visitor.prune_exporter("nope")
    journal.close()
    assert visitor.prune_exporter("moesif") == 5


def test_pruning_an_exporter_ends_when_it_comes_into_use_meanwhile(journal, visitor):
    journal.register([])
    connection = journal.database
    with connection.transaction(next(iter(connection._writers))) as writer:
        writer.execute("insert into cursors values ('moesif', 0, 0, 0)")
    ids = store(journal, *[("moesif", 1)] * 600)

    visit = visitor._visit
    transaction, calls = visit.transaction, []

    def counted():
        calls.append(None)
        if len(calls) == 2:
            journal.register(["moesif"])
        return transaction()

    visit.transaction = counted
    with pytest.raises(VisitError, match="in use"):
        visitor.prune_exporter("moesif")
    assert 0 < len(names(journal)) < len(ids)
    assert journal.next_chunk("moesif", 0).id == min(names(journal))  # the rest is delivered


def test_a_pruned_exporter_that_comes_back_begins_with_what_is_new(journal, visitor):
    journal.register(["gone", "a"])
    store(journal, ("gone,a", 2))
    journal.register(["a"])
    visitor.prune_exporter("gone")
    assert journal.register(["a", "gone"])["gone"] == Position(0, 0)
    (new,) = store(journal, ("gone,a", 2))
    assert journal.next_chunk("gone", 0).id == new


def test_pruning_kept_requests_ends_replays_too(journal, visitor):
    keep(journal, 300)
    visitor.replay(0, time.time())
    assert visitor.status().kept == 300
    assert visitor.prune_kept() == 300
    status = visitor.status()
    assert (status.kept, list(status.replays)) == (0, [])
    assert journal.next_replay(1 << 20) is None


@pytest.mark.parametrize("running", [True, False])
def test_room_is_given_back_to_the_disk(journal, visitor, tmp_path, running):
    bury(journal, *(letter(body=b"x" * 100_000) for _ in range(200)))
    visitor.purge()
    journal.database.checkpoint()
    if not running:
        journal.close()
    before = (tmp_path / "journal.db").stat().st_size
    assert before > 19 << 20
    given = visitor.give_back()
    assert given > 18 << 20
    if running:
        journal.database.checkpoint()
    else:
        visitor.__exit__()
    assert (tmp_path / "journal.db").stat().st_size <= before - given
