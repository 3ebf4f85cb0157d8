"""The sender: order, retries, bisection, and nothing that waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif.config.model import MetricsSettings
from otel_moesif.errors import PausedError, PermanentError, RetryableError
from otel_moesif.event_log import EventLog
from otel_moesif.events import Events
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import Conversion, NewChunk, Position
from otel_moesif.journal.settings import JournalSettings
from otel_moesif.journal.visitor import Visitor
from otel_moesif.sender import Sender
from otel_moesif.settings import ExporterConfig
from otel_moesif.telemetry import Telemetry


def events(first: int, count: int) -> Events:
    return Events(pl.DataFrame({"correlationId": [str(first + n) for n in range(count)]}))


class Backend:
    """A real exporter that keeps what it takes, and fails as a test says."""

    def __init__(self, fail=lambda _ids, _attempt: None) -> None:
        self.taken: list[str] = []
        self.batches: list[list[str]] = []
        self.attempts = 0
        self._fail = fail

    async def start(self) -> None: ...

    async def shutdown(self) -> None: ...

    async def export(self, batch: Events) -> None:
        self.attempts += 1
        ids = batch.frame["correlationId"].to_list()
        error = self._fail(ids, self.attempts)
        if asyncio.iscoroutine(error):
            error = await error
        if error:
            raise error
        self.taken += ids
        self.batches.append(ids)


class Plain(Backend):
    """Blocking code."""

    def export(self, batch: Events) -> None:
        self.taken += batch.frame["correlationId"].to_list()


@pytest.fixture
def journal(tmp_path):
    journal = Journal(JournalSettings(directory=tmp_path / "journal"))
    journal.register(["a"])
    yield journal
    journal.close()


def letters(journal):
    with Visitor(journal.database.directory) as visitor:
        return list(visitor.dead_letters())


def add(journal, log, *chunks: Events) -> None:
    step = Conversion(chunks=[NewChunk(["a"], len(chunk), chunk.to_ipc()) for chunk in chunks])
    ids, _ = journal.convert(step)
    log.publish([(id_, ["a"], chunk) for id_, chunk in zip(ids, chunks, strict=True)])


QUICK = {"initial_interval": "20ms", "max_interval": "80ms"}


def deliver(
    journal,
    backend,
    chunks,
    until,
    *,
    consumers=2,
    max_size=1000,
    cursor=None,
    jitter=0.0,
    retry=None,
    **options,
):
    """Run a sender until something is true, then stop it; gives the sender."""

    async def run() -> Sender:
        log = EventLog(journal)
        log.start()
        batch = {"flush_timeout": "50ms", "min_size": max_size, "max_size": max_size}
        config = ExporterConfig(
            sending_queue={"num_consumers": consumers, "batch": batch},
            retry_on_failure=retry or {},
            **options,
        )
        telemetry = Telemetry(MetricsSettings(level="none", address=None), {})
        sender = Sender("a", backend, config, log, journal, telemetry, jitter=lambda: jitter)
        task = asyncio.create_task(sender.run(cursor or journal.cursors()["a"]))
        add(journal, log, *chunks)
        async with asyncio.timeout(60):
            while not until():
                await asyncio.sleep(0.005)
            sender.stop()
            await task
        return sender

    return asyncio.run(run())


def ids(count: int, first: int = 0) -> list[str]:
    return [str(first + n) for n in range(count)]


def test_what_has_no_room_in_a_full_batch_does_not_wait_for_ever(journal):
    backend = Backend()
    sender = deliver(journal, backend, [events(0, 460), events(460, 800)], lambda: len(backend.taken) == 1260)
    assert sorted(backend.taken, key=int) == ids(1260)
    assert sender.cursor == journal.cursors()["a"] == Position(3, 0)
    assert journal.next_chunk("a", 0) is None  # behind every cursor: deleted


@pytest.mark.parametrize("error", [RetryableError("busy"), OSError("disk full"), TimeoutError()])
def test_what_may_succeed_later_is_tried_again_with_the_same_events(journal, error):
    backend = Backend(lambda _, attempt: error if attempt < 4 else None)
    deliver(journal, backend, [events(0, 10)], lambda: len(backend.taken) == 10)
    assert backend.taken == ids(10)
    assert backend.attempts == 4
    assert not letters(journal)


@pytest.mark.parametrize("error", [PermanentError("bad"), TypeError("a plugin's bug")])
def test_a_refusal_is_bisected_to_the_guilty_events(journal, error):
    guilty = {"3", "11"}
    backend = Backend(lambda batch, _: error if guilty & set(batch) else None)
    deliver(journal, backend, [events(0, 16)], lambda: len(backend.taken) == 14 and letters(journal))
    assert sorted(backend.taken, key=int) == [x for x in ids(16) if x not in guilty]
    found = letters(journal)
    assert {Events.from_ipc(x.body).frame["correlationId"].item() for x in found} == guilty
    said = str(error) if isinstance(error, PermanentError) else "TypeError: raised in export (test_sender.py"
    assert all(said in letter.reason and letter.origin == "a" for letter in found)


def test_the_cursor_passes_only_what_is_done_in_order(journal):
    slow = asyncio.Event()

    async def hold() -> None:
        await slow.wait()

    backend = Backend(lambda batch, _: hold() if "0" in batch else None)
    seen = []

    def until() -> bool:
        if len(backend.taken) == 15 and not slow.is_set():
            seen.append(journal.cursors()["a"])
            slow.set()
        return len(backend.taken) == 20

    deliver(journal, backend, [events(0, 20)], until, consumers=4, max_size=5)
    assert seen == [Position(0, 0)]  # three batches delivered, the first one not
    assert journal.cursors()["a"] == Position(2, 0)


def test_a_stop_does_not_wait_for_a_dead_backend(journal):
    backend = Backend(lambda *_: RetryableError("down"))
    sender = deliver(journal, backend, [events(0, 10)], lambda: backend.attempts > 2)
    assert sender.cursor == journal.cursors()["a"] == Position(0, 0)
    again = Backend()
    deliver(journal, again, [], lambda: len(again.taken) == 10)  # the next start delivers it
    assert again.taken == ids(10)


def test_a_start_resumes_inside_a_batch(journal):
    backend = Backend()
    deliver(journal, backend, [events(0, 10)], lambda: len(backend.taken) == 7, cursor=Position(1, 3))
    assert backend.taken == ids(7, first=3)


def test_blocking_code_runs_in_a_thread(journal):
    backend = Plain()
    deliver(journal, backend, [events(0, 5)], lambda: len(backend.taken) == 5)
    with contextlib.suppress(StopIteration):
        assert next(iter(backend.taken)) == "0"


# -- a backend in trouble -------------------------------------------------------------------------------


def test_a_dead_backend_costs_one_probe_per_interval_however_many_consumers(journal):
    began = time.monotonic()
    backend = Backend(lambda *_: RetryableError("down") if time.monotonic() < began + 0.5 else None)
    deliver(
        journal, backend, [events(0, 80)], lambda: len(backend.taken) == 80,
        consumers=8, max_size=10, jitter=1.0, retry={"initial_interval": "50ms", "max_interval": "50ms"},
    )  # fmt: skip
    assert sorted(backend.taken, key=int) == ids(80)
    # 8 batches were on their way when it broke; then one probe every 50 ms for half a second; then all
    assert backend.attempts <= 8 + 11 + 8


def test_a_batch_that_the_backend_chokes_on_does_not_hold_up_the_others(journal):
    backend = Backend(lambda batch, _: RetryableError("HTTP 500") if "0" in batch else None)
    deliver(
        journal, backend, [events(0, 100)], lambda: len(backend.taken) == 95,
        consumers=3, max_size=5, jitter=1.0, retry=QUICK,
    )  # fmt: skip
    assert sorted(backend.taken, key=int) == ids(95, first=5)
    assert journal.cursors()["a"] == Position(0, 0)  # which is repeated after a restart


def test_retry_after_is_the_least_that_is_waited(journal):
    times = []

    def fail(_ids, attempt):
        times.append(time.monotonic())
        return RetryableError("busy", 0.3) if attempt == 1 else None

    deliver(journal, Backend(fail), [events(0, 5)], lambda: len(times) == 2)
    assert times[1] - times[0] >= 0.3


def test_a_backend_that_hangs_is_given_up_in_time_and_tried_again(journal):
    async def hang() -> None:
        await asyncio.sleep(60)

    backend = Backend(lambda _, attempt: hang() if attempt == 1 else None)
    deliver(journal, backend, [events(0, 5)], lambda: len(backend.taken) == 5, timeout="50ms")
    assert backend.attempts == 2


def test_giving_up_by_age_is_the_users_choice_and_leaves_dead_letters(journal):
    backend = Backend(lambda *_: RetryableError("HTTP 503"))
    deliver(
        journal, backend, [events(0, 7)], lambda: bool(letters(journal)),
        jitter=1.0, retry={**QUICK, "max_elapsed_time": "150ms"},
    )  # fmt: skip
    (letter,) = letters(journal)
    assert (letter.count, letter.origin, letter.kind) == (7, "a", "events")
    assert letter.attempts > 1
    assert "gave up after" in letter.reason
    assert "HTTP 503" in letter.reason
    assert Events.from_ipc(letter.body).frame["correlationId"].to_list() == ids(7)
    assert journal.next_chunk("a", 0) is None


@pytest.mark.parametrize("retry", [{**QUICK, "max_elapsed_time": "20ms"}, {**QUICK, "enabled": False}])
def test_a_paused_exporter_gives_up_nothing_however_long_it_takes(journal, retry):
    backend = Backend(lambda _, attempt: PausedError("HTTP 401") if attempt < 20 else None)
    deliver(journal, backend, [events(0, 3)], lambda: len(backend.taken) == 3, retry=retry, jitter=1.0)
    assert letters(journal) == []


def test_without_retries_what_fails_once_becomes_a_dead_letter(journal):
    backend = Backend(lambda *_: OSError("down"))
    deliver(journal, backend, [events(0, 3)], lambda: bool(letters(journal)), retry={"enabled": False})
    assert (backend.attempts, letters(journal)[0].count) == (1, 3)


def test_a_dead_letter_says_what_the_backend_answered(journal):
    backend = Backend(lambda *_: PermanentError("HTTP 400", response='{"error": "uri"}'))
    deliver(journal, backend, [events(0, 1)], lambda: bool(letters(journal)))
    (letter,) = letters(journal)
    assert (letter.response, letter.attempts, letter.time > 0) == ('{"error": "uri"}', 1, True)


def test_a_stored_batch_that_the_disk_has_changed_becomes_a_dead_letter_and_stops_nobody(journal):
    chunks = [NewChunk(["a"], 5, events(n, 5).to_ipc()) for n in (0, 5, 10)]
    journal.convert(Conversion(chunks=chunks))
    with contextlib.closing(sqlite3.connect(journal.database.path, isolation_level=None)) as other:
        (body,) = other.execute("select body from events where id = 2").fetchone()
        middle = len(body) // 2
        other.execute(
            "update events set body = ? where id = 2", (body[:middle] + b"noise" + body[middle + 5 :],)
        )
    backend = Backend()
    deliver(journal, backend, [], lambda: len(backend.taken) == 10 and letters(journal))
    assert sorted(backend.taken, key=int) == ids(5) + ids(5, first=10)
    (letter,) = letters(journal)
    assert (letter.count, letter.attempts) == (5, 0)
    assert "damaged in the journal" in letter.reason
    assert journal.next_chunk("a", 0) is None


def test_what_is_done_is_not_kept_in_memory_while_an_older_batch_is_not(journal):
    backend = Backend(lambda batch, _: RetryableError("HTTP 500") if "0" in batch else None)
    kept = []

    class Watched(Sender):
        async def _consume(self, batch, consumers):
            await super()._consume(batch, consumers)
            kept.append(len(batch.events))

    original, module = Sender, sys.modules[__name__]
    module.Sender = Watched
    try:
        deliver(
            journal, backend, [events(0, 60)], lambda: len(backend.taken) == 55,
            consumers=2, max_size=5, retry=QUICK, jitter=1.0,
        )  # fmt: skip
    finally:
        module.Sender = original
    assert sorted(kept) == [0] * 11 + [5]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    guilty=st.sets(st.integers(0, 60), max_size=6),
    flaky=st.sets(st.integers(1, 40), max_size=12),
    max_size=st.integers(1, 25),
    consumers=st.integers(1, 4),
    restart=st.integers(0, 40),
)
def test_whatever_fails_each_event_is_taken_or_a_dead_letter_and_nothing_is_skipped(
    sizes, guilty, flaky, max_size, consumers, restart
):
    """Cursor and bisect: a first run is stopped somewhere, a second one goes on from the stored cursor."""
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    chunks = [events(start, size) for start, size in zip(starts, sizes, strict=True)]
    everything = {str(n) for n in range(sum(sizes))}
    bad = {str(n) for n in guilty} & everything

    def fail(batch, attempt):
        if attempt in flaky:
            return RetryableError("busy")
        return PermanentError("bad") if bad & set(batch) else None

    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(JournalSettings(directory=Path(directory)))
        journal.register(["a"])
        backend = Backend(fail)
        options = {"consumers": consumers, "max_size": max_size}
        fewest = -(-sum(sizes) // max_size)  # that many attempts there are in any case
        deliver(journal, backend, chunks, lambda: backend.attempts >= min(restart, fewest), **options)
        deliver(
            journal, backend, [],
            lambda: set(backend.taken) == everything - bad and journal.next_chunk("a", 0) is None, **options,
        )  # fmt: skip
        buried = [Events.from_ipc(x.body).frame["correlationId"].item() for x in letters(journal)]
        assert set(buried) == bad
        journal.close()
