"""Caddy: hand-written spans after modules/caddyhttp/tracing; no capture is published."""

from __future__ import annotations

import pytest

from tests.dialects.otlp import SERVER, One, dialects_of, event, given, make_spans

CADDY = {"service.name": "unknown_service:caddy", "webengine.name": "Caddy", "webengine.version": "v2.11.9"}
OTELHTTP = "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
HOSTPORT = "http.reverse_proxy.upstream.hostport"
LATENCY = "http.reverse_proxy.upstream.latency_ms"
STATUS = "http.reverse_proxy.status_code"


def call(status=200, name="orders", **more):
    attributes = {
        "http.request.method": "GET",
        "url.scheme": "https",
        "url.path": "/orders/7",
        "url.query": "a=b",
        "server.address": "shop.example",
        "client.address": "192.0.2.7",
        "network.peer.address": "10.0.0.9",
        "user_agent.original": "curl/8",
        "network.protocol.version": "2",
        "http.request.body.size": 3,
        "http.response.body.size": 18,
        "http.response.status_code": status,
        **more,
    }
    return One(SERVER, attributes=attributes, name=name)


def of(one, resource=CADDY):
    return event(make_spans(one, resource=resource, scope=OTELHTTP))


def test_a_span_gives_every_field_that_caddy_supplies():
    found = of(call())
    expected = {
        "gatewayType": "CADDY",
        "eventType": "response",
        "apiName": "orders",
        "apiMethod": "GET",
        "apiResourceTemplate": "/orders/7",
        "apiContext": "/orders",
        "proxyResponseCode": 200,
        "targetResponseCode": 200,
        "userAgentHeader": "curl/8",
        "userIp": "192.0.2.7",
        "requestSize": 3,
        "responseSize": 18,
        "responseLatency": 100,
        "requestUri": "https://shop.example/orders/7?a=b",
        "correlationId": found["traceId"],
    }
    assert given(found, expected) == expected


@pytest.mark.parametrize(
    ("name", "service", "api"),
    [
        ("orders", "edge", "orders"),
        ("handler", "edge", "edge"),
        ("", "edge", "edge"),
        ("handler", "unknown_service:caddy", "shop.example"),
    ],
)
def test_the_default_names_of_span_and_service_name_no_api(name, service, api):
    assert of(call(name=name), {**CADDY, "service.name": service})["apiName"] == api


@pytest.mark.parametrize("status", [401, 404, 429, 502])
def test_without_configured_placeholders_nobody_knows_who_answered(status):
    assert of(call(status))["eventType"] == "response"


@pytest.mark.parametrize(
    ("status", "placeholders", "kind", "codes", "error"),
    [
        (404, {HOSTPORT: "10.0.0.1:80", LATENCY: "70.25"}, "response", (404, 404), None),
        (404, {HOSTPORT: "10.0.0.1:80", LATENCY: "70.25", STATUS: "404"}, "response", (404, 404), None),
        (502, {LATENCY: "70.25", STATUS: "200"}, "fault", (502, 200), "TARGET_CONNECTIVITY"),
        (404, {STATUS: "404"}, "response", (404, 404), None),
        (200, {HOSTPORT: "10.0.0.1:80", LATENCY: ""}, "fault", (502, -1), "TARGET_CONNECTIVITY"),
        (504, {HOSTPORT: "10.0.0.1:80", LATENCY: ""}, "fault", (504, -1), "TARGET_CONNECTIVITY"),
        (401, {HOSTPORT: "", LATENCY: ""}, "fault", (401, -1), "AUTH"),
        (403, {HOSTPORT: "", LATENCY: ""}, "fault", (403, -1), "AUTH"),
        (429, {LATENCY: ""}, "fault", (429, -1), "THROTTLED"),
        (404, {STATUS: ""}, "fault", (404, -1), "OTHER"),
        (308, {HOSTPORT: "", LATENCY: ""}, "response", (308, -1), None),
    ],
)  # fmt: skip
def test_configured_placeholders_tell_who_answered(status, placeholders, kind, codes, error):
    found = of(call(status, **placeholders))
    assert (found["eventType"], found["errorType"]) == (kind, error)
    assert (found["proxyResponseCode"], found["targetResponseCode"]) == codes


def test_configured_placeholders_give_time_address_user_and_id():
    more = {
        HOSTPORT: "10.0.0.1:80",
        LATENCY: "70.25",
        "http.auth.user.id": "alice",
        "http.request.uuid": "u-1",
    }
    found = of(call(**more))
    expected = {
        "destination": "10.0.0.1:80",
        "backendLatency": 70,
        "requestMediationLatency": 30,
        "responseMediationLatency": 0,
        "userName": "alice",
        "correlationId": "u-1",
    }
    assert given(found, expected) == expected


def test_only_the_resource_tells_caddy_from_other_go_servers():
    assert dialects_of(make_spans(call(), resource=CADDY, scope=OTELHTTP)) == ["caddy"]
    assert dialects_of(make_spans(call(), resource={"service.name": "caddy"}, scope=OTELHTTP)) == ["semconv"]
    other = {"service.name": "x", "webengine.name": "WildFly"}
    assert dialects_of(make_spans(call(), resource=other, scope=OTELHTTP)) == ["semconv"]
