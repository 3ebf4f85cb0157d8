"""Journal, intake and converter: what is acknowledged is stored, what is stored becomes events once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sqlite3
import time

import polars as pl
import pytest
from opentelemetry.metrics import get_meter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_moesif.builtin import otel_moesif_dialects
from otel_moesif.component import ComponentId, Context, Receipt, Signal
from otel_moesif.config.model import DeduplicateSettings, MetricsSettings
from otel_moesif.converter import Converter
from otel_moesif.errors import InvalidData, Refused, StartError
from otel_moesif.event_log import EventLog
from otel_moesif.events import Events
from otel_moesif.held import to_ipc
from otel_moesif.intake import Intake
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import Conversion, NewChunk, Position, RawRequest
from otel_moesif.journal.settings import JournalSettings
from otel_moesif.journal.visitor import Visitor
from otel_moesif.pipeline import Pipeline
from otel_moesif.processors.apim_event.processor import ApimEvent, ApimEventSettings
from otel_moesif.schema import SCHEMA
from otel_moesif.stream import Stream
from otel_moesif.telemetry import Telemetry

MS = 1_000_000
START = 1_750_000_000_000 * MS


def telemetry() -> Telemetry:
    return Telemetry(MetricsSettings(level="none", address=None), {})


def span(number: int, kind: int, status: int = 200) -> bytes:
    """A request with one span; a CLIENT span is the child of the SERVER span of the same number."""
    message = ExportTraceServiceRequest()
    client = kind == Span.SPAN_KIND_CLIENT
    offset = 10 * MS if client else 0
    one = (
        message.resource_spans.add()
        .scope_spans.add()
        .spans.add(
            trace_id=number.to_bytes(16, "big"),
            span_id=(number * 2 + client).to_bytes(8, "big"),
            parent_span_id=(number * 2).to_bytes(8, "big") if client else b"",
            name=f"call {number}",
            kind=kind,
            start_time_unix_nano=START + offset,
            end_time_unix_nano=START + 100 * MS - offset,
        )
    )
    one.attributes.add(key="http.request.method").value.string_value = "GET"
    one.attributes.add(key="http.response.status_code").value.int_value = status
    return message.SerializeToString()


def server(number: int, status: int = 200) -> bytes:
    return span(number, Span.SPAN_KIND_SERVER, status)


def client(number: int, status: int = 200) -> bytes:
    return span(number, Span.SPAN_KIND_CLIENT, status)


def raw(*bodies: bytes) -> list[RawRequest]:
    return [RawRequest("otlp", Signal.TRACES, body) for body in bodies]


def open_journal(directory, **options) -> Journal:
    return Journal(JournalSettings(directory=directory, **options))


def letters(journal):
    with Visitor(journal.database.directory) as visitor:
        return list(visitor.dead_letters())


@pytest.fixture
def journal(tmp_path):
    journal = open_journal(tmp_path / "journal")
    yield journal
    journal.close()


def break_table(journal: Journal, table: str) -> sqlite3.Connection:
    """Make every insert into a table fail, as a full disk would; close the trigger to repair it."""
    other = sqlite3.connect(journal.database.path, isolation_level=None)
    other.execute(f"create trigger full before insert on {table} begin select raise(abort, 'disk full'); end")
    return other


# -- journal ------------------------------------------------------------------------------------------


def test_what_was_appended_is_there_after_a_restart(tmp_path):
    first = open_journal(tmp_path)
    assert first.append(raw(b"a", b"b" * 1000)).ids == [1, 2]
    first.close()
    again = open_journal(tmp_path)
    assert [x.body for x in again.raw(0, again.last_raw(), 1 << 20)] == [b"a", b"b" * 1000]
    again.convert(Conversion(done=[1, 2]))
    assert again.append(raw(b"c")).ids == [3]  # ids are never used again
    again.close()


def test_a_directory_belongs_to_one_collector(journal):
    with pytest.raises(StartError, match="in use by another collector"):
        open_journal(journal.database.directory)


def test_a_newer_journal_is_left_alone(tmp_path):
    open_journal(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.db") as database:
        database.execute("pragma user_version = 99")
    with pytest.raises(StartError, match="newer version"):
        open_journal(tmp_path)


def test_a_conversion_happens_whole_or_not_at_all(journal):
    ids = journal.append(raw(b"a")).ids
    broken = break_table(journal, "events")
    with pytest.raises(sqlite3.Error, match="disk full"):
        journal.convert(Conversion(done=ids, chunks=[NewChunk(["a"], 1, b"x")]))
    assert journal.last_raw() == ids[0]
    broken.execute("drop trigger full")
    journal.convert(Conversion(done=ids, chunks=[NewChunk(["a"], 1, b"x")]))
    assert journal.last_raw() == 0
    assert journal.next_chunk("a", 0).body == b"x"


def test_rows_go_when_every_cursor_has_passed(journal):
    journal.register(["a", "a/b"])
    chunks, _ = journal.convert(
        Conversion(chunks=[NewChunk(["a", "a/b"], 5, b"1"), NewChunk(["a"], 7, b"2")])
    )
    journal.advance("a", Position(chunks[1] + 1, 0))
    assert journal.next_chunk("a/b", 0).id == chunks[0]
    assert journal.next_chunk("a", 0).id == chunks[0]  # the second one was for nobody else
    journal.advance("a/b", Position(chunks[0], 3))
    assert journal.backlog() == {"a": 0, "a/b": 2}
    journal.advance("a/b", Position(chunks[0] + 1, 0))
    assert journal.backlog() == {}


# -- intake -------------------------------------------------------------------------------------------


def accept(journal, *bodies, max_bytes=1 << 20, before=None):
    """Hand all bodies over at once; gives the receipt or the exception of each."""

    async def run():
        intake = Intake(journal, telemetry(), max_bytes, lambda *_: None)
        intake.start()
        if before:
            before()
        answers = await asyncio.gather(
            *(intake.accept("otlp", Signal.TRACES, body, "test") for body in bodies), return_exceptions=True
        )
        await intake.shutdown()
        with pytest.raises(Refused, match="shutting down"):
            await intake.accept("otlp", Signal.TRACES, server(1), "test")
        return answers

    return asyncio.run(run())


def test_a_malformed_request_is_refused_alone(journal):
    answers = accept(journal, server(1), b"not protobuf", server(2), b"")
    assert [type(answer) for answer in answers] == [Receipt, InvalidData, Receipt, Receipt]
    assert [x.body for x in journal.raw(0, 99, 1 << 20)] == [server(1), server(2)]


def test_a_full_intake_refuses_and_stores_nothing_of_it(journal):
    body = server(1)
    answers = accept(journal, body, body, max_bytes=len(body))
    assert [type(answer) for answer in answers] == [Receipt, Refused]
    assert answers[1].retry_after > 0
    assert len(journal.raw(0, 99, 1 << 20)) == 1


def test_a_journal_that_cannot_be_written_is_no_success(journal):
    broken = break_table(journal, "raw")
    (answer,) = accept(journal, server(1))
    assert isinstance(answer, Refused)
    assert journal.last_raw() == 0
    broken.execute("drop trigger full")
    assert accept(journal, server(1)) == [Receipt()]
    assert journal.last_raw() > 0


def test_a_client_that_goes_away_still_takes_room_until_its_request_is_stored(journal, caplog):
    """Else clients that come again and again while the disk hangs fill the memory."""
    body = server(1)

    async def run():
        intake = Intake(journal, telemetry(), 2 * len(body), lambda *_: None)
        intake.start()
        with sqlite3.connect(journal.database.path, isolation_level=None) as other:
            other.execute("create trigger full before insert on raw begin select raise(abort, 'no'); end")
            other.execute("begin immediate")  # the disk hangs
            tasks = [asyncio.create_task(intake.accept("o", Signal.TRACES, body, "t")) for _ in range(2)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with pytest.raises(Refused, match="intake is full"):
                await intake.accept("o", Signal.TRACES, body, "t")
            other.execute("commit")
        await intake.shutdown()
        await asyncio.sleep(0)
        assert intake._waiting_bytes == 0

    asyncio.run(run())
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_a_journal_that_is_full_now_and_then_does_not_fill_the_log(journal, caplog):
    caplog.set_level(logging.INFO)

    async def run():
        intake = Intake(journal, telemetry(), 1 << 20, lambda *_: None)
        intake.start()
        for _ in range(20):
            broken = break_table(journal, "raw")
            for body in (server(1), b"not protobuf", ExportTraceServiceRequest().SerializeToString()):
                with contextlib.suppress(Refused, InvalidData):
                    await intake.accept("otlp", Signal.TRACES, body, "test")
            broken.execute("drop trigger full")
            broken.close()
            await intake.accept("otlp", Signal.TRACES, server(1), "test")
        await intake.shutdown()

    asyncio.run(run())
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "senders are told to retry" in said[0]
    assert said[1] == "taking requests again"


# -- converter ----------------------------------------------------------------------------------------


class Counting:
    """Knows how often it was called."""

    def __init__(self):
        self.rows = 0

    def process(self, batch):
        self.rows += len(batch)
        return batch


class Poison:
    """A processor of somebody else's, with a bug."""

    def __init__(self, error):
        self.error = error

    def process(self, batch):
        if "call 13" in batch.frame["name"]:
            raise self.error("thirteen")
        return batch


