"""What a request may hold, whole; what is partly bad is in test_partial.py."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData, TooLarge
from otel_moesif.otlp.check import NothingTakenError, check
from otel_moesif.otlp.decode import decode_spans
from otel_moesif.otlp.limits import Limits
from otel_moesif.otlp.origin import with_attributes
from tests.fuzz.payloads import TIME, of_bytes, of_fixed32, of_fixed64, of_group, of_varint

TRACE, SPAN = b"t" * 16, b"s" * 8
MiB = 1 << 20
MANY = Limits(parts=10_000)


def traces(*spans, **resource) -> bytes:
    message = ExportTraceServiceRequest()
    message.resource_spans.add().scope_spans.add().spans.extend(spans)
    for key, value in resource.items():
        message.resource_spans[0].resource.attributes.add(key=key).value.string_value = value
    return message.SerializeToString()


def logs(*records) -> bytes:
    message = ExportLogsServiceRequest()
    message.resource_logs.add().scope_logs.add().log_records.extend(records)
    return message.SerializeToString()


def metrics(*points) -> bytes:
    message = ExportMetricsServiceRequest()
    message.resource_metrics.add().scope_metrics.add().metrics.extend(points)
    return message.SerializeToString()


def span(**fields) -> Span:
    return Span(
        **{"trace_id": TRACE, "span_id": SPAN, "name": "GET /a", "start_time_unix_nano": TIME} | fields
    )


def many(count: int) -> list[KeyValue]:
    return [KeyValue(key=f"k{number}", value=AnyValue(int_value=number)) for number in range(count)]


def spans_as_bytes(*records: bytes) -> bytes:
    return of_bytes(1, of_bytes(2, b"".join(of_bytes(2, record) for record in records)))


def test_a_good_request_is_taken_byte_for_byte():
    body = traces(span(), span(attributes=many(3)), service="gateway")
    checked = check(Signal.TRACES, body)
    assert (checked.count, checked.body, checked.rejected, checked.message) == (2, body, 0, "")


def test_a_large_request_is_taken_byte_for_byte():
    body = traces(*(span(attributes=many(30)) for _ in range(3_000)), service="gateway")
    assert len(body) > MiB
    checked = check(Signal.TRACES, body)
    assert (checked.count, checked.body, checked.rejected) == (3_000, body, 0)


def test_an_empty_request_is_a_success():
    assert check(Signal.TRACES, b"").count == check(Signal.LOGS, b"").count == 0
    assert check(Signal.TRACES, ExportTraceServiceRequest(resource_spans=[{}]).SerializeToString()).count == 0


@pytest.mark.parametrize("body", [b"\x08\x01", b"\x12\x00", of_fixed64(1, 1), of_group(1, b"")])
def test_a_request_of_unknown_fields_alone_is_refused(body):
    with pytest.raises(InvalidData, match="it has no resource_spans"):
        check(Signal.TRACES, body)


@pytest.mark.parametrize("body", [b"not protobuf", b"\xff" * 40, traces(span())[:-3], b"{}"])
def test_what_cannot_be_cut_is_refused_whole(body):
    with pytest.raises(InvalidData, match="Wire format was corrupt"):
        check(Signal.TRACES, body)


@pytest.mark.parametrize(
    "fields",
    [
        {"end_time_unix_nano": 1},  # before its start: somebody's clock
        {"start_time_unix_nano": 0},
        {"name": ""},
        {"parent_span_id": b"xyz"},
        {"kind": 99},
    ],
)
def test_a_span_may_be_strange_otherwise(fields):
    assert check(Signal.TRACES, traces(span(**fields))).count == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"trace_id": b""},
        {"trace_id": bytes(16)},
        {"trace_id": b"x" * 15},
        {"span_id": b""},
        {"span_id": bytes(8)},
        {"span_id": b"x" * 16},
    ],
)
def test_a_span_needs_its_ids(fields):
    with pytest.raises(NothingTakenError, match="1 bad trace or span id") as caught:
        check(Signal.TRACES, traces(span(**fields)))
    assert caught.value.reasons == {"bad trace or span id": 1}


def test_a_log_record_may_do_without_ids_but_not_with_half_of_one():
    assert check(Signal.LOGS, logs(LogRecord(time_unix_nano=TIME), LogRecord())).count == 2
    assert (
        check(Signal.LOGS, logs(LogRecord(time_unix_nano=TIME, trace_id=bytes(16), span_id=bytes(8)))).count
        == 1
    )
    with pytest.raises(InvalidData, match="1 bad trace or span id"):
        check(Signal.LOGS, logs(LogRecord(time_unix_nano=TIME, trace_id=b"x" * 15)))


# -- bounds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [200, 100_000])
def test_a_request_beyond_the_bound_of_size_is_too_large(size):
    body = traces(span(name="x" * size))
    assert check(Signal.TRACES, body, Limits(request_bytes=len(body))).count == 1
    with pytest.raises(TooLarge, match=f"at most {len(body) - 1:,} are taken"):
        check(Signal.TRACES, body, Limits(request_bytes=len(body) - 1))


def test_a_request_of_too_many_records_is_too_large():
    assert check(Signal.TRACES, traces(*[span()] * 9_998), MANY).count == 9_998
    with pytest.raises(TooLarge, match="more than 10,000 spans, resources and scopes") as caught:
        check(Signal.TRACES, traces(*[span()] * 10_001), MANY)
    assert caught.value.reason == "too many records"


@pytest.mark.parametrize("piece", [b"\x0a\x00", of_bytes(1, b"\x12\x00"), b"\x28\x00"])
def test_what_stands_around_records_counts_too(piece):
    with pytest.raises(TooLarge):
        check(Signal.LOGS, piece * 200_000)


def test_the_bound_of_attributes_holds_in_small_and_in_large_requests():
    good, bad = span(attributes=many(20)), span(attributes=many(21))
    limits = Limits(attributes=20)
    for others in (0, 10, 5_000):
        checked = check(Signal.TRACES, traces(*[good] * others, good, bad), limits)
        assert (checked.count, checked.reasons) == (others + 1, {"too many attributes": 1})


def test_a_resource_with_too_many_attributes_costs_its_own_records():
    body = traces(span(), **{f"k{number}": "v" for number in range(21)}) + traces(span(), span())
    checked = check(Signal.TRACES, body, Limits(attributes=20))
    assert (checked.count, checked.reasons) == (2, {"too many attributes": 1})
    assert checked.body == traces(span(), span())


def test_an_attribute_beyond_its_bound_costs_its_record():
    long = span(attributes=[KeyValue(key="body", value=AnyValue(string_value="x" * 5_000))])
    checked = check(Signal.TRACES, traces(long, span()), Limits(attribute_bytes=4_000))
    assert (checked.count, checked.reasons) == (1, {"attribute too long": 1})
    assert check(Signal.TRACES, traces(long, span()), Limits(attribute_bytes=6_000)).count == 2


def test_so_does_the_body_of_a_log_record():
    record = LogRecord(time_unix_nano=TIME, body=AnyValue(string_value="x" * 5_000))
    with pytest.raises(InvalidData, match="1 attribute too long"):
        check(Signal.LOGS, logs(record), Limits(attribute_bytes=4_000))


def test_a_span_of_several_megabytes_is_taken_when_none_of_its_attributes_is_too_long():
    large = [KeyValue(key=key, value=AnyValue(string_value="x" * MiB)) for key in ("request", "response")]
    assert check(Signal.TRACES, traces(span(attributes=large), span())).count == 2


def test_no_text_of_a_request_is_in_what_is_said_of_it():
    bad = of_bytes(1, TRACE) + of_bytes(5, b"hunter2\xff")
    for body in (spans_as_bytes(bad), spans_as_bytes(span().SerializeToString(), bad)):
        try:
            said = check(Signal.TRACES, body).message
        except InvalidData as error:
            said = str(error)
        assert "invalid UTF-8" in said
        assert "hunter2" not in said


# -- other signals ------------------------------------------------------------------------------------

texts = st.text(max_size=8) | st.sampled_from(["http.server.load", "requests", "\n\x00", "a" * 16, "é" * 70])
ids = st.binary(min_size=1, max_size=16).map(lambda value: value.ljust(16, b"i"))
values = (
    st.builds(AnyValue, string_value=texts)
    | st.builds(AnyValue, int_value=st.integers(-5, 2**40))
    | st.just(AnyValue())
)
attributes = st.lists(st.builds(KeyValue, key=texts, value=values), max_size=3)
times = st.sampled_from([0, 1, TIME])
events = st.builds(Span.Event, time_unix_nano=times, name=texts, attributes=attributes)
good_spans = st.lists(
    st.builds(
        Span, trace_id=ids, span_id=ids.map(lambda value: value[:8]), trace_state=texts, name=texts,
        kind=st.integers(0, 5), start_time_unix_nano=times, end_time_unix_nano=times, attributes=attributes,
        events=st.lists(events, max_size=2), links=st.lists(st.builds(Span.Link, trace_id=ids), max_size=1),
    ),
    min_size=1, max_size=4,
)  # fmt: skip
good_logs = st.lists(
    st.builds(
        LogRecord, time_unix_nano=times, observed_time_unix_nano=times, severity_number=st.integers(0, 24),
        severity_text=texts, body=values, attributes=attributes, trace_id=st.just(b"") | ids,
        event_name=texts,
    ),
    min_size=1, max_size=4,
)  # fmt: skip
points = st.lists(
    st.fixed_dictionaries({"time_unix_nano": st.just(TIME), "attributes": attributes}), min_size=1, max_size=2
)
kinds = st.sampled_from(["gauge", "sum", "histogram", "exponential_histogram", "summary"])
good_metrics = st.lists(
    st.builds(
        lambda name, description, unit, kind, points: Metric(
            name=name, description=description, unit=unit, **{kind: {"data_points": points}}
        ),
        st.sampled_from(["http.server.load", "queue_length_now"]) | texts.filter(bool),
        st.sampled_from(["requests", ""]) | texts, texts, kinds, points,
    ),
    min_size=1, max_size=4,
)  # fmt: skip
quick = settings(max_examples=150, deadline=None)


@quick
@given(good_spans)
def test_traces_are_taken_as_traces_and_never_as_logs(spans):
    body = traces(*spans)
    assert check(Signal.TRACES, body).body == body
    with pytest.raises(InvalidData):
        check(Signal.LOGS, body)


@quick
@given(good_logs)
def test_logs_are_taken_as_logs_and_never_as_traces(records):
    body = logs(*records)
    assert check(Signal.LOGS, body).body == body
    with pytest.raises(InvalidData):
        check(Signal.TRACES, body)


@quick
@given(good_metrics)
def test_metrics_are_never_taken(points):
    for signal in Signal:
        with pytest.raises(InvalidData):
            check(signal, metrics(*points))


def test_the_client_is_told_what_it_sent():
    record = LogRecord(
        time_unix_nano=TIME, body=AnyValue(string_value="x" * 300), trace_id=TRACE, span_id=SPAN
    )
    gauge = Metric(
        name="http.server.load", description="requests", gauge={"data_points": [{"time_unix_nano": TIME}]}
    )
    for signal, body, said in [
        (Signal.TRACES, logs(record), "not a valid ExportTraceServiceRequest: what it holds are log records"),
        (Signal.LOGS, traces(span()), "not a valid ExportLogsServiceRequest: what it holds are spans"),
        (Signal.TRACES, metrics(gauge), "what it holds are metrics"),
        (Signal.LOGS, metrics(gauge), "what it holds are metrics"),
    ]:
        with pytest.raises(NothingTakenError, match=said) as caught:
            check(signal, body)
        assert caught.value.reason == "of another signal"


@pytest.mark.parametrize(
    "unknown",
    [
        of_varint(17, 1),
        of_bytes(200, b"later"),
        of_fixed64(30, 1),
        of_fixed32(99, 1),
        of_group(40, of_varint(1, 1)),
    ],
)
def test_fields_of_a_later_version_are_no_fault(unknown):
    start = span().SerializeToString()
    for times in (of_fixed64(7, TIME), b""):
        record = start.replace(of_fixed64(7, TIME), times) + unknown
        body = of_bytes(1, of_bytes(2, of_bytes(2, record) + unknown) + unknown) + unknown
        checked = check(Signal.TRACES, body)
        assert (checked.count, checked.body) == (1, body)
    record = LogRecord(body=AnyValue(string_value="x")).SerializeToString() + unknown
    assert check(Signal.LOGS, spans_as_bytes(record)).count == 1


@pytest.mark.parametrize("inside", [b"\0\1", b"\2\1x", b"\3\4", of_group(7, b"\0\1")])
@pytest.mark.parametrize("place", ["request", "resource", "scope", "span", "value"])
def test_an_unknown_group_that_protobuf_takes_can_be_decoded_and_named(inside, place):
    # Found by fuzzing: protobuf looks at no field numbers within an unknown group, ptars does.
    group = dict.fromkeys(("request", "resource", "scope", "span", "value"), b"") | {
        place: of_group(50, inside)
    }
    record = (
        span().SerializeToString()
        + of_bytes(9, of_bytes(1, b"k") + of_bytes(2, group["value"]))
        + group["span"]
    )
    scoped = of_bytes(2, of_bytes(2, record) + group["scope"])
    body = of_bytes(1, scoped + group["resource"]) + group["request"]
    checked = check(Signal.TRACES, body)
    assert (checked.count, checked.body) == (1, body)
    assert decode_spans([body, traces(span())]).frame.height == 2
    assert check(Signal.TRACES, with_attributes(body, {"a": "b"})).count == 1


def test_a_group_too_large_to_be_followed_is_refused_when_it_has_to_be():
    body = traces(span()) + of_group(50, b"\x28\x00" * 5_000)
    assert check(Signal.TRACES, body).count == 1
    with pytest.raises(InvalidData, match="groups are too large"):
        with_attributes(body, {"a": "b"})
