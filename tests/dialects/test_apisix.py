"""Apache APISIX: a real trace, what its own tests assert, and hand-written cases."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from otel_moesif.otlp.decode import decode_spans
from tests.dialects.otlp import (
    CLIENT,
    INTERNAL,
    SERVER,
    One,
    dialects_of,
    event,
    fixture,
    given,
    load_spans,
    make_spans,
    span_request,
)

SCOPE = "opentelemetry-lua"


def test_the_seven_spans_of_a_real_request_are_one_event():
    expected = {
        "apiContext": "/anything",
        "apiId": "otel-tracing-route",
        "apiMethod": "GET",
        "apiName": "otel-tracing-route",  # the route has no name, and says so with an empty value
        "apiResourceTemplate": "/anything",
        "apiType": "HTTP",
        "correlationId": "a5499493b517a3333578c2ac4fad3f4d",
        "errorType": None,
        "eventType": "response",
        "gatewayType": "APISIX",
        "proxyResponseCode": 200,
        "requestTimestamp": datetime(2026, 2, 4, 5, 57, 4, 846000, UTC),
        "requestUri": "http://localhost/anything",
        "responseLatency": 1,
        "spanId": "d0c33adf97b099f3",
        "targetResponseCode": 200,
        "traceId": "a5499493b517a3333578c2ac4fad3f4d",
        "userAgentHeader": "curl/7.81.0",
        "userIp": "UNKNOWN",
    }
    found = event(load_spans("gateways/apisix/apisix-full-tracing.traces.json"))
    assert given(found, expected) == expected


# -- what APISIX' own tests assert --------------------------------------------------------------------

EXPECTATIONS = "gateways/apisix/test_expectations.json"
# Asserted attribute → field of the event, and what it becomes there.
BECOMES = {
    "http.status_code": ("proxyResponseCode", 200),
    "http.method": ("apiMethod", "GET"),
    "net.host.name": ("requestUri", "http://localhost/articles/12345/comments?foo=bar"),
    "http.user_agent": ("userAgentHeader", "test-client"),
    "http.target": ("requestUri", "http://localhost/articles/12345/comments?foo=bar"),
    "http.route": ("apiResourceTemplate", "/articles/*/comments"),
    "apisix.route_id": ("apiId", "1"),
    "apisix.route_name": ("apiName", "route-name"),
}


def test_each_asserted_attribute_of_a_span_finds_its_field():
    fragments = json.loads(fixture(EXPECTATIONS).read_text())[
        "fragments_must_appear_in_collector_file_exporter_json"
    ]
    resource, attributes, name = {}, {}, ""
    for fragment in fragments:
        if fragment.startswith('"name"'):
            name = json.loads(f"{{{fragment}}}")["name"]
            continue
        one = json.loads(fragment)
        ((kind, value),) = one["value"].items()
        target = resource if one["key"] == "service.name" else attributes
        target[one["key"]] = int(value) if kind == "intValue" else value
    assert set(attributes) == set(BECOMES)
    found = event(make_spans(One(attributes=attributes, name=name), resource=resource, scope=SCOPE))
    for key, (field, value) in BECOMES.items():
        assert found[field] == value, key
    assert (found["gatewayType"], found["apiContext"]) == ("APISIX", "/articles")


ADDITIONAL = {
    "request_time": ("0.051", None, None),  # the span's own duration is more exact
    "bytes_sent": ("1004", "responseSize", 1004),
    "consumer_name": ("alice", "userName", "alice"),
}


def test_each_asserted_additional_attribute_finds_its_field():
    names = json.loads(fixture(EXPECTATIONS).read_text())["additional_attributes_land_as_stringValue"]
    assert set(names) == set(ADDITIONAL)
    for name in names:
        value, field, becomes = ADDITIONAL[name]
        found = one(200, **{name: value})
        assert field is None or found[field] == becomes
        assert found["responseLatency"] == 100


def test_the_asserted_tree_of_spans_is_one_call():
    tree = json.loads(fixture(EXPECTATIONS).read_text())["span_tree_full_tracing"]
    specs = []

    def add(node, parent):
        attributes = dict(node.get("attributes", {}))
        if "http.status_code" in attributes:
            attributes["http.status_code"] = int(attributes["http.status_code"])
        # OTLP/JSON kinds: 1 INTERNAL, 2 SERVER
        specs.append(One(node["kind"], len(specs) + 1, parent, attributes=attributes, name=node["name"]))
        number = len(specs)
        for child in node.get("children", []):
            add(child, number)

    add(tree, 0)
    assert len(specs) == 8
    found = event(make_spans(*reversed(specs), scope=SCOPE))
    expected = {"apiId": "1", "apiMethod": "GET", "proxyResponseCode": 200, "spanId": f"{1:016x}"}
    assert given(found, expected) == expected


# -- hand-written -------------------------------------------------------------------------------------


def call(status, **more):
    attributes = {
        "net.host.name": "shop.example",
        "http.method": "GET",
        "http.request.method": "GET",
        "http.scheme": "https",
        "http.target": "/v1/orders/7?x=1",
        "url.path": "/v1/orders/7",
        "apisix.route_id": "r-1",
        "apisix.route_name": "orders-by-id",
        "apisix.service_id": "s-1",
        "apisix.service_name": "orders",
        "http.route": "/v1/orders/*",
        "http.status_code": status,
        "http.response.status_code": status,
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return One(SERVER, attributes={k: v for k, v in attributes.items() if v is not None}, name="GET /v1")


def one(status, **more):
    return event(make_spans(call(status, **more), scope=SCOPE))


def test_the_service_names_the_api_and_configured_variables_tell_the_rest():
    found = one(
        200,
        remote_addr="192.0.2.7",
        consumer_name="alice",
        request_id="req-1",
        upstream_addr="10.0.0.1:80",
        upstream_status="200",
        upstream_response_time="0.030",
        upstream_cache_status="HIT",
        body_bytes_sent="10",
        bytes_sent="99",
        request_length="200",
        sent_http_content_type="application/json",
    )
    expected = {
        "apiContext": "/v1",
        "apiId": "s-1",
        "apiName": "orders",
        "apiResourceTemplate": "/v1/orders/*",
        "applicationName": "alice",
        "backendLatency": 30,
        "correlationId": "req-1",
        "destination": "10.0.0.1:80",
        "requestMediationLatency": 70,
        "requestSize": 200,
        "requestUri": "https://shop.example/v1/orders/7?x=1",
        "responseCacheHit": True,
        "responseContentType": "application/json",
        "responseLatency": 100,
        "responseMediationLatency": 0,
        "responseSize": 10,
        "userIp": "192.0.2.7",
        "userName": "alice",
    }
    assert given(found, expected) == expected


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    ("source", "kind", "target"),
    [
        ("apisix", "fault", -1),
        ("nginx", "fault", -1),
        ("upstream", "response", None),
        (None, "response", None),
    ],
)
def test_the_response_source_says_whose_answer_it_was(status, source, kind, target):
    found = one(status, apisix__response_source=source)
    assert (found["eventType"], found["targetResponseCode"]) == (kind, target or status)


@pytest.mark.parametrize(
    ("status", "source", "error"),
    [
        (401, "apisix", ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        (403, "apisix", ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        (404, "apisix", ("OTHER", "RESOURCE_NOT_FOUND", 404)),
        (429, "apisix", ("THROTTLED", "OTHER", 900800)),
        (502, "nginx", ("TARGET_CONNECTIVITY", "OTHER", 101503)),
        (504, "nginx", ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT", 101504)),
        (500, "nginx", ("OTHER", "UNCLASSIFIED", 500)),
    ],
)
def test_an_answer_of_apisix_itself_is_a_fault(status, source, error):
    found = one(status, apisix__response_source=source)
    assert (found["errorType"], found["errorMessage"], found["errorCode"]) == error


def test_a_success_of_apisix_itself_has_no_backend():
    found = one(200, apisix__response_source="apisix")
    assert (found["eventType"], found["targetResponseCode"]) == ("response", -1)


@pytest.mark.parametrize(
    ("status", "source", "statuses", "addresses", "times", "expected"),
    [
        (200, "upstream", "502, 200", "10.0.0.1:80, 10.0.0.2:80", "0.012, 0.034", (200, "10.0.0.2:80", 34)),
        (
            200,
            "upstream",
            "200 : 200",
            "10.0.0.1:80 : 10.0.0.2:80",
            "0.010 : 0.020",
            (200, "10.0.0.2:80", 20),
        ),
        (504, "nginx", "504, 504", "10.0.0.1:80, 10.0.0.1:80", "0.040, 0.040", (-1, "10.0.0.1:80", None)),
        (500, "apisix", "200", "10.0.0.1:80", "0.010", (200, "10.0.0.1:80", None)),  # a plugin's
        (200, None, "201", "unix:/run/shop.sock", "0.010", (201, "unix:/run/shop.sock", 10)),
        (503, "apisix", "-", "-", "-", (-1, "UNKNOWN", None)),
    ],
)
def test_lists_of_tries_give_the_last_one(status, source, statuses, addresses, times, expected):
    found = one(
        status,
        apisix__response_source=source,
        upstream_status=statuses,
        upstream_addr=addresses,
        upstream_response_time=times,
    )
    assert (found["targetResponseCode"], found["destination"], found["backendLatency"]) == expected


def test_without_a_route_only_the_path_is_known():
    nothing = dict.fromkeys(
        ("http.route", "apisix.route_id", "apisix.route_name", "apisix.service_id", "apisix.service_name")
    )
    found = one(404, apisix__response_source="apisix", **nothing)
    expected = {"apiName": "UNKNOWN", "apiId": "UNKNOWN", "apiResourceTemplate": "/v1/orders/7"}
    assert given(found, expected) == expected


def test_older_releases_have_no_status_where_no_backend_was_called():
    found = one(None)
    assert (found["proxyResponseCode"], found["targetResponseCode"]) == (0, -1)


def test_older_spellings_of_path_and_agent():
    found = one(200, **{"url.path": None, "http.target": None, "uri.path": "/v2/x", "http.user_agent": "a/1"})
    assert (found["requestUri"], found["userAgentHeader"]) == ("https://shop.example/v2/x", "a/1")


def test_a_proxy_before_apisix_tells_who_called():
    found = one(200, remote_addr="10.0.0.9", http_x_forwarded_for="192.0.2.7, 10.0.0.9")
    assert found["userIp"] == "192.0.2.7"


def test_fetched_secrets_are_no_backend_and_phases_no_calls():
    phase = One(SERVER, 2, 1, 1, 5, {"http.method": "GET"}, "apisix.phase.access")  # whatever it may carry
    secret = One(CLIENT, 3, 2, 2, 4, {}, "fetch_secret")
    match = One(INTERNAL, 4, 2, 1, 2, {}, "http_router_match")
    found = event(make_spans(phase, secret, match, call(200), scope=SCOPE))
    assert (found["backendLatency"], found["destination"]) == (0, "UNKNOWN")


def test_near_relatives_are_not_taken_for_apisix():
    nginx = One(attributes={"http.method": "GET", "http.status_code": 200, "upstream_addr": "10.0.0.1:80"})
    assert dialects_of(make_spans(nginx, resource={"service.name": "APISIX"}, scope="nginx")) != ["apisix"]
    assert dialects_of(make_spans(call(200), scope="")) == ["apisix"]  # by its attributes
    bare = One(attributes={"http.method": "GET"})
    assert dialects_of(decode_spans([span_request(bare, scope=SCOPE)])) == ["apisix"]  # by its scope
