"""Journal, intake and converter: what is acknowledged is stored, what is stored becomes events once."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time

import pytest
from opentelemetry.metrics import get_meter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_moesif.builtin import otel_moesif_dialects
from otel_moesif.component import ComponentId, Context, Signal
from otel_moesif.config.model import MetricsSettings
from otel_moesif.converter import Converter
from otel_moesif.errors import InvalidData, Refused, StartError
from otel_moesif.event_log import EventLog
from otel_moesif.events import Events
from otel_moesif.intake import Intake
from otel_moesif.journal import Conversion, Journal, Position, RawRequest
from otel_moesif.pipeline import Pipeline
from otel_moesif.processors.apim_event.processor import ApimEvent, ApimEventSettings
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


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


def break_table(journal: Journal, table: str) -> sqlite3.Connection:
    """Make every insert into a table fail, as a full disk would; close the trigger to repair it."""
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute(f"create trigger full before insert on {table} begin select raise(abort, 'disk full'); end")
    return other


# -- journal ------------------------------------------------------------------------------------------


def test_what_was_appended_is_there_after_a_restart(tmp_path):
    first = Journal(tmp_path)
    assert first.append(raw(b"a", b"b" * 1000)) == [1, 2]
    first.close()
    again = Journal(tmp_path)
    assert [x.body for x in again.raw(0, again.last_raw(), 1 << 20)] == [b"a", b"b" * 1000]
    again.convert(Conversion(done=[1, 2]))
    assert again.append(raw(b"c")) == [3]  # ids are never used again
    again.close()


def test_a_directory_belongs_to_one_collector(journal):
    with pytest.raises(StartError, match="in use by another collector"):
        Journal(journal.directory)


def test_a_newer_journal_is_left_alone(tmp_path):
    Journal(tmp_path).close()
    with sqlite3.connect(tmp_path / "journal.db") as database:
        database.execute("pragma user_version = 99")
    with pytest.raises(StartError, match="newer version"):
        Journal(tmp_path)


def test_a_conversion_happens_whole_or_not_at_all(journal):
    ids = journal.append(raw(b"a"))
    broken = break_table(journal, "events")
    with pytest.raises(sqlite3.Error, match="disk full"):
        journal.convert(Conversion(done=ids, chunks=[(["a"], 1, b"x")]))
    assert journal.last_raw() == ids[0]
    broken.execute("drop trigger full")
    journal.convert(Conversion(done=ids, chunks=[(["a"], 1, b"x")]))
    assert journal.last_raw() == 0
    assert journal.next_chunk("a", 0).body == b"x"


def test_rows_go_when_every_cursor_has_passed(journal):
    journal.register(["a", "a/b"])
    chunks, _ = journal.convert(Conversion(chunks=[(["a", "a/b"], 5, b"1"), (["a"], 7, b"2")]))
    journal.advance("a", Position(chunks[1] + 1, 0))
    assert journal.next_chunk("a/b", 0).id == chunks[0]
    assert journal.next_chunk("a", 0).id == chunks[0]  # the second one was for nobody else
    journal.advance("a/b", Position(chunks[0], 3))
    assert journal.backlog() == {"a": 0, "a/b": 2}
    journal.advance("a/b", Position(chunks[0] + 1, 0))
    assert journal.backlog() == {}


# -- intake -------------------------------------------------------------------------------------------


def accept(journal, *bodies, max_bytes=1 << 20, before=None):
    """Hand all bodies over at once; gives None or the exception of each."""

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
    assert [type(answer) for answer in answers] == [type(None), InvalidData, type(None), type(None)]
    assert [x.body for x in journal.raw(0, 99, 1 << 20)] == [server(1), server(2)]


def test_a_full_intake_refuses_and_stores_nothing_of_it(journal):
    body = server(1)
    answers = accept(journal, body, body, max_bytes=len(body))
    assert [type(answer) for answer in answers] == [type(None), Refused]
    assert answers[1].retry_after > 0
    assert len(journal.raw(0, 99, 1 << 20)) == 1


def test_a_journal_that_cannot_be_written_is_no_success(journal):
    broken = break_table(journal, "raw")
    (answer,) = accept(journal, server(1))
    assert isinstance(answer, Refused)
    assert journal.last_raw() == 0
    broken.execute("drop trigger full")
    assert accept(journal, server(1)) == [None]
    assert journal.last_raw() > 0


# -- converter ----------------------------------------------------------------------------------------


class Poison:
    """A processor of somebody else's, with a bug."""

    def process(self, batch):
        if "call 13" in batch.frame["name"]:
            raise ZeroDivisionError("thirteen")
        return batch


def convert(journal, bodies, wanted, *, poison=False, store=True):
    """Store requests, run a converter until it has no more to do, and give the events."""
    context = Context(ComponentId("apim_event"), logging.getLogger(), get_meter("t"), otel_moesif_dialects())
    processors = [("apim_event", ApimEvent(ApimEventSettings(), context))]
    if poison:
        processors.insert(0, ("poison", Poison()))
    pipeline = Pipeline("traces", Signal.TRACES, frozenset({"otlp"}), processors, ("a",), telemetry())
    converter = Converter(journal, [pipeline], EventLog(journal))
    if store:
        journal.append(raw(*bodies))
    converter.start()
    end = time.monotonic() + 10
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


def test_a_processor_that_fails_costs_only_the_guilty_request(journal):
    convert(journal, [server(number) for number in range(10, 20)], 9, poison=True)
    (letter,) = journal.dead_letters()
    assert letter.body == server(13)
    assert "ZeroDivisionError: thirteen" in letter.reason


def test_a_backend_span_waits_for_its_call_even_across_a_restart(tmp_path):
    first = Journal(tmp_path)
    convert(first, [client(1, 500)], 0)
    assert len(list(first.held())) == 1
    first.close()
    again = Journal(tmp_path)
    (event,) = convert(again, [server(1, 500)], 1)
    assert (event["eventType"], event["targetResponseCode"]) == ("response", 500)
    assert not list(again.held())
    again.close()


def test_what_no_pipeline_wants_any_more_is_kept(journal):
    journal.append([RawRequest("gone", Signal.TRACES, server(1))])
    convert(journal, [], 0, store=False)
    (letter,) = journal.dead_letters()
    assert letter.body == server(1)
    assert "gone" in letter.reason


def test_a_journal_that_cannot_take_events_is_tried_again(journal):
    broken = break_table(journal, "events")
    ids = journal.append(raw(server(1)))
    log = logging.getLogger("otel_moesif.converter")
    handler = _Repair(broken)
    log.addHandler(handler)
    try:
        (event,) = convert(journal, [], 1, store=False)
    finally:
        log.removeHandler(handler)
    assert handler.seen
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
