"""What of an event stands where in Moesif's model (apidocs _events-api.md), in the default shape."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from otel_moesif import Events
from otel_moesif.schema import FIELDS, SCHEMA, Place
from tests.exporters.mapped import FAULT, mapped

NOBODY = "0.0.0.0"  # noqa: S104 - nothing is bound


@pytest.fixture
def one(events):
    def make(**change):
        [event] = mapped(events(change))
        return event

    return make


def test_a_response(one):
    event = one(companyId="acme", sessionToken="k1", weight=4, requestSize=5)
    assert event["request"].pop("content_length") == 5
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
        "action_name": "GET /order/{id}",
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
        ({"requestUri": "https://h/my report.pdf?q=a\tb"}, "https://h/my%20report.pdf?q=a%09b"),
        ({"requestUri": "/my report"}, "http://UNKNOWN/my%20report"),
        ({"requestUri": "https://h/\u00a0ü"}, "https://h/%C2%A0ü"),
        ({"requestUri": "https:///x?a=b"}, "http://UNKNOWN/x?a=b"),
        ({"requestUri": "http://"}, "http://UNKNOWN/pizza/1.0.0/order/{id}"),
        (
            {"requestUri": ..., "apiContext": "/a b", "apiResourceTemplate": "/c d"},
            "http://UNKNOWN/a%20b/c%20d",
        ),
    ],
)
def test_the_uri_is_absolute(events, change, uri):
    assert [event["request"]["uri"] for event in mapped(events(change))] == [uri]
    # the same beside an event that has a full one
    assert mapped(events(change, {}))[0]["request"]["uri"] == uri


@pytest.mark.parametrize("verb", ["", ...])
def test_a_verb_is_never_empty(one, verb):
    assert one(apiMethod=verb)["request"]["verb"] == "UNKNOWN"


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


def test_custom_properties_without_members_join_as_nothing(one):
    assert one(customProperties="{ }")["metadata"] == one()["metadata"]


def test_objects_of_ai_calls_stay_objects(one):
    usage = {"promptTokens": 12, "completionTokens": 30, "totalTokens": 42, "hour": 3}
    meta = {"vendorName": "OpenAI", "vendorVersion": "1", "model": "gpt-4o"}
    event = one(customProperties=json.dumps({"aiMetadata": meta, "aiTokenUsage": usage}))
    assert event["metadata"]["aiMetadata"] == meta
    assert event["metadata"]["aiTokenUsage"] == usage


@pytest.mark.parametrize(
    ("change", "action"),
    [
        ({}, "GET /order/{id}"),
        ({"apiType": "GRAPHQL", "apiMethod": "QUERY", "apiResourceTemplate": "a,b"}, "QUERY a,b"),
        (
            {"apiType": "GRPC", "apiMethod": "POST", "apiResourceTemplate": "/pizza.v1.Orders/Get"},
            "pizza.v1.Orders/Get",
        ),
        ({"apiResourceTemplate": ...}, None),
        ({"apiResourceTemplate": ""}, None),
        ({"apiMethod": ...}, None),
        ({**FAULT, "apiResourceTemplate": "/a"}, "GET /a"),
        ({"apiResourceTemplate": "/v1/menu"}, "GET /v1/menu"),
        ({"apiResourceTemplate": "/orders/4711"}, None),
        ({"apiResourceTemplate": "/orders/43d030dc-427f-4678-98e3-87b7d988a001/lines"}, None),
        ({"apiResourceTemplate": "/orders/4711/{line}"}, None),
    ],
)
def test_the_action_is_the_operation(events, change, action):
    event, plain = mapped(events(change, {}))
    assert event.get("action_name") == action
    assert plain["action_name"] == "GET /order/{id}"


def test_calls_that_leave_the_organisation_are_outgoing(events):
    assert [event["direction"] for event in mapped(events({"isEgress": True}, {}))] == [
        "Outgoing",
        "Incoming",
    ]


@pytest.mark.parametrize("name", ["blocked_by", "blockedBy"])
def test_a_rule_that_blocked_the_call_is_reported(events, name):
    custom = json.dumps({name: "rule-7"})
    blocked, other, none = mapped(
        events({"customProperties": custom}, {"customProperties": '{"x": "blocked_by"}'}, {})
    )
    assert blocked["blocked_by"] == "rule-7"
    assert "blocked_by" not in other
    assert "blocked_by" not in none


def test_a_batch_of_many_events_is_what_its_events_are_one_by_one(events):
    """Many rows are looked at closer: values that all share, small numbers, fields of one kind of event."""
    start = datetime(2022, 1, 20, 23, 59, 59, 990000, tzinfo=UTC)
    changes = [
        {
            "requestTimestamp": start + timedelta(milliseconds=number),
            "responseTimestamp": ... if number % 5 == 0 else start + timedelta(milliseconds=7 * number),
            "responseSize": number * 997,
            "responseLatency": 3 * number,
            "requestSize": None if number % 3 else number,
            "apiName": f'A"{number % 4}' if number > 200 else "plain",
            "userName": "UNKNOWN" if number % 2 else "alice",
            "proxyResponseCode": 0 if number % 50 == 7 else 200 + number,
            **(FAULT if number % 11 == 0 else {}),
        }
        for number in range(300)
    ]
    batch = events(*changes)
    assert mapped(batch) == [mapped(batch.slice(number, 1))[0] for number in range(300)]


# -- rows of moesif.md section 3.2: defects of other integrations that this one does not have ---------------


def test_row_g_the_weight_is_a_whole_number_of_at_least_one_and_no_field_is_extra(events):
    for event in mapped(events({"weight": 0}, {"weight": ...}, {"weight": 25})):
        assert type(event["weight"]) is int
        assert event["weight"] >= 1
        assert "regexMap" not in event
        assert "tags" not in event


def test_row_h_latencies_are_numbers_ids_stay_and_faults_have_their_user(events):
    batch = events({}, {**FAULT, "apiCreator": "admin"})
    first, again = mapped(batch), mapped(batch)
    assert [event["transaction_id"] for event in first] == [event["transaction_id"] for event in again]
    assert type(first[0]["metadata"]["responseLatency"]) is int
    assert type(first[0]["metadata"]["responseCacheHit"]) is bool
    fault = first[1]
    assert fault["user_id"] == "alice"
    assert fault["request"]["uri"].startswith("https://")
    assert fault["request"]["verb"] == "GET"


@pytest.mark.parametrize("millisecond", [0, 5, 50, 500])
def test_row_j_milliseconds_have_three_digits(one, millisecond):
    start = datetime(2022, 1, 20, 3, 34, 36, 1000 * millisecond, tzinfo=UTC)
    event = one(requestTimestamp=start, responseTimestamp=start)
    assert event["request"]["time"] == event["response"]["time"] == f"2022-01-20T03:34:36.{millisecond:03}Z"


def test_row_l_the_uri_is_whole_and_base64_is_declared_in_the_event(one):
    request = one(requestBody="plain")["request"]
    assert re.match(r"https://[^/]+/", request["uri"])
    assert request["transfer_encoding"] == "base64"
    assert "transfer-encoding" not in {name.lower() for name in request["headers"]}


def test_row_m_a_body_is_never_a_bare_string(one):
    for body in ("text", '"text"', "<a/>", "1"):
        request = one(requestBody=body)["request"]
        assert base64.b64decode(request["body"], validate=True) == body.encode()


def test_row_n_moesifs_own_keys_have_underscores(one):
    event = one(companyId="c", sessionToken="s", requestBody="{}", customProperties='{"blockedBy":"r"}')
    keys = [*event, *event["request"], *event["response"], *event["span"]]
    assert [key for key in keys if not re.fullmatch(r"[a-z_]+", key)] == []


def test_row_o_api_calls_are_sent_as_events_with_no_header_of_ours(one):
    event = one(requestHeaders=[{"key": "x-a", "value": "1"}])
    assert {"request", "response"} <= event.keys()
    assert event["request"]["headers"].keys() == {"User-Agent", "x-a"}


def test_row_q_json_bodies_go_as_json(one):
    event = one(requestBody='{"a":[1]}', responseBody="[2]")
    assert (event["request"]["body"], event["request"]["transfer_encoding"]) == ({"a": [1]}, "json")
    assert (event["response"]["body"], event["response"]["transfer_encoding"]) == ([2], "json")