def convert(journal, bodies, wanted, *, poison=None, store=True, first=()):
    """Store requests, run a converter until it has no more to do, and give the events."""
    context = Context(ComponentId("apim_event"), logging.getLogger(), get_meter("t"), otel_moesif_dialects())
    processors = [*first, ("apim_event", ApimEvent(ApimEventSettings(), context))]
    if poison:
        processors.insert(0, ("poison", Poison(poison)))
    pipeline = Pipeline("traces", Signal.TRACES, frozenset({"otlp"}), processors, ("a",), telemetry())
    converter = Converter(journal, [pipeline], EventLog(journal), DeduplicateSettings(), telemetry())
    if store:
        journal.append(raw(*bodies))
    converter.start()
    end = time.monotonic() + 60
    while journal.last_raw() and time.monotonic() < end:
        time.sleep(0.01)
    converter.shutdown(5)
    found, start = [], 0
    while chunk := journal.next_chunk("a", start):
        found += Events.from_ipc(chunk.body).frame.to_dicts()
        start = chunk.id + 1
    assert len(found) == wanted
    return found


def test_what_an_earlier_run_left_is_converted(journal):
    (event,) = convert(journal, [client(1, 404) + server(1, 404)], 1)
    assert (event["eventType"], event["targetResponseCode"], event["backendLatency"]) == ("response", 404, 80)
    assert journal.last_raw() == 0


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_processor_that_fails_costs_only_the_guilty_request(journal, error):
    convert(journal, [server(number) for number in range(10, 20)], 9, poison=error)
    (letter,) = letters(journal)
    assert letter.body == server(13)
    assert f"{error.__name__}: raised in process (test_delivery_core.py:" in letter.reason
    assert "thirteen" not in letter.reason  # it could be a secret


