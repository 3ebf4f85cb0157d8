"""What is wrong in a request in JSON costs no more than what it is in, as in protobuf; see `test_partial`."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_moesif.component import Signal
from otel_moesif.errors import InvalidData, TooLarge
from otel_moesif.otlp.transcode import Transcoded, from_json, transcode


def request(*records: object) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(records)}]}]}).encode()


def nested(depth: int) -> dict:
    value: dict = {"stringValue": "x"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return {"name": "deep", "attributes": [{"key": "a", "value": value}]}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"traceId": "s3cret"}, "traceId: is not hex"),
        ({"attributes": {}}, "attributes: must be a list"),
        ({"startTimeUnixNano": -1}, "startTimeUnixNano: is not between 0 and 18446744073709551615"),
        (7, "must be an object"),
        (nested(60), "is nested more than 100 levels deep"),
    ],
)
def test_one_wrong_record_is_left_out(wrong, said):
    done = transcode(Signal.TRACES, request({"name": "a"}, wrong, {"name": "b"}, wrong), 10_000)
    message = ExportTraceServiceRequest.FromString(done.request)
    assert [one.name for one in message.resource_spans[0].scope_spans[0].spans] == ["a", "b"]
    assert done.rejected == 2
    assert done.message.endswith(said)
    assert "s3cret" not in done.message
    with pytest.raises(InvalidData):
        transcode(Signal.TRACES, request(wrong, wrong), 10_000)
    with pytest.raises(InvalidData):
        from_json(Signal.TRACES, request({"name": "a"}, wrong))


def test_what_protobuf_can_read_is_not_too_deep():
    assert ExportTraceServiceRequest.FromString(from_json(Signal.TRACES, request(nested(40))))


def test_what_is_wrong_outside_of_records_is_wrong_altogether():
    document = b'{"resourceSpans": [{"resource": {"attributes": 1}, "scopeSpans": [{"spans": [{}]}]}]}'
    with pytest.raises(InvalidData, match=r"resourceSpans\.resource\.attributes: must be a list"):
        transcode(Signal.TRACES, document, 100)


@pytest.mark.parametrize("key", ["resourceLogs", "resource_logs", "resourceMetrics", "resourceProfiles"])
def test_a_request_of_another_signal_is_none(key):
    with pytest.raises(InvalidData, match="it is a request of another signal"):
        transcode(Signal.TRACES, json.dumps({key: []}).encode(), 100)
    assert transcode(Signal.TRACES, json.dumps({"resourceSpans": [], key: []}).encode(), 100).request == b""
    assert transcode(Signal.TRACES, b"{}", 100).request == b""


def test_values_are_counted_before_anything_is_read():
    text = request(*[{}] * 100)
    assert transcode(Signal.TRACES, text, 300).rejected == 0
    with pytest.raises(TooLarge, match="JSON of more than 200 values"):
        transcode(Signal.TRACES, text, 200)


MOST = (4 << 20) // 16  # as `http_export` bounds the default's 4 MiB


def names(done: Transcoded) -> list[str]:
    return [
        one.name
        for resource in ExportTraceServiceRequest.FromString(done.request).resource_spans
        for scope in resource.scope_spans
        for one in scope.spans
    ]


def test_what_looks_like_values_within_texts_is_none():
    """A hundred calls whose bodies of 20 KiB are JSON themselves."""
    body = json.dumps([{"id": 1, "tags": ['"a,b"', "\\", "[{"]}] * 550)
    assert 20 << 10 < len(body) < 24 << 10
    one = {"name": "a", "attributes": [{"key": "http.response.body", "value": {"stringValue": body}}]}
    text = request(*[one] * 100)
    assert sum(map(text.count, (b"{", b"[", b","))) > MOST
    done = transcode(Signal.TRACES, text, MOST)
    assert (names(done), done.rejected) == (["a"] * 100, 0)
    with pytest.raises(TooLarge):
        transcode(Signal.TRACES, text.replace(b'"name": "a"', b'"x": [' + b"1," * 3000 + b"1]"), MOST)


def test_bytes_that_are_not_utf8_cost_the_record_that_they_are_in():
    bad = [
        {"name": "bad-XX"},
        {"name": "bad", "attributes": [{"key": "XX"}]},
        {"name": "bad", "attributes": [{"key": "a", "value": {"stringValue": "XX"}}]},
        {"name": "bad", "traceId": "XX"},
    ]
    halves = {"name": "half \udcff\ud83d \udcc3"}  # as JavaScript cuts texts: repaired, not refused
    ignored = {"name": "ignored", "XX": "XX", "later": ["XX", {"a": "XX"}]}
    text = request({"name": "a é \U0001f600"}, *bad, halves, ignored)
    for wrong in (b"\xff", b"\xff\xfe\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"caf\xe9"):
        done = transcode(Signal.TRACES, text.replace(b"XX", wrong), MOST)
        assert names(done) == ["a é \U0001f600", "half \ufffd\ufffd \ufffd", "ignored"]
        assert (done.rejected, done.message) == (
            4, "not a valid ExportTraceServiceRequest: spans.name: is not UTF-8",
        )  # fmt: skip


def deep(levels: int, around: str = "[]") -> str:
    return around[0] * levels + around[1] * levels


@pytest.mark.parametrize("levels", [100, 310, 330, 1_000, 20_000])
def test_nesting_costs_the_record_that_it_is_in(levels):
    value = '{"arrayValue":{"values":[' * levels + "{}" + "]}}" * levels
    bad = f'{{"name":"bad","attributes":[{{"key":"a","value":{value}}}]}}'
    odd = f'{{"name":{deep(levels)}}}'
    later = '{"a":' * levels + '"]}"' + "}" * levels
    spans = f'{{"name":"a"}},{bad},{odd},{bad},{{"later":{later},"name":"ignored"}},{{"name":"b"}}'
    text = f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}],"x":{deep(levels)}}}'
    done = transcode(Signal.TRACES, text.encode(), 1_000_000)
    assert (names(done), done.rejected) == (["a", "ignored", "b"], 3)
    assert done.message.endswith("is nested more than 100 levels deep")


def test_many_wrong_records_take_no_room():
    """Errors that were kept held a kilobyte each, with what they came through."""
    text = request({}, *[7] * 100_000)
    tracemalloc.start()
    try:
        assert transcode(Signal.TRACES, text, MOST).rejected == 100_000
        assert tracemalloc.get_traced_memory()[1] < 40 * len(text)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", ["[" * 5000, deep(5000) + "]", '{"a":' + deep(5000), deep(5000) + '"\\'])
def test_what_is_nested_and_does_not_end_is_no_json(text):
    with pytest.raises(InvalidData, match="not valid JSON: nested too deeply"):
        transcode(Signal.TRACES, text.encode(), 1_000_000)


def test_a_number_of_thousands_of_digits_costs_the_record_that_it_is_in():
    number = "1" * 10_000
    text = request(
        {"name": "a", "kind": 2, "startTimeUnixNano": 1 << 63},
        {"name": "bad", "startTimeUnixNano": 7070707},
        {"name": "bad", "kind": 7070707},
        {"name": "bad", "attributes": [{"key": "a", "value": {"intValue": -7070707}}]},
        {"name": "b", "later": 7070707, "attributes": [{"key": "a", "value": {"doubleValue": -7070707}}]},
    )
    done = transcode(Signal.TRACES, text.replace(b"7070707", number.encode()), MOST)
    assert (names(done), done.rejected) == (["a", "b"], 3)
    first, last = ExportTraceServiceRequest.FromString(done.request).resource_spans[0].scope_spans[0].spans
    assert first.start_time_unix_nano == 1 << 63
    assert last.attributes[0].value.double_value == float("-inf")


@pytest.mark.parametrize(
    ("around", "said"),
    [
        ({"resource": {"attributes": [{"key": "a", "value": {"intValue": "s3cret"}}]}},
         "resourceSpans.resource.attributes.value.intValue: must be an integer"),
        ({"resource": 7}, "resourceSpans.resource: must be an object"),
        ({"schemaUrl": 7}, "resourceSpans.schemaUrl: must be a text"),
        ({"resource": {"attributes": nested(60)["attributes"]}}, "is nested more than 100 levels deep"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", [True, False])
def test_a_bad_resource_costs_its_own_records(around, said, first):
    scopes = {
        "scopeSpans": [{"spans": [{"name": "x"}, {"traceId": "zz"}, {"name": "y"}]}, {"spans": [{}, {}]}]
    }
    bad = {**around, **scopes} if first else {**scopes, **around}
    good = {"scopeSpans": [{"spans": [{"name": "a"}, {"traceId": "zz"}]}]}
    done = transcode(Signal.TRACES, json.dumps({"resourceSpans": [bad, good]}).encode(), MOST)
    assert (names(done), done.rejected) == (["a"], 6)
    assert done.message.startswith("not a valid ExportTraceServiceRequest: resourceSpans.")
    assert done.message.endswith(said)


@pytest.mark.parametrize(
    ("around", "said"),
    [
        ({"scope": {"name": 5}}, "scopeLogs.scope.name: must be a text"),
        ({"instrumentationLibrary": {"attributes": 5}}, "scopeLogs.scope.attributes: must be a list"),
    ],
)
def test_a_bad_scope_costs_its_own_records(around, said):
    bad = {"log_records": [{}, {"traceId": "zz"}], **around}
    document = {"resourceLogs": [{"scopeLogs": [bad, {"logRecords": [{"severityText": "a"}]}]}]}
    done = transcode(Signal.LOGS, json.dumps(document).encode(), MOST)
    (scope,) = ExportLogsServiceRequest.FromString(done.request).resource_logs[0].scope_logs
    assert [one.severity_text for one in scope.log_records] == ["a"]
    assert (done.rejected, done.message) == (2, f"not a valid ExportLogsServiceRequest: {said}")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (7, "resourceSpans: must be an object"),
        ({"resource": 7}, "resourceSpans.resource: must be an object"),
        ({"scopeSpans": [None]}, "scopeSpans: must be an object"),
        ({"scopeSpans": [{"spans": {"name": "a"}}]}, "scopeSpans.spans: must be a list"),
    ],
)
def test_what_is_bad_and_has_no_records_costs_none_but_is_said(bad, said):
    good = {"scopeSpans": [{"spans": [{"name": "a"}]}]}
    done = transcode(Signal.TRACES, json.dumps({"resourceSpans": [bad, good]}).encode(), MOST)
    assert (names(done), done.rejected) == (["a"], 0)
    assert done.message == f"not a valid ExportTraceServiceRequest: {said}"
    with pytest.raises(InvalidData, match=said):
        transcode(Signal.TRACES, json.dumps({"resourceSpans": [bad]}).encode(), MOST)


marks = st.sampled_from(["good"] * 5 + ["bad"])
kinds = st.lists(
    st.tuples(marks, st.lists(st.tuples(marks, st.lists(marks, max_size=4)), max_size=3)), max_size=3
)


@settings(max_examples=200, deadline=None)
@given(kinds, st.booleans(), st.booleans())
def test_every_record_is_taken_or_rejected(resources, first, snake):
    def part(kind: str, fault: dict, content: dict) -> dict:
        fault = fault if kind == "bad" else {}
        return {**fault, **content} if first else {**content, **fault}

    record = {"good": {"name": "a"}, "bad": {"name": 7}}
    one, two, three = (
        ("resource_spans", "scope_spans", "spans") if snake else ("resourceSpans", "scopeSpans", "spans")
    )
    document = {
        one: [
            part(
                kind,
                {"resource": 7},
                {
                    two: [
                        part(k, {"scope": 7}, {three: [record[each] for each in spans]})
                        for k, spans in scopes
                    ]
                },
            )
            for kind, scopes in resources
        ]
    }
    flat = [(kind, inner, each) for kind, scopes in resources for inner, spans in scopes for each in spans]
    good = flat.count(("good", "good", "good"))
    try:
        done = transcode(Signal.TRACES, json.dumps(document).encode(), MOST)
    except InvalidData:
        assert not good
    else:
        assert (len(names(done)), done.rejected) == (good, len(flat) - good)
