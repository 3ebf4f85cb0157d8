"""Exporters of somebody else's that do what they should not: they harm themselves only."""

from __future__ import annotations

import asyncio
import functools
import threading
import time

import pytest

from otel_moesif.config.model import MetricsSettings
from otel_moesif.errors import RetryableError
from otel_moesif.event_log import EventLog
from otel_moesif.journal.rows import Conversion, NewChunk, Position
from otel_moesif.sender import Sender
from otel_moesif.settings import ExporterConfig
from otel_moesif.telemetry import Telemetry
from tests.test_sender import QUICK, Backend, deliver, events, ids, journal, letters

__all__ = ["journal"]  # a fixture


class Hanging(Backend):
    """Blocking code without a timeout."""

    def __init__(self) -> None:
        super().__init__()
        self.end = threading.Event()

    def export(self, batch):
        self.attempts += 1
        self.end.wait(60)


def test_blocking_code_that_hangs_holds_up_no_other_exporter(journal):
    hanging, well = Hanging(), Backend()
    journal.register(["a", "b"])
    chunks = [NewChunk(["a", "b"], 5, events(n, 5).to_ipc()) for n in range(0, 200, 5)]

    async def run() -> None:
        log = EventLog(journal)
        log.start()
        queue = {"num_consumers": 40, "batch": {"max_size": 5}}  # more than the loop has threads of its own
        config = ExporterConfig(sending_queue=queue)
        telemetry = Telemetry(MetricsSettings(level="none", address=None), {})
        senders = [Sender(x, y, config, log, journal, telemetry) for x, y in (("a", hanging), ("b", well))]
        tasks = [asyncio.create_task(senders[0].run(Position()))]
        journal.convert(Conversion(chunks=chunks))
        try:
            async with asyncio.timeout(30):
                while hanging.attempts < 40:
                    await asyncio.sleep(0.005)
                tasks.append(asyncio.create_task(senders[1].run(Position())))
                while journal.backlog().get("b"):
                    await asyncio.sleep(0.005)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    began = time.monotonic()
    try:
        asyncio.run(run())
        assert len(well.taken) == 200
        assert time.monotonic() - began < 8, "the end waits for nobody that hangs"
    finally:
        hanging.end.set()


def test_plain_code_may_give_something_to_wait_for(journal):
    def wrapped(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)

        return wrapper

    class Wrapped(Backend):
        export = wrapped(Backend.export)

    backend = Wrapped(lambda _, attempt: RetryableError("busy") if attempt == 1 else None)
    deliver(journal, backend, [events(0, 5)], lambda: journal.backlog() == {} and backend.attempts == 2)
    assert backend.taken == ids(5)


def test_an_exporter_that_cancels_its_own_work_is_tried_again(journal):
    backend = Backend(lambda _, attempt: asyncio.CancelledError() if attempt == 1 else None)
    deliver(journal, backend, [events(0, 5)], lambda: journal.backlog() == {} and backend.attempts == 2)
    assert backend.taken == ids(5)


def test_a_stop_comes_to_an_end_while_a_batch_that_hangs_holds_up_the_cursor(journal, monkeypatch):
    monkeypatch.setattr("otel_moesif.sender._WINDOW", 4)

    async def hang() -> None:
        await asyncio.sleep(60)

    backend = Backend(lambda batch, _: hang() if "0" in batch else None)
    # three are taken, and no more before the oldest one is done
    deliver(journal, backend, [events(0, 20)], lambda: len(backend.taken) == 3, max_size=1, timeout="300ms")
    assert journal.cursors()["a"] == Position(0, 0)


@pytest.mark.parametrize("retry", [{"enabled": False}, {**QUICK, "max_elapsed_time": "1ms"}])
def test_what_is_not_delivered_at_the_end_stays_also_where_giving_up_is_configured(journal, retry):
    trying = asyncio.Event()

    async def fail() -> OSError:
        trying.set()
        await asyncio.sleep(0.2)
        return OSError("down")

    deliver(journal, Backend(lambda *_: fail()), [events(0, 5)], trying.is_set, retry=retry)
    assert not letters(journal)
    assert journal.backlog() == {"a": 5}


def test_a_backend_that_fails_now_and_then_does_not_fill_the_log(journal, caplog):
    caplog.set_level("INFO")
    backend = Backend(lambda _, attempt: RetryableError("busy") if attempt % 2 else None)
    deliver(journal, backend, [events(0, 20)], lambda: len(backend.taken) == 20, max_size=1, consumers=1)
    said = [record.message for record in caplog.records]
    assert said == ["a: cannot deliver, will try until it works: busy", "a: delivering again"]


def test_the_text_of_an_error_that_is_not_ours_is_not_logged(journal, caplog):
    caplog.set_level("INFO")
    text = "cannot connect to https://user:s3cret@backend.example"
    backend = Backend(lambda _, attempt: ConnectionError(text) if attempt == 1 else None)
    deliver(journal, backend, [events(0, 5)], lambda: journal.backlog() == {} and backend.attempts == 2)
    assert "cannot deliver, will try until it works: ConnectionError: raised in export" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_time_limit_that_ran_out_is_said_in_words(journal, caplog):
    async def hang() -> None:
        await asyncio.sleep(60)

    backend = Backend(lambda _, attempt: hang() if attempt == 1 else None)
    done = lambda: journal.backlog() == {} and backend.attempts == 2  # noqa: E731
    deliver(journal, backend, [events(0, 5)], done, timeout="100ms")
    assert "will try until it works: no answer within 0.1 s" in caplog.text
