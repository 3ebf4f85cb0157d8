"""OTLP in JSON becomes the request that it says, or is refused without a word of what is in it."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from pathlib import Path

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData
from otel_moesif.otlp.transcode import from_json, from_object, signals_of

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures" / "otlp"
TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"


def fixture(path: str) -> str:
    file = FIXTURES / path
    if not file.exists():
        pytest.skip(f"../shared/fixtures/otlp/{path} is not here")
    return file.read_text()


def span(**fields) -> Span:
    """The span of a request that has nothing but this one."""
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [fields]}]}]}
    message = ExportTraceServiceRequest.FromString(from_json(Signal.TRACES, json.dumps(document)))
    return message.resource_spans[0].scope_spans[0].spans[0]


def test_the_canonical_trace():
    message = ExportTraceServiceRequest.FromString(
        from_json(Signal.TRACES, fixture("opentelemetry-proto/trace.json"))
    )
    (resource,) = message.resource_spans
    (scope,) = resource.scope_spans
    (one,) = scope.spans
    assert (one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex()) == (
        TRACE,
        SPAN,
        "eee19b7ec3c1b173",
    )
    assert (one.kind, one.start_time_unix_nano) == (Span.SPAN_KIND_SERVER, 1544712660000000000)
    assert resource.resource.attributes[0].value.string_value == "my.service"
    assert (scope.scope.name, scope.scope.version) == ("my.library", "1.0.0")


@pytest.mark.parametrize("path", ["opentelemetry-proto/logs.json", "opentelemetry-proto/events.json"])
def test_the_canonical_logs(path):
    text = fixture(path)
    message = ExportLogsServiceRequest.FromString(from_json(Signal.LOGS, text))
    (record,) = message.resource_logs[0].scope_logs[0].log_records
    asserted = json.loads(text)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert record.trace_id.hex() == asserted.get("traceId", "").lower()
    assert record.time_unix_nano == int(asserted["timeUnixNano"])
    back = json_format.MessageToDict(record)
    assert back["body"] == asserted["body"]
    assert back["attributes"] == asserted["attributes"]


def test_a_payload_that_is_not_by_the_book_is_taken_as_well():
    message = ExportTraceServiceRequest.FromString(from_json(Signal.TRACES, fixture("alloy/payload.json")))
    (one,) = message.resource_spans[0].scope_spans[0].spans
    assert (one.trace_id.hex(), one.parent_span_id.hex()) == (TRACE, "eee19b7ec3c1b173")
    assert (one.kind, one.end_time_unix_nano) == (Span.SPAN_KIND_CLIENT, 1544712660600000000)


@pytest.mark.parametrize("kind", [2, "2", "SPAN_KIND_SERVER", "Server", "SERVER"])
def test_kinds_are_numbers_or_names(kind):
    assert span(kind=kind).kind == Span.SPAN_KIND_SERVER


@pytest.mark.parametrize("code", [2, "STATUS_CODE_ERROR", "Error"])
def test_status_codes_are_numbers_or_names(code):
    assert span(status={"code": code}).status.code == Status.STATUS_CODE_ERROR


@pytest.mark.parametrize("time", ["1544712660300000000", 1544712660300000000])
def test_times_are_texts_or_numbers(time):
    assert span(startTimeUnixNano=time).start_time_unix_nano == 1544712660300000000


def test_ids_of_links_are_hex_and_values_that_are_called_like_ids_stay():
    one = span(
        traceId=TRACE.upper(),
        links=[{"traceId": TRACE, "spanId": SPAN}],
        attributes=[
            {"key": "traceId", "value": {"stringValue": TRACE}},
            {
                "key": "map",
                "value": {"kvlistValue": {"values": [{"key": "spanId", "value": {"intValue": "7"}}]}},
            },
            {"key": "nothing", "value": {}},
            {"key": "bytes", "value": {"bytesValue": "AQI="}},
        ],
    )
    assert one.trace_id.hex() == one.links[0].trace_id.hex() == TRACE
    assert one.links[0].span_id.hex() == SPAN
    assert one.attributes[0].value.string_value == TRACE
    assert one.attributes[1].value.kvlist_value.values[0].value.int_value == 7
    assert one.attributes[2].value.WhichOneof("value") is None
    assert one.attributes[3].value.bytes_value == b"\x01\x02"


def test_absent_ids():
    for absent in ("", None):
        assert span(traceId=TRACE, parentSpanId=absent).parent_span_id == b""


def test_unknown_fields_are_ignored():
    assert span(name="a", traceIdOfSomebody="zz", later={"traceId": "not hex"}).name == "a"


def test_the_names_of_scopes_before_otlp_1_0():
    document = {
        "resourceSpans": [
            {
                "instrumentationLibrarySpans": [
                    {"instrumentationLibrary": {"name": "old"}, "spans": [{"name": "a"}]}
                ]
            }
        ]
    }
    message = ExportTraceServiceRequest.FromString(from_object(Signal.TRACES, document))
    (scope,) = message.resource_spans[0].scope_spans
    assert (scope.scope.name, scope.spans[0].name) == ("old", "a")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON: Expecting property name enclosed in double quotes at character 1"),
        (b"\xff\x00\x80", "not valid JSON: Expecting value at character 0"),
        ("{}".encode("utf-16"), "not valid JSON: Expecting value at character 0"),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "s3cret\xff"}]}]}]}',
         "not a valid ExportTraceServiceRequest: resourceSpans.scopeSpans.spans.name: is not UTF-8"),
        ("[" * 100_000, "not valid JSON: nested too deeply, or too large a number"),
        ("1" * 10_000, "not a valid ExportTraceServiceRequest: not an object"),
        ("[]", "not a valid ExportTraceServiceRequest: not an object"),
        ('{"resourceSpans": {"s3cret": 1}}',
         "not a valid ExportTraceServiceRequest: resourceSpans: must be a list"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "s3cret"}]}]}]}',
         "not a valid ExportTraceServiceRequest: resourceSpans.scopeSpans.spans.traceId: is not hex"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "s3cret"}]}]}]}',
         "not a valid ExportTraceServiceRequest: "
         "resourceSpans.scopeSpans.spans.startTimeUnixNano: must be an integer"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_nothing_of_it_repeated(text, said):
    with pytest.raises(InvalidData) as refused:
        from_json(Signal.TRACES, text)
    assert str(refused.value) == said


def test_whose_request_it_is():
    assert signals_of({"resourceSpans": []}) == signals_of({"resource_spans": []}) == [Signal.TRACES]
    assert signals_of({"resourceLogs": []}) == [Signal.LOGS]
    assert signals_of({"resourceMetrics": [], "name": "x"}) == []


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\ud800", TRACE]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["spans", "kind", "status", "code", "links", "traceId", "attributes", "key", "value",
                 "stringValue", "intValue", "doubleValue", "arrayValue", "values", "kvlistValue",
                 "events", "name", "flags"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(anything, anything)
def test_whatever_it_is_it_is_taken_or_refused(resource, scope):
    for scopes in (scope, [scope], [{"spans": [scope]}], [{"spans": scope}]):
        text = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]})
        with suppress(InvalidData):
            ExportTraceServiceRequest.FromString(from_json(Signal.TRACES, text))


# Protobuf's own JSON is the measure, but for ids.
keys = st.sampled_from(["", "http.route", "é", "a b"])
scalars = st.one_of(
    st.builds(AnyValue, string_value=st.text(st.characters(exclude_categories=["Cs"]), max_size=200)),
    st.builds(AnyValue, bool_value=st.booleans()),
    st.builds(AnyValue, int_value=st.integers(-(1 << 63), (1 << 63) - 1)),
    st.builds(AnyValue, double_value=st.floats(allow_nan=False) | st.just(float("nan"))),
    st.builds(AnyValue, bytes_value=st.binary(max_size=9)),
    st.builds(AnyValue),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.builds(lambda items: AnyValue(array_value=ArrayValue(values=items)), st.lists(inner, max_size=3)),
        st.builds(
            lambda items: AnyValue(kvlist_value=KeyValueList(values=items)),
            st.lists(st.builds(KeyValue, key=keys, value=inner), max_size=3),
        ),
    ),
    max_leaves=6,
)
attributes = st.lists(st.builds(KeyValue, key=keys, value=values), max_size=4)
times = st.integers(0, (1 << 64) - 1)
counts = st.integers(0, (1 << 32) - 1)
spans = st.builds(
    Span,
    trace_id=st.binary(max_size=16), span_id=st.binary(max_size=8), name=keys,
    kind=st.integers(0, 9), start_time_unix_nano=times, attributes=attributes, flags=counts,
    dropped_attributes_count=counts, status=st.builds(Status, message=keys, code=st.sampled_from([0, 1, 2])),
    links=st.lists(st.builds(Span.Link, span_id=st.binary(max_size=8), attributes=attributes), max_size=2),
    events=st.lists(st.builds(Span.Event, time_unix_nano=times, attributes=attributes), max_size=2),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(spans, max_size=3), st.booleans(), st.booleans())
def test_what_protobuf_writes_is_read_as_it_was(records, names, numbers):
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.extend(records)
    document = json_format.MessageToDict(
        request, preserving_proto_field_name=names, use_integers_for_enums=numbers
    )

    def in_hex(part: object) -> None:
        for key, item in list(part.items()) if isinstance(part, dict) else ():
            if key.lower().replace("_", "") in {"traceid", "spanid"}:
                part[key] = base64.b64decode(item).hex()
        for item in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            in_hex(item)

    in_hex(document)
    read = ExportTraceServiceRequest.FromString(from_json(Signal.TRACES, json.dumps(document)))
    assert read.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)


@settings(max_examples=100, deadline=None)
@given(
    st.integers() | st.floats() | st.booleans() | st.text(max_size=6) | st.none()
    | st.sampled_from(["1", "-1", "1.0", "1e3", "1.5", "0x1", " 1", "", "NaN", "Infinity", 1e19, 2**64])
)  # fmt: skip
def test_numbers_are_taken_where_protobuf_takes_them(value):
    for field in ("intValue", "doubleValue", "boolValue"):
        document = {"key": "a", "value": {field: value}}
        try:
            expected = json_format.ParseDict(document, KeyValue())
        except json_format.ParseError:
            expected = None
        try:
            found = span(attributes=[document]).attributes[0]
        except InvalidData:
            found = None
        if isinstance(value, bool) or (expected is None and isinstance(value, str | float)):
            continue  # where it is stricter: blanks; or laxer: false as a double
        assert str(found) == str(expected), (field, value)


@pytest.mark.parametrize("value", [{}, [], "a", True, 1.5, -1, 1 << 32, "1" * 30])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(InvalidData, match=r"spans\.droppedLinksCount: "):
        span(droppedLinksCount=value)


def test_bytes_are_base64_of_either_alphabet():
    for text in ("-_8", "+/8=", "-_8="):
        assert (
            span(attributes=[{"value": {"bytesValue": text}}]).attributes[0].value.bytes_value == b"\xfb\xff"
        )
    for wrong in ("*", "A", "A=BC"):
        with pytest.raises(InvalidData, match="is not base64"):
            span(attributes=[{"value": {"bytesValue": wrong}}])


def test_half_a_character_is_replaced():
    one = span(name="caf\ud83d", attributes=[{"key": "\udc00", "value": {"stringValue": "\ud83d\ude00"}}])
    assert (one.name, one.attributes[0].key) == ("caf\ufffd", "\ufffd")
    assert one.attributes[0].value.string_value == "\U0001f600"
