"""Spans of a call in any split over requests, reports in any order, restarts anywhere: one event per call."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import get_meter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_moesif.builtin import otel_moesif_dialects
from otel_moesif.component import ComponentId, Context, Processed, Signal
from otel_moesif.config.model import DeduplicateSettings, MetricsSettings
from otel_moesif.events import Events
from otel_moesif.journal.journal import Journal
from otel_moesif.journal.rows import NewChunk, RawRequest
from otel_moesif.journal.settings import JournalSettings
from otel_moesif.journal.visitor import Visitor
from otel_moesif.pipeline import Pipeline
from otel_moesif.processors.apim_event.processor import ApimEvent, ApimEventSettings
from otel_moesif.stream import Stream
from otel_moesif.telemetry import Telemetry

MS = 1_000_000
S = 1_000_000_000
START = 1_750_000_000_000 * MS


def span(number: int, kind: int) -> bytes:
    client = kind == Span.SPAN_KIND_CLIENT
    message = ExportTraceServiceRequest()
    one = (
        message.resource_spans.add()
        .scope_spans.add()
        .spans.add(
            trace_id=(number + 1).to_bytes(16, "big"),
            span_id=(number * 2 + 1 + client).to_bytes(8, "big"),
            parent_span_id=(number * 2 + 1).to_bytes(8, "big") if client else b"",
            kind=kind,
            start_time_unix_nano=START + 10 * MS * client,
            end_time_unix_nano=START + (100 - 10 * client) * MS,
        )
    )
    one.attributes.add(key="http.request.method").value.string_value = "GET"
    one.attributes.add(key="http.response.status_code").value.int_value = 500
    return message.SerializeToString()


def log(number: int) -> bytes:
    """An Envoy access-log record with the ids of the SERVER span."""
    message = ExportLogsServiceRequest()
    record = (
        message.resource_logs.add()
        .scope_logs.add()
        .log_records.add(
            time_unix_nano=START,
            trace_id=(number + 1).to_bytes(16, "big"),
            span_id=(number * 2 + 1).to_bytes(8, "big"),
        )
    )
    for key, value in (("response_code", "500"), ("response_flags", "-"), ("method", "GET"), ("path", "/x")):
        record.attributes.add(key=key).value.string_value = value
    return message.SerializeToString()


PARTS = {
    "server": lambda n: RawRequest("otlp", Signal.TRACES, span(n, Span.SPAN_KIND_SERVER)),
    "client": lambda n: RawRequest("otlp", Signal.TRACES, span(n, Span.SPAN_KIND_CLIENT)),
    "log": lambda n: RawRequest("otlp", Signal.LOGS, log(n)),
}


class Collector:
    """Journal and stream of one run; `restart` is what a crash between two transactions is."""

    def __init__(
        self, directory, extra=(), signals=("traces", "logs"), assembler="apim_event", **deduplicate
    ):
        self.directory, self.extra, self.signals = directory, extra, signals
        self.assembler = assembler
        self.deduplicate = DeduplicateSettings(**deduplicate)
        self.now = 0
        self._open()

    def _open(self):
        self.journal = Journal(JournalSettings(directory=self.directory, fsync="off"))
        telemetry = Telemetry(MetricsSettings(level="none", address=None), {})
        context = Context(
            ComponentId("apim_event"), logging.getLogger(), get_meter("t"), otel_moesif_dialects()
        )
        # one per pipeline, as the graph builds them
        options = ApimEventSettings(assembly={"wait": "5s"})
        pipelines = [
            Pipeline(
                name, Signal(name.partition("/")[0]), frozenset({"otlp"}),
                [*self.extra, (self.assembler, ApimEvent(options, context))],
                ("a",), telemetry,
            )
            for name in self.signals
        ]  # fmt: skip
        self.stream = Stream(pipelines, self.deduplicate, telemetry)
        self.strange = self.stream.load(list(self.journal.held()), self.now)

    def restart(self):
        self.journal.close()
        self._open()

    def take(self, requests, *, lose=False, ending=False):
        """One batch; ``lose``: the crash comes just before the commit, so that it is repeated."""
        ids = self.journal.append(requests).ids if requests else []
        batch = self.journal.raw(ids[0], ids[-1], 1 << 30) if ids else []
        if lose:
            self.stream.convert(batch, self.now)
            self.restart()
        made = self.stream.convert(batch, self.now, ending=ending)
        made.step.chunks = [NewChunk(names, len(x), x.to_ipc()) for names, x in made.events]
        _, pieces = self.journal.convert(made.step)
        self.stream.stored(made, pieces)

    def events(self):
        found, start = [], 0
        while chunk := self.journal.next_chunk("a", start):
            found += Events.from_ipc(chunk.body).frame.to_dicts()
            start = chunk.id + 1
        return found


@pytest.fixture
def collector(tmp_path):
    collector = Collector(tmp_path)
    yield collector
    collector.journal.close()


calls = st.lists(st.sets(st.sampled_from(["server", "client", "log"]), min_size=1), min_size=1, max_size=5)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), reports=calls)
def test_each_call_makes_one_event_however_its_reports_are_split_repeated_and_interrupted(data, reports):
    parts = [(kind, number) for number, kinds in enumerate(reports) for kind in sorted(kinds)]
    parts += data.draw(st.lists(st.sampled_from(parts), max_size=3), label="sent again")
    parts = data.draw(st.permutations(parts), label="order")
    with tempfile.TemporaryDirectory() as directory:
        collector = Collector(Path(directory))
        while parts:
            size = data.draw(st.integers(min(3, len(parts)), len(parts)), label="batch")
            batch, parts = parts[:size], parts[size:]
            event = data.draw(st.sampled_from(["", "", "crash", "restart"]), label="then")
            collector.take([PARTS[kind](n) for kind, n in batch], lose=event == "crash")
            if event == "restart":
                collector.restart()
            collector.now += data.draw(st.integers(0, 2), label="seconds") * S
        collector.take([], ending=True)
        events = collector.events()
        made = sorted(int(event["traceId"], 16) - 1 for event in events)
        assert made == [n for n, kinds in enumerate(reports) if kinds & {"server", "log"}]
        assert not collector.strange
        for event in events:
            assert min(event["responseLatency"] or 0, event["backendLatency"] or 0) >= 0
        collector.journal.close()


def test_a_backend_span_after_its_call_and_after_a_restart_still_counts(collector):
    collector.take([PARTS["server"](9), PARTS["client"](9)])  # so that it is known who reports backend calls
    collector.take([PARTS["server"](1)])
    assert len(collector.events()) == 1
    collector.restart()
    collector.take([PARTS["client"](1)])
    assert [event["backendLatency"] for event in collector.events()] == [80, 80]
    assert [slot for _, slot, _ in collector.journal.held()] == ["known,logs,traces"] * 2


@pytest.mark.parametrize("signals", [("traces", "logs"), ("traces",)])
@pytest.mark.parametrize("together", [True, False])
def test_a_call_that_waits_leaves_by_itself_when_its_time_is_over(tmp_path, signals, together):
    collector = Collector(tmp_path, signals=signals)
    first, second = [PARTS["server"](9), PARTS["client"](9)], [PARTS["server"](1)]
    for batch in [first + second] if together else [first, second]:
        collector.take(batch)
    assert collector.stream.due == 5 * S
    collector.now = 5 * S
    collector.take([])
    assert [event["eventType"] for event in collector.events()] == ["response", "fault"]
    assert collector.stream.due is None
    collector.journal.close()


def test_a_clock_that_starts_anew_makes_nothing_wait_longer_than_it_should(collector):
    collector.now = 1_000_000 * S
    collector.take([PARTS["server"](9), PARTS["client"](9)])
    collector.take([PARTS["server"](1)])
    collector.now = 3 * S  # another boot: the monotonic clock is near zero
    collector.restart()
    collector.take([])
    assert collector.stream.due == 8 * S


def test_a_request_sent_again_makes_no_second_event_even_after_a_restart(collector):
    collector.take([PARTS["server"](1)])
    collector.restart()
    collector.take([PARTS["server"](1), PARTS["server"](2)])
    assert len(collector.events()) == 2


def test_without_deduplication_every_report_is_an_event(tmp_path):
    collector = Collector(tmp_path, prefer="off")
    collector.take([PARTS["server"](1), PARTS["log"](1), PARTS["server"](1)])
    assert len(collector.events()) == 3
    assert list(collector.journal.held()) == []
    collector.journal.close()


def test_known_calls_leave_the_journal_when_their_window_is_over(collector):
    for number in range(4):
        collector.now = number * 400 * S
        collector.take([PARTS["server"](number)])
    assert len(list(collector.journal.held())) <= 2


class Choosy:
    """A processor of somebody else's that keeps rows and fails when it gets certain ones back."""

    def __init__(self):
        self.broken = False

    def process(self, batch):
        return batch

    def process_held(self, batch, held):
        if self.broken and held.rows:
            raise ZeroDivisionError("held")
        return Processed(batch, {"rows": batch.frame.select("name")} if len(batch) else dict(held.rows))


