"""OTLP/JSON as the specification has it, and as senders in the wild spell it; every form becomes an event.

Source: opentelemetry-proto docs/specification.md, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.collector import Collector, sandbox
from tests.e2e.frontdoor.answers import doors
from tests.e2e.frontdoor.payloads import as_json, calls
from tests.processes import until


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    directory = tmp_path_factory.mktemp("json")
    with sandbox(directory) as moesif:
        collector = Collector(directory, {"moesif": moesif.url}, http={})
        with collector.run(), doors(collector) as opened:
            yield moesif, opened["json"]


@pytest.fixture(scope="module")
def becomes_events(running):
    """Takes what became of a form; waits for the events of all of them, when all were sent."""
    expected: dict[str, set[str]] = {}
    yield expected.__setitem__
    missing = {}

    def arrived() -> bool:
        nonlocal missing
        there = set(running[0].arrived())
        missing = {form: ids - there for form, ids in expected.items() if ids - there}
        return not missing

    with contextlib.suppress(AssertionError):
        until(arrived, timeout=20)
    assert not missing, "no events of these forms"


def _spans(document: dict[str, Any]) -> list[dict[str, Any]]:
    return document["resourceSpans"][0]["scopeSpans"][0]["spans"]


def _each(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def apply(document: dict[str, Any]) -> None:
        for span in _spans(document):
            change(span)

    return apply


def _add(value: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return _each(lambda span: span["attributes"].append({"key": "extra", "value": value}))


def _upper_ids(span: dict[str, Any]) -> None:
    span.update(traceId=span["traceId"].upper(), spanId=span["spanId"].upper())


def _numbers(span: dict[str, Any]) -> None:
    span["startTimeUnixNano"] = int(span["startTimeUnixNano"])
    span["endTimeUnixNano"] = int(span["endTimeUnixNano"])


def _unknown(document: dict[str, Any]) -> None:
    document["futureField"] = {"any": [1, None, "thing"]}
    document["resourceSpans"][0]["entity_refs_of_2040"] = 7
    _each(lambda span: span.update(mood="good", weights=[1.5]))(document)


def _snake(document: dict[str, Any]) -> None:
    (resource,) = document["resource_spans"] = document.pop("resourceSpans")
    (scope,) = resource["scope_spans"] = resource.pop("scopeSpans")
    for span in scope["spans"]:
        for old, new in (
            ("traceId", "trace_id"),
            ("spanId", "span_id"),
            ("startTimeUnixNano", "start_time_unix_nano"),
            ("endTimeUnixNano", "end_time_unix_nano"),
        ):
            span[new] = span.pop(old)
        for attribute in span["attributes"]:
            value = attribute["value"]
            for old, new in (("stringValue", "string_value"), ("intValue", "int_value")):
                if old in value:
                    value[new] = value.pop(old)


FORMS: dict[str, Callable[[dict[str, Any]], None]] = {
    "as specified": lambda _: None,
    "ids in upper case": _each(_upper_ids),
    "64-bit integers as numbers": _each(_numbers),
    "an enum as its name": _each(lambda span: span.update(kind="SPAN_KIND_SERVER")),
    "an enum as its short name": _each(lambda span: span.update(kind="Server")),
    "an enum as a number in text": _each(lambda span: span.update(kind="2")),
    "a status code as its name": _each(lambda span: span.update(status={"code": "STATUS_CODE_OK"})),
    "a status code as a number": _each(lambda span: span.update(status={"code": 1})),
    "names as in the .proto files": _snake,
    "unknown fields": _unknown,
    "nulls": _each(lambda span: span.update(events=None, links=None, status=None, parentSpanId=None)),
    "an empty parent": _each(lambda span: span.update(parentSpanId="")),
    "bytes in base64": _add({"bytesValue": base64.b64encode(b"\0\1\2\xff").decode()}),
    "bytes in base64url without padding": _add({"bytesValue": "-_8"}),
    "an integer as text": _add({"intValue": "-9223372036854775808"}),
    "an integer as a number": _add({"intValue": 9007199254740993}),
    "a double as text": _add({"doubleValue": "NaN"}),
    "a list": _add({"arrayValue": {"values": [{"boolValue": True}, {}]}}),
    "a map": _add({"kvlistValue": {"values": [{"key": "k", "value": {"doubleValue": 0.5}}]}}),
    "half a surrogate pair": _add({"stringValue": "cut \ud83d"}),
    "text beyond ASCII": _add({"stringValue": "größer 🚀"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_of_json_becomes_events(running, becomes_events, form):
    _, door = running
    request = calls(2)
    document = as_json(request)
    FORMS[form](document)
    answer = door.send(json.dumps(document).encode())
    assert (answer.code, answer.rejected, answer.body) == ("OK", 0, b"{}")
    becomes_events(form, set(request.good))


BAD: dict[str, Callable[[dict[str, Any]], None]] = {
    "an id that is not hex": lambda span: span.update(traceId="z" * 32),
    "an id in base64": lambda span: span.update(traceId="W47/95gDgQPSabYzgT/GDA=="),
    "an id that is too short": lambda span: span.update(spanId="abcd"),
    "a time beyond 64 bits": lambda span: span.update(endTimeUnixNano="99999999999999999999"),
    "a number for a text": lambda span: span.update(name=5),
    "a text for a list": lambda span: span.update(attributes="none"),
    "bytes that are not base64": lambda span: span["attributes"].append(
        {"key": "k", "value": {"bytesValue": "%%%"}}
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_span_in_json_costs_none_of_its_neighbours(running, becomes_events, fault):
    _, door = running
    request = calls(3)
    document = as_json(request)
    BAD[fault](_spans(document)[1])
    good = {request.good[0], request.good[2]}
    answer = door.send(json.dumps(document).encode())
    assert (answer.code, answer.rejected) == ("OK", 1)
    assert answer.warning
    assert json.loads(answer.body)["partialSuccess"]["rejectedSpans"] == "1", "an int64 is a text in JSON"
    becomes_events(fault, good)


# Values of an attribute that no writer of JSON gives.
BAD_VALUES = {
    "bytes that are not UTF-8": b'{"stringValue": "caf\xe9"}',
    "a number of thousands of digits": b'{"intValue": ' + b"1" * 5000 + b"}",
    "nesting a thousand levels deep": b'{"arrayValue": {"values": [' * 1000 + b"{}" + b"]}}" * 1000,
}


@pytest.mark.parametrize("fault", BAD_VALUES)
def test_a_value_that_hardly_anybody_can_read_costs_none_of_its_neighbours(running, becomes_events, fault):
    _, door = running
    request = calls(3)
    document = as_json(request)
    _spans(document)[1]["attributes"].append({"key": "k", "value": "HERE"})
    answer = door.send(json.dumps(document).encode().replace(b'"HERE"', BAD_VALUES[fault]))
    assert (answer.code, answer.rejected) == ("OK", 1)
    assert answer.warning
    becomes_events(fault, {request.good[0], request.good[2]})


@pytest.mark.parametrize("place", ["resource", "scope"])
def test_a_bad_resource_or_scope_in_json_costs_its_own_spans(running, becomes_events, place):
    _, door = running
    bad, good = calls(3), calls(2)
    document = as_json(bad)
    around = document["resourceSpans"][0]
    (around if place == "resource" else around["scopeSpans"][0])[place] = {"attributes": "none"}
    document["resourceSpans"] += as_json(good)["resourceSpans"]
    answer = door.send(json.dumps(document).encode())
    assert (answer.code, answer.rejected) == ("OK", 3)
    assert f"{place}.attributes: must be a list" in answer.warning
    becomes_events(f"a bad {place}", set(good.good))


NO_REQUESTS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff{}",
    b"{}{}",
    b'{"resourceSpans": {}}',
    b'{"resourceSpans": [7]}',
    b'{"resourceLogs": [{"scopeLogs": [{"logRecords": [{}]}]}]}',
    b'{"resourceMetrics": []}',
]


@pytest.mark.parametrize("document", NO_REQUESTS)
def test_what_is_no_request_in_json_is_400_with_a_status_in_json(running, document):
    answer = running[1].send(document)
    assert (answer.http, answer.code) == (400, "INVALID_ARGUMENT")
    assert answer.headers["content-type"] == "application/json"
    assert answer.message


@pytest.mark.parametrize("document", [b"{}", b'{"resourceSpans": []}', b'{"future": 1}'])
def test_an_empty_request_in_json_is_a_success(running, document):
    assert running[1].send(document).code == "OK"
