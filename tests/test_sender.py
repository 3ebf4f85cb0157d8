"""The sender: order, retries, bisection, and nothing that waits for ever."""

from __future__ import annotations

import asyncio
import contextlib

import polars as pl
import pytest

from otel_moesif.config.model import MetricsSettings
from otel_moesif.errors import PermanentError, RetryableError
from otel_moesif.event_log import EventLog
from otel_moesif.events import Events
from otel_moesif.journal import Conversion, Journal, Position
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
    journal = Journal(tmp_path / "journal")
    journal.register(["a"])
    yield journal
    journal.close()


def add(journal, log, *chunks: Events) -> None:
    step = Conversion(chunks=[(["a"], len(chunk), chunk.to_ipc()) for chunk in chunks])
    ids, _ = journal.convert(step)
    log.publish([(id_, ["a"], chunk) for id_, chunk in zip(ids, chunks, strict=True)])


def deliver(journal, backend, chunks, until, *, consumers=2, max_size=1000, cursor=None):
    """Run a sender until something is true, then stop it; gives the sender."""

    async def run() -> Sender:
        log = EventLog(journal)
        log.start()
        batch = {"flush_timeout": "50ms", "min_size": max_size, "max_size": max_size}
        settings = ExporterConfig(sending_queue={"num_consumers": consumers, "batch": batch})
        telemetry = Telemetry(MetricsSettings(level="none", address=None), {})
        sender = Sender("a", backend, settings, log, journal, telemetry, jitter=lambda: 0.0)
        task = asyncio.create_task(sender.run(cursor or journal.cursors()["a"]))
        add(journal, log, *chunks)
        async with asyncio.timeout(10):
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
    assert not journal.dead_letters()


@pytest.mark.parametrize("error", [PermanentError("bad"), TypeError("a plugin's bug")])
def test_a_refusal_is_bisected_to_the_guilty_events(journal, error):
    guilty = {"3", "11"}
    backend = Backend(lambda batch, _: error if guilty & set(batch) else None)
    deliver(journal, backend, [events(0, 16)], lambda: len(backend.taken) == 14 and journal.dead_letters())
    assert sorted(backend.taken, key=int) == [x for x in ids(16) if x not in guilty]
    letters = journal.dead_letters()
    assert {Events.from_ipc(x.body).frame["correlationId"].item() for x in letters} == guilty
    assert all(str(error) in letter.reason and letter.origin == "a" for letter in letters)


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