def test_rows_that_make_a_processor_fail_go_to_the_dead_letters_and_not_the_requests(tmp_path):
    choosy = Choosy()
    collector = Collector(tmp_path, extra=[("choosy", choosy)])
    collector.take([PARTS["server"](1)])
    choosy.broken = True
    collector.take([PARTS["server"](2)])
    assert len(collector.events()) == 2
    with Visitor(tmp_path) as visitor:
        (letter,) = visitor.dead_letters()
    assert (letter.kind, letter.origin, letter.count) == ("held", "traces,choosy,rows", 1)
    collector.journal.close()


@pytest.mark.parametrize("more", [True, False])
def test_a_processor_that_always_fails_is_not_called_without_a_pause_for_what_waits(tmp_path, more):
    class Broken:
        def process(self, batch):
            raise ZeroDivisionError

    collector = Collector(tmp_path, signals=("traces",))
    collector.take([PARTS["client"](1)])
    (pipeline,) = collector.stream._pipelines
    pipeline._processors.append(("broken", Broken()))
    collector.now += 60 * S  # the one that waits is due
    collector.take([PARTS["client"](2)] if more else [])
    if more:  # once more at once, without the guilty request
        assert collector.stream.due == collector.now
        collector.take([])
    assert collector.stream.due == collector.now + S
    collector.journal.close()