def test_a_backend_span_waits_for_its_call_even_across_a_restart(tmp_path):
    first = open_journal(tmp_path)
    convert(first, [client(1, 500)], 0)
    assert len(list(first.held())) == 1
    first.close()
    again = open_journal(tmp_path)
    (event,) = convert(again, [server(1, 500)], 1)
    assert (event["eventType"], event["targetResponseCode"]) == ("response", 500)
    assert [slot for _, slot, _ in again.held()] == ["known,traces"]  # only that this call made its event
    again.close()


def test_what_no_pipeline_wants_any_more_is_kept(journal):
    journal.append([RawRequest("gone", Signal.TRACES, server(1))])
    convert(journal, [], 0, store=False)
    (letter,) = letters(journal)
    assert letter.body == server(1)
    assert "gone" in letter.reason


def test_events_that_wait_for_another_report_go_out_when_the_pipelines_are_others(journal):
    waiting = SCHEMA.to_frame().clear(1).with_columns(correlationId=pl.lit("x"), _log=pl.lit(value=True))
    slots = {"waiting,logs,traces": 1, "waiting,gone": 0}
    journal.convert(Conversion(held=[(slot, to_ipc(waiting)) for slot in slots]))
    (found,) = convert(journal, [], 1, store=False)
    assert found["correlationId"] == "x"
    assert [letter.origin for letter in letters(journal)] == ["waiting,gone"]
    assert list(journal.held()) == []


def test_a_journal_that_cannot_take_events_is_tried_again(journal):
    broken = break_table(journal, "events")
    ids = journal.append(raw(server(1))).ids
    log = logging.getLogger("otel_moesif.converter")
    handler = _Repair(broken)
    log.addHandler(handler)
    counting = Counting()
    try:
        (event,) = convert(journal, [], 1, store=False, first=[("counting", counting)])
    finally:
        log.removeHandler(handler)
    assert handler.seen
    assert counting.rows == 1  # not converted, and counted, again
    assert event["proxyResponseCode"] == 200
    assert ids == [1]


class _Repair(logging.Handler):
    """Repairs the disk once the converter has complained."""

    def __init__(self, broken: sqlite3.Connection) -> None:
        super().__init__()
        self.path = broken.execute("pragma database_list").fetchone()[2]
        broken.close()
        self.seen = 0

    def emit(self, record: logging.LogRecord) -> None:
        if "cannot store events" in record.getMessage():
            self.seen += 1
            with sqlite3.connect(self.path, isolation_level=None) as database:
                database.execute("drop trigger if exists full")


def test_a_panic_of_polars_outside_a_processor_stops_the_converter_for_a_moment_only(journal, monkeypatch):
    real, panics = Stream.convert, [pl.exceptions.PanicException("of a planted bug")]

    def convert_or_panic(*args, **options):
        if panics:
            raise panics.pop()
        return real(*args, **options)

    monkeypatch.setattr(Stream, "convert", convert_or_panic)
    (event,) = convert(journal, [server(1)], 1)
    assert event["proxyResponseCode"] == 200
    assert not panics
