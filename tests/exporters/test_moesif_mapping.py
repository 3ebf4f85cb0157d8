"""What of an event stands where in Moesif's model (apidocs _events-api.md)."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_moesif import Events
from otel_moesif.exporters.moesif import FACTORY
from otel_moesif.exporters.moesif.mapping import to_moesif
from otel_moesif.schema import BY_NAME, FIELDS, SCHEMA, Place

NOBODY = "0.0.0.0"  # noqa: S104 - nothing is bound

FAULT = {
    "eventType": "fault",
    "proxyResponseCode": 429,
    "targetResponseCode": -1,
    "errorCode": 900803,
    "errorMessage": "APPLICATION_LEVEL_LIMIT_EXCEEDED",
    "errorType": "THROTTLED",
    "backendLatency": ...,
    "responseLatency": ...,
}


def mapped(events):
    return [json.loads(text) for text in to_moesif(events)]


@pytest.fixture
def one(events):
    def make(**change):
        [event] = mapped(events(change))
        return event

    return make


def test_a_response(one):
    event = one(companyId="acme", sessionToken="k1", weight=4, requestSize=5)
    metadata = event.pop("metadata")
    assert event == {
        "request": {
            "time": "2022-01-20T03:34:36.451Z",
            "uri": "https://api.example.com/pizza/1.0.0/order/7?size=xl",
            "verb": "GET",
            "headers": {"User-Agent": "curl/8.5.0"},
            "api_version": "1.0.0",
            "ip_address": "203.0.113.7",
        },
        "response": {"time": "2022-01-20T03:34:36.524Z", "status": 200, "headers": {}},
        "user_id": "alice",
        "company_id": "acme",
        "session_token": "k1",
        "transaction_id": "6f1c1b0e-4b8e-5f0a-9a54-0d7f8f3f0a11",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span": {"id": "00f067aa0ba902b7", "parent_id": "b3c3f3c3f3c3f3c3"},
        "direction": "Incoming",
        "weight": 4,
    }
    assert {
        "apiName": "Pizza",
        "eventType": "response",
        "backendLatency": 13,
        "responseLatency": 73,
        "regionId": "default",
        "apiContext": "/pizza/1.0.0",
        "responseSize": 0,
        "requestSize": 5,
        "responseCacheHit": False,
        "targetResponseCode": 200,
        "userName": "alice",
    }.items() <= metadata.items()
    assert not [key for key in metadata if key.startswith("error")]


def test_a_fault_beside_a_response(events):
    response, fault = mapped(events({}, FAULT))
    assert fault["response"]["status"] == 429
    assert fault["user_id"] == "alice"
    assert fault["request"]["ip_address"] == "203.0.113.7"
    assert {"errorCode": 900803, "errorType": "THROTTLED", "userName": "alice"}.items() <= fault[
        "metadata"
    ].items()
    assert not [key for key in fault["metadata"] if key.endswith("Latency")]
    assert "errorCode" not in response["metadata"]


def test_metadata_has_every_documented_field_of_its_kind_with_its_type(events):
    kinds = {"response": mapped(events())[0], "fault": mapped(events(FAULT))[0]}
    for field in FIELDS:
        for kind, event in kinds.items():
            carried = getattr(field, kind) or field.name == "userName"
            if field.place is Place.BACKEND or field.default is None or not carried:
                continue
            value = event["metadata"].get(field.name)
            if value is not None:
                assert isinstance(value, SCHEMA[field.name].to_python()), field.name


def test_nothing_known(events):
    """An event of defaults only is an event that Moesif takes."""
    before = datetime.now(UTC).isoformat()[:23]
    [event] = mapped(Events(pl.DataFrame({"apiName": ["only"]})))
    assert event["request"].pop("time") >= before
    assert event["request"] == {
        "uri": "http://UNKNOWN/",
        "verb": "UNKNOWN",
        "headers": {},
        "ip_address": NOBODY,
    }
    assert event.keys() == {"request", "direction", "weight", "metadata"}


def test_a_call_that_nobody_answered_has_no_response(events):
    silent, answered = mapped(events({"proxyResponseCode": 0}, {}))
    assert "response" not in silent
    assert answered["response"]["status"] == 200


@pytest.mark.parametrize(
    ("change", "uri"),
    [
        ({"requestUri": "http://h/"}, "http://h/"),
        ({"requestUri": "/pizza/7?q=https://x"}, "http://UNKNOWN/pizza/7?q=https://x"),
        ({"requestUri": ...}, "http://UNKNOWN/pizza/1.0.0/order/{id}"),
        ({"requestUri": ..., "apiContext": "/pizza/"}, "http://UNKNOWN/pizza/order/{id}"),
        ({"requestUri": ..., "apiContext": ..., "apiResourceTemplate": "x"}, "http://UNKNOWN/x"),
        ({"requestUri": ..., "apiResourceTemplate": "/pizza/1.0.0/{id}"}, "http://UNKNOWN/pizza/1.0.0/{id}"),
        ({"requestUri": ..., "apiContext": "/", "apiResourceTemplate": "/a"}, "http://UNKNOWN/a"),
        ({"requestUri": ..., "apiContext": ..., "apiResourceTemplate": ...}, "http://UNKNOWN/"),
    ],
)
def test_the_uri_is_absolute(events, change, uri):
    assert [event["request"]["uri"] for event in mapped(events(change))] == [uri]
    # the same beside an event that has a full one
    assert mapped(events(change, {}))[0]["request"]["uri"] == uri


def test_response_time_follows_from_the_latency(one):
    assert one(responseTimestamp=..., responseLatency=1549)["response"]["time"] == "2022-01-20T03:34:38.000Z"
    assert one(responseTimestamp=..., **FAULT)["response"]["time"] == "2022-01-20T03:34:36.451Z"


@pytest.mark.parametrize("unknown", ["UNKNOWN", "", ...])
def test_what_is_unknown_is_left_out(one, unknown):
    event = one(userName=unknown, apiVersion=unknown, userIp=unknown, userAgent=unknown)
    assert "user_id" not in event
    assert "api_version" not in event["request"]
    assert event["request"]["ip_address"] == NOBODY
    assert event["request"]["headers"] == {}


@pytest.mark.parametrize(("weight", "sent"), [(0, 1), (-3, 1), (..., 1), (7, 7)])
def test_a_weight_is_at_least_one(one, weight, sent):
    assert one(weight=weight)["weight"] == sent


def test_spans_without_parent_and_events_without_span(events):
    root, log = mapped(events({"parentSpanId": ...}, {"spanId": ..., "parentSpanId": ..., "traceId": ...}))
    assert root["span"] == {"id": "00f067aa0ba902b7"}
    assert "span" not in log
    assert "trace_id" not in log


def test_headers(events):
    names = [
        ("Accept", "a"),
        ("x-a", "1"),
        ("accept", "b"),
        ('we"ird\n{}', 'q"\\\x00é'),
        ("null", None),
        (None, "no name"),
    ]
    captured = [{"key": key, "value": value} for key, value in names]
    result = mapped(
        events({"requestHeaders": captured, "responseHeaders": captured}, {}, {"requestHeaders": []})
    )
    expected = {"accept": "a,b", "x-a": "1", 'we"ird\n{}': 'q"\\\x00é', "null": ""}
    assert result[0]["request"]["headers"] == {"User-Agent": "curl/8.5.0", **expected}
    assert result[0]["response"]["headers"] == expected
    for event in result[1:]:
        assert event["request"]["headers"] == {"User-Agent": "curl/8.5.0"}
        assert event["response"]["headers"] == {}


def test_a_captured_user_agent_is_not_told_twice(one):
    headers = one(requestHeaders=[{"key": "User-Agent", "value": "full/1.0"}])["request"]["headers"]
    assert headers == {"user-agent": "full/1.0"}


@pytest.mark.parametrize(
    ("body", "encoding", "sent"),
    [
        ('{"a": [1, null]}', "json", {"a": [1, None]}),
        (' [\n"x"] ', None, ["x"]),
        ("aGVsbG8=", "base64", b"hello"),
        ('{"cut off', "json", b'{"cut off'),
        ('"text"', "json", b'"text"'),
        ("plain", None, b"plain"),
        ('"},{"', "base64", b'"},{"'),
        ("", "json", b""),
    ],
)
def test_bodies(events, body, encoding, sent):
    change = {"requestBody": body, "requestBodyEncoding": encoding, "responseBody": body}
    event, without = mapped(events(change, {}))
    found = event["request"]["body"]
    assert event["request"]["transfer_encoding"] == ("base64" if isinstance(sent, bytes) else "json")
    assert (base64.b64decode(found) if isinstance(sent, bytes) else found) == sent
    assert "body" in event["response"]
    assert not {"body", "transfer_encoding"} & (without["request"].keys() | without["response"].keys())


def test_custom_properties_join_the_metadata(events):
    custom = '{"tier": "gold", "n": {"a": 1}}'
    result = mapped(events({"customProperties": custom}, {"customProperties": "{}"}, {}))
    assert result[0]["metadata"] == {**result[2]["metadata"], "tier": "gold", "n": {"a": 1}}
    assert result[1]["metadata"] == result[2]["metadata"]


TEXTS = [name for name, dtype in SCHEMA.items() if dtype == pl.String and name != "customProperties"]
SPECIAL = st.sampled_from(
    ['"', "\\", "{}", "{{", "}", '","x":"', "\n", "\x00", "\x1f", "\u2028", "😀", "null"]
)
ANY = st.none() | st.text() | st.lists(SPECIAL, max_size=3).map("".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(TEXTS, ANY)), min_size=1, max_size=4))
def test_any_text_is_sent_as_it_is_and_no_null(rows):
    events = Events(pl.DataFrame(rows, schema=dict.fromkeys(TEXTS, pl.String)))
    for text, row in zip(to_moesif(events), rows, strict=True):
        event = json.loads(text)
        request = event["request"]
        for name, sent in {
            "companyId": event.get("company_id"),
            "sessionToken": event.get("session_token"),
            "transactionId": event.get("transaction_id"),
            "traceId": event.get("trace_id"),
            "spanId": event.get("span", {}).get("id"),
            "apiMethod": request["verb"],
            "apiName": event["metadata"]["apiName"],
            "apiId": event["metadata"]["apiId"],
            "userName": event["metadata"]["userName"],
            "responseContentType": event["metadata"]["responseContentType"],
        }.items():
            assert sent == (row[name] if row[name] is not None else BY_NAME[name].default), name
        for part in (event, request, event["metadata"], event.get("span", {})):
            assert None not in part.values()


def test_the_sandbox_takes_every_event(events, context):
    """The sandbox checks against the documented model."""
    sandbox = pytest.importorskip("otel_moesif_sandbox").Sandbox
    batch = Events.concat(
        [
            events(
                {"requestHeaders": [{"key": "a", "value": "b"}], "requestBody": "{}", "responseBody": "text"},
                {"customProperties": '{"tier": 1}', "requestUri": ...},
                {**FAULT, "transactionId": ...},
            ),
            Events(pl.DataFrame({"apiName": ["only"]})),
        ]
    )

    async def ship():
        async with sandbox("127.0.0.1:0") as receiver:
            config = FACTORY.config(endpoint=receiver.url, application_id="sandbox-application-id")
            exporter = FACTORY.build(config, context)
            await exporter.start()
            try:
                await exporter.export(batch)
            finally:
                await exporter.shutdown()
            return receiver.events

    received = asyncio.run(ship())
    assert received[:-1] == mapped(batch)[:-1]
    assert received[-1]["metadata"]["apiName"] == "only"