def test_rows_of_a_processor_that_is_gone_are_said_to_be_strange(tmp_path):
    collector = Collector(tmp_path, extra=[("choosy", Choosy())])
    collector.take([PARTS["server"](1)])
    collector.extra = ()
    collector.restart()
    assert [slot for _, slot, _ in collector.strange] == ["traces,choosy,rows"]
    collector.journal.close()


def test_what_left_while_another_one_waits_does_not_come_back_after_a_restart(tmp_path):
    """Without deduplication a call would be delivered twice, the second time without its backend's data."""
    collector = Collector(tmp_path, prefer="off")
    collector.take([PARTS["server"](9), PARTS["client"](9)])
    collector.take([PARTS["server"](1), PARTS["server"](2)])
    collector.take([PARTS["client"](1)])
    collector.restart()
    collector.now += 60 * S
    collector.take([])
    found = sorted((int(event["traceId"], 16) - 1, event["backendLatency"]) for event in collector.events())
    assert found == [(1, 80), (2, None), (9, 80)]
    assert list(collector.journal.held()) == []
    collector.journal.close()


# -- other names ----------------------------------------------------------------------------------------


def held_slots(collector):
    return sorted(slot for _, slot, _ in collector.journal.held())


@pytest.mark.parametrize(
    ("signals", "assembler"),
    [
        (("traces/gw", "logs"), "apim_event"),
        (("traces/gw", "logs/gw"), "apim_event/x"),
        (("traces", "logs"), "apim_event/x"),
    ],
)
def test_a_call_that_waits_is_not_lost_to_a_new_name(tmp_path, signals, assembler):
    collector = Collector(tmp_path)
    collector.take([PARTS["server"](9), PARTS["client"](9)])
    collector.take([PARTS["server"](1)])
    collector.signals, collector.assembler = signals, assembler
    collector.restart()
    assert collector.strange == []
    collector.take([])
    destination = f"known,{','.join(sorted(signals))}"
    assert {slot for slot in held_slots(collector) if slot.startswith("known,")} == {destination}
    assert any(slot.startswith(f"{signals[0]},{assembler},") for slot in held_slots(collector))
    collector.restart()  # under the new names it is at home
    collector.take([PARTS["client"](1), PARTS["server"](9)])  # the latter is sent again
    assert [event["backendLatency"] for event in collector.events()] == [80, 80]
    collector.now += 10_000 * S
    collector.take([])
    collector.now += 10_000 * S
    collector.take([PARTS["log"](3)])
    assert held_slots(collector) == [destination]  # what was moved leaves when its time is over
    collector.journal.close()


def test_reports_that_wait_for_others_are_not_lost_to_a_new_name(tmp_path):
    collector = Collector(tmp_path)
    collector.take([PARTS["server"](9), PARTS["log"](9)])
    collector.take([PARTS["log"](1)])
    collector.signals = ("traces/gw", "logs/gw")
    collector.restart()
    collector.take([PARTS["server"](1)])
    assert len(collector.events()) == 2
    collector.journal.close()


@pytest.mark.parametrize("signals", [("traces", "logs"), ("traces/new", "traces/newer", "logs"), ("logs",)])
def test_what_waits_goes_to_nobody_else(tmp_path, signals):
    """Not to a pipeline that was there before, nor to one of two, nor to another signal's."""
    collector = Collector(tmp_path, signals=("traces", "traces/b", "logs"))
    collector.take([PARTS["server"](9), PARTS["client"](9)])
    collector.take([PARTS["server"](1)])
    collector.signals = signals
    collector.restart()
    assert {slot.partition(",")[0] for _, slot, _ in collector.strange} >= {"traces/b", "known"}
    collector.journal.close()


def test_that_calls_come_both_ways_is_still_known_of_what_waits_after_a_restart(tmp_path):
    collector = Collector(tmp_path, wait="3s")
    collector.take([PARTS["server"](9), PARTS["log"](9)])
    collector.take([PARTS["log"](1), PARTS["log"](2)])
    collector.restart()
    collector.now += S
    collector.take([])  # something is due, and what waits stays
    assert len(collector.events()) == 1
    collector.take([PARTS["server"](1)])
    collector.now += 3 * S
    collector.take([])
    events = collector.events()
    assert [int(event["traceId"], 16) - 1 for event in events] == [9, 1, 2]
    assert collector.stream.due is None
    collector.journal.close()
