"""`on_full: drop_oldest`: what the journal has dropped is not sent after all, wherever it waits by then."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from otel_moesif.backlog import Backlog
from otel_moesif.config.model import MetricsSettings
from otel_moesif.errors import PermanentError, RetryableError
from otel_moesif.event_log import EventLog
from otel_moesif.journal.rows import Position
from otel_moesif.sender import Sender
from otel_moesif.settings import BatchSettings, ExporterConfig
from otel_moesif.telemetry import Telemetry
from tests.test_sender import QUICK, Backend, add, events, ids, journal

__all__ = ["journal"]  # a fixture


def drop(journal, log, before):
    """What the intake does to make room."""
    with sqlite3.connect(journal.database.path, isolation_level=None) as other:
        other.execute("delete from events where id < ?", (before,))
    log.forget(before)


def run(journal, backend, steps, *, max_size=10, consumers=1, chunks=10):
    """Chunks of 10 events each; ``steps(log)`` is awaited, then everything is delivered."""

    async def deliver():
        log = EventLog(journal)
        log.start()
        batch = {"flush_timeout": "20ms", "min_size": max_size, "max_size": max_size}
        config = ExporterConfig(
            sending_queue={"num_consumers": consumers, "batch": batch}, retry_on_failure=QUICK
        )
        telemetry = Telemetry(MetricsSettings(level="none", address=None), {})
        sender = Sender("a", backend, config, log, journal, telemetry)
        add(journal, log, *(events(10 * n, 10) for n in range(chunks)))
        task = asyncio.create_task(sender.run(Position()))
        async with asyncio.timeout(60):
            await steps(log)
            while sender.cursor < Position(chunks + 1, 0):
                await asyncio.sleep(0.005)
            sender.stop()
            await task

    asyncio.run(deliver())
    assert journal.cursors()["a"] == Position(chunks + 1, 0)


async def until(true):
    while not true():
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("max_size", [4, 10, 25, 1000])
@pytest.mark.parametrize("consumers", [1, 3])
def test_what_waits_for_a_backend_that_is_down_is_let_go_of(journal, max_size, consumers):
    """In flight, cut into batches of its own size, and read already; chunk 4 is the first that is left."""
    down = [True]
    backend = Backend(lambda *_: RetryableError("down") if down else None)

    async def steps(log):
        await until(lambda: backend.attempts > 2)
        drop(journal, log, 4)
        down.clear()

    run(journal, backend, steps, max_size=max_size, consumers=consumers)
    assert sorted(backend.taken, key=int) == ids(70, 30)


def test_what_was_read_but_is_in_no_batch_yet_is_let_go_of(journal):
    hold = asyncio.Event()

    async def wait():
        await hold.wait()

    backend = Backend(lambda *_: wait())

    async def steps(log):
        await until(lambda: backend.attempts)
        drop(journal, log, 8)
        hold.set()

    run(journal, backend, steps)
    on_its_way, left = ids(10), ids(30, 70)
    # the one after it was cut before: it is not sent either
    assert backend.taken == on_its_way + left


def test_a_refused_batch_that_was_dropped_as_a_whole_is_bisected_no_further(journal):
    refused = asyncio.Event()
    down = [True]

    def fail(batch, _):
        if len(batch) == 10:
            return PermanentError("bad")
        refused.set()
        return RetryableError("down") if down else None

    backend = Backend(fail)

    async def steps(log):
        await refused.wait()
        drop(journal, log, 2)
        await asyncio.sleep(0.2)
        attempts = backend.attempts
        await asyncio.sleep(0.2)
        assert backend.attempts == attempts
        down.clear()

    run(journal, backend, steps, chunks=1)
    assert backend.taken == []


def test_what_was_read_is_cut_into_no_more_batches(journal):
    async def cut():
        log = EventLog(journal)
        log.start()
        add(journal, log, events(0, 10), events(10, 2))
        backlog = Backlog("a", BatchSettings(min_size=1, max_size=4), log, Position(), asyncio.Event())
        found = [await backlog.next()]
        drop(journal, log, 2)
        return found + [await backlog.next() for _ in range(2)]

    batches = asyncio.run(cut())
    assert [len(batch.events) for batch in batches] == [4, 0, 2]
    assert [batch.end for batch in batches] == [Position(1, 4), Position(2, 0), Position(3, 0)]
