"""Rows that waited and became dead letters: said, counted, and taken back when somebody understands them."""

from __future__ import annotations

import sqlite3
import time

import polars as pl
import pytest

from otel_moesif.config.model import DeduplicateSettings
from otel_moesif.converter import Converter
from otel_moesif.event_log import EventLog
from otel_moesif.events import Events
from otel_moesif.held import to_ipc
from otel_moesif.journal.rows import Conversion, DeadLetter
from otel_moesif.schema import SCHEMA
from tests.test_delivery_core import journal, letters, telemetry
from tests.test_stream import PARTS, Collector

__all__ = ["journal"]  # a fixture


class Counter:
    """An instrument that remembers."""

    def __init__(self):
        self.counted = []

    def add(self, value, attributes):
        self.counted.append((value, attributes))


def run(journal, pipelines, until, counter=None):
    """A converter, until something is true; gives the events."""
    counts = telemetry()
    counts.dead_requests = counter or counts.dead_requests
    converter = Converter(journal, pipelines, EventLog(journal), DeduplicateSettings(), counts)
    converter.start()
    end = time.monotonic() + 60
    while not until() and time.monotonic() < end:
        time.sleep(0.01)
    converter.shutdown(5)
    found, start = [], 0
    while chunk := journal.next_chunk("a", start):
        found += Events.from_ipc(chunk.body).frame.to_dicts()
        start = chunk.id + 1
    return found


@pytest.fixture
def collector(tmp_path):
    collector = Collector(tmp_path / "journal", signals=("traces",), prefer="off")
    yield collector
    collector.journal.close()


def ask_again(journal, *letters):
    """What ``dead-letters replay`` does."""
    journal.convert(Conversion(dead_letters=letters))
    with sqlite3.connect(journal.database.path, isolation_level=None) as other:
        columns = "kind, receiver, origin, count, crc, body"
        other.execute(f"insert into inbox ({columns}) select {columns} from dead_letters")  # noqa: S608
        other.execute("delete from dead_letters")


def buried(collector):
    """Dead letters of all that waits."""
    held = list(collector.journal.held())
    collector.journal.convert(Conversion(released=[id_ for id_, *_ in held]))
    return [DeadLetter(slot, "held", "lost its name", body) for _, slot, body in held]


def wait_for_call_and_backend(collector):
    """Two calls that wait, and the backend span of one that could not find it."""
    collector.take([PARTS["server"](9), PARTS["client"](9)])
    collector.take([PARTS["server"](1), PARTS["server"](2)])
    calls = buried(collector)
    collector.restart()
    collector.take([PARTS["client"](1)])
    return [*calls, *buried(collector)]


def test_rows_that_nobody_takes_back_are_said_and_counted(collector, caplog):
    collector.take([PARTS["server"](9), PARTS["client"](9)])
    collector.take([PARTS["server"](1), PARTS["server"](2)])
    counter = Counter()
    run(collector.journal, [], lambda: letters(collector.journal), counter)
    found = {letter.origin: letter.count for letter in letters(collector.journal)}
    assert found["traces,apim_event,calls"] == 2
    said = [record.getMessage() for record in caplog.records if "nobody's" in record.getMessage()]
    assert len(said) == 1
    assert "2 of traces,apim_event,calls" in said[0]
    assert counter.counted == [(1, {"pipeline": "traces", "error": "nobody takes them back"})] * len(found)


def test_rows_go_back_to_who_had_kept_them_and_find_each_other(collector):
    found = wait_for_call_and_backend(collector)
    ask_again(collector.journal, *found)
    collector.restart()
    events = run(collector.journal, collector.stream._pipelines, lambda: not collector.journal.inbox(1))
    found = {int(event["traceId"], 16) - 1: event["backendLatency"] for event in events}
    assert found == {9: 80, 1: 80, 2: None}
    assert not letters(collector.journal)


def test_what_cannot_be_taken_back_is_a_dead_letter_again_and_costs_no_other_one(collector):
    good = wait_for_call_and_backend(collector)
    slot = "traces,apim_event,calls"
    bad = [
        DeadLetter(slot, "held", "", to_ipc(pl.DataFrame({"trace_id": ["of another type"], "span_id": [7]}))),
        DeadLetter(slot, "held", "", b"not Arrow at all"),
        DeadLetter("traces/gone,apim_event,calls", "held", "", to_ipc(pl.DataFrame({"x": [1]}))),
        DeadLetter("waiting,gone", "held", "", to_ipc(pl.DataFrame({"x": [1]}))),
    ]
    ask_again(collector.journal, *bad, *good)
    collector.restart()
    events = run(collector.journal, collector.stream._pipelines, lambda: not collector.journal.inbox(1))
    assert sorted(int(event["traceId"], 16) - 1 for event in events) == [1, 2, 9]
    found = letters(collector.journal)
    assert sorted(letter.origin for letter in found) == sorted(letter.origin for letter in bad)
    assert {letter.kind for letter in found} == {"held"}
    assert {letter.body for letter in found} >= {letter.body for letter in bad[1:]}
    assert any("nobody takes back what waited as traces/gone" in letter.reason for letter in found)


def test_events_that_waited_for_the_preferred_report_go_to_the_exporters_of_their_pipelines(collector):
    waiting = SCHEMA.to_frame().clear(1).with_columns(correlationId=pl.lit("x"), _log=pl.lit(value=True))
    ask_again(collector.journal, DeadLetter("waiting,logs,traces", "held", "", to_ipc(waiting)))
    (event,) = run(collector.journal, collector.stream._pipelines, lambda: not collector.journal.inbox(1))
    assert event["correlationId"] == "x"


def test_a_processor_that_does_not_let_go_of_them_costs_no_row(tmp_path):
    class Keeps:
        def process(self, batch):
            return batch

        def process_held(self, batch, held):
            from otel_moesif.component import Processed  # noqa: PLC0415

            return Processed(batch, dict(held.rows))

    collector = Collector(tmp_path / "journal", extra=[("keeps", Keeps())], signals=("traces",))
    rows = to_ipc(pl.DataFrame({"x": [1]}))
    ask_again(collector.journal, DeadLetter("traces,keeps,rows", "held", "", rows))
    run(collector.journal, collector.stream._pipelines, lambda: not collector.journal.inbox(1))
    (letter,) = letters(collector.journal)
    assert (letter.body, letter.reason) == (rows, "what kept it back does not let go of it")
    collector.journal.close()
