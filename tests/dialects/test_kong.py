"""Kong: spans and access log of one real request, and hand-written spans of what it does to others."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_moesif.component import Signal
from otel_moesif.config.model import DeduplicateSettings, MetricsSettings
from otel_moesif.journal.rows import RawRequest
from otel_moesif.otlp.decode import decode_spans
from otel_moesif.pipeline import Pipeline
from otel_moesif.stream import Stream
from otel_moesif.telemetry import Telemetry
from tests.dialects import otlp
from tests.dialects.otlp import (
    CLIENT,
    INTERNAL,
    SERVER,
    One,
    apim_event,
    dialects_of,
    event,
    given,
    load_logs,
    load_spans,
    make_spans,
    span_request,
)

REAL = "gateways/kong/kong-3.14-traces-and-access-log"
REQUEST_ID = "319d1e4e7862095f704a7d6c60e63260"
ERROR = 2

BOTH_SAY = {
    "apiContext": "/anything",
    "apiMethod": "POST",
    "apiName": "example-service",
    "apiResourceTemplate": "/anything",
    "apiType": "HTTP",
    "backendLatency": 72,
    "correlationId": REQUEST_ID,
    "errorType": None,
    "eventType": "response",
    "gatewayType": "KONG",
    "proxyResponseCode": 200,
    "requestMediationLatency": 45,
    "requestTimestamp": datetime(2025, 12, 12, 10, 47, 13, 299000, UTC),
    "targetResponseCode": 200,
    "userIp": "192.168.107.1",
}


# -- the real request ---------------------------------------------------------------------------------


def test_the_six_spans_of_a_real_request_are_one_event():
    expected = {
        **BOTH_SAY,
        "apiId": "UNKNOWN",
        "destination": "httpbin.konghq.com",
        "requestUri": "http://localhost/anything",
        "responseLatency": 118,
        "responseMediationLatency": 0,
        "spanId": "7ddb4028163987aa",
        "traceId": "111216d769f06a7486de78aaf6bb3056",
        "userAgent": "UNKNOWN",
    }
    assert given(event(load_spans(f"{REAL}.traces.json")), expected) == expected


def test_the_access_log_record_of_a_real_request_is_one_event():
    expected = {
        **BOTH_SAY,
        "apiId": "2c87bb4c-beed-4805-a3d2-e23ae2477bb2",
        "destination": "http://httpbin.konghq.com/anything",
        "requestSize": 131,
        "requestUri": "http://localhost:8000/anything",
        "responseCacheHit": False,
        "responseContentType": "application/json",
        "responseLatency": 119,
        "responseMediationLatency": 2,
        "responseSize": 623,
        "responseTimestamp": datetime(2025, 12, 12, 10, 47, 13, 418000, UTC),
        "traceId": None,
        "userAgentHeader": "curl/8.7.1",
    }
    found = event(load_logs(f"{REAL}.logs.json"))
    assert given(found, expected) == expected
    assert {"key": "accept", "value": "application/json"} in found["requestHeaders"]
    assert {"key": "server", "value": "gunicorn/19.9.0"} in found["responseHeaders"]


FROM_SPANS, FROM_LOG = None, "curl/8.7.1"  # the user agents by which the two reports can be told apart


@pytest.mark.parametrize(
    ("prefer", "batches", "agent"),
    [
        ("span", [[Signal.TRACES, Signal.LOGS]], FROM_SPANS),
        ("log", [[Signal.TRACES, Signal.LOGS]], FROM_LOG),
        ("span", [[Signal.TRACES], [Signal.LOGS]], FROM_SPANS),
        ("span", [[Signal.LOGS], [Signal.TRACES]], FROM_LOG),  # nobody knows yet that spans will come, too
    ],
)
def test_the_spans_and_the_log_record_of_a_real_request_become_one_event(prefer, batches, agent):
    raw = {
        Signal.TRACES: otlp._parsed(f"{REAL}.traces.json", ExportTraceServiceRequest()),
        Signal.LOGS: otlp._parsed(f"{REAL}.logs.json", ExportLogsServiceRequest()),
    }
    telemetry = Telemetry(MetricsSettings(level="none", address=None), {})
    pipelines = [
        Pipeline(signal.value, signal, frozenset({"otlp"}), [("apim_event", apim_event())], ("a",), telemetry)
        for signal in raw
    ]
    stream = Stream(pipelines, DeduplicateSettings(prefer=prefer), telemetry)
    found = []
    for now, batch in enumerate([*batches, []]):
        requests = [RawRequest("otlp", signal, raw[signal], id=now + 1) for signal in batch]
        made = stream.convert(requests, now, ending=not batch)
        stream.stored(made, range(len(made.step.held)))
        found += [row for _, part in made.events for row in part.frame.to_dicts()]
    assert [(row["apiName"], row["correlationId"], row["userAgentHeader"]) for row in found] == [
        ("example-service", REQUEST_ID, agent)
    ]


# -- hand-written spans -------------------------------------------------------------------------------


def root(status, **more):
    attributes = {
        "http.method": "GET",
        "http.url": "http://shop.example/v1/orders/7?x=1",
        "http.host": "shop.example",
        "http.scheme": "http",
        "http.flavor": "1.1",
        "http.client_ip": "192.0.2.7",
        "net.peer.ip": "10.0.0.1",
        "kong.request.id": f"{status:032x}",
        "http.status_code": status,
        "http.route": "/v1/orders",
        **more,
    }
    return One(SERVER, 1, attributes={k: v for k, v in attributes.items() if v is not None}, name="kong")


def balancer(number=1, start=10.0, end=90.0, code=None, **more):
    attributes = {
        "try_count": float(number),
        "net.peer.ip": f"10.0.1.{number}",
        "net.peer.port": 8443.0,
        **({"http.status_code": float(code)} if code else {}),
        **more,
    }
    return One(CLIENT, 10 + number, 1, start, end, attributes, "kong.balancer", ERROR if code else 0)


def one(*specs):
    return event(make_spans(*specs, scope="kong-internal"))


def refused(*specs):
    """The event of a call by a sender that was seen to send balancer spans before."""
    known = span_request(balancer(), scope="kong-internal")
    mine = apim_event()
    mine.process(decode_spans([known]))
    (found,) = mine.process(make_spans(*specs, scope="kong-internal")).frame.to_dicts()
    return found


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (401, "fault", ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        (403, "fault", ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        (404, "fault", ("OTHER", "RESOURCE_NOT_FOUND", 404)),
        (429, "fault", ("THROTTLED", "OTHER", 900800)),
        (503, "fault", ("TARGET_CONNECTIVITY", "OTHER", 101503)),
        (200, "response", (None, None, None)),
        (301, "response", (None, None, None)),
    ],
)
def test_an_answer_without_a_try_is_kongs_own(status, kind, error):
    found = refused(root(status))
    assert (found["eventType"], found["targetResponseCode"]) == (kind, -1)
    assert (found["errorType"], found["errorMessage"], found["errorCode"]) == error


def test_without_balancer_spans_at_all_nothing_is_taken_for_a_fault():
    found = one(root(401))
    assert (found["eventType"], found["targetResponseCode"]) == ("response", 401)


@pytest.mark.parametrize("status", [200, 404, 500, 502])
def test_the_only_try_answered_with_the_status_of_the_call(status):
    found = one(root(status), balancer())
    assert (found["eventType"], found["targetResponseCode"]) == ("response", status)
    assert (found["backendLatency"], found["requestMediationLatency"]) == (80, 10)


def test_a_caller_that_left_was_answered_by_no_backend():
    found = one(root(499), balancer())
    assert (found["eventType"], found["proxyResponseCode"], found["targetResponseCode"]) == (
        "response",
        499,
        -1,
    )


def test_a_retry_that_is_answered_counts():
    found = one(root(200), balancer(1, 5, 20, 502), balancer(2, 21, 90))
    assert (found["eventType"], found["targetResponseCode"]) == ("response", 200)
    assert (found["backendLatency"], found["destination"]) == (69, "10.0.1.2:8443")


@pytest.mark.parametrize(
    ("status", "sub_type", "code"), [(502, "OTHER", 101503), (504, "CONNECTION_TIMEOUT", 101504)]
)
def test_when_the_last_of_several_tries_fails_nobody_answered(status, sub_type, code):
    found = one(root(status), balancer(1, 5, 20, status), balancer(2, 21, 90))
    assert (found["eventType"], found["targetResponseCode"]) == ("fault", -1)
    assert (found["errorType"], found["errorMessage"]) == ("TARGET_CONNECTIVITY", sub_type)
    assert (found["errorCode"], found["errorCodeInferred"]) == (code, True)


def test_a_status_that_a_failed_try_got_is_the_backends():
    found = one(root(500), balancer(1, 5, 20, 500))
    assert (found["eventType"], found["targetResponseCode"]) == ("response", 500)


def test_neither_dns_nor_a_plugins_own_call_nor_plugins_are_the_backend():
    own = {"http.url": "http://auth.example/", "http.method": "GET", "http.status_code": 200.0}
    found = refused(
        root(403),
        One(CLIENT, 2, 1, 1, 3, {"dns.record.domain": "auth.example", "dns.record.port": 80.0}, "kong.dns"),
        One(CLIENT, 3, 1, 3, 9, own, "kong.internal.request"),
        One(INTERNAL, 4, 1, 1, 10, {}, "kong.access.plugin.opa"),
    )
    assert (found["eventType"], found["targetResponseCode"], found["destination"]) == (
        "fault",
        -1,
        "UNKNOWN",
    )


@pytest.mark.parametrize(
    ("route", "template", "context", "name"),
    [
        ("/v1/orders", "/v1/orders", "/v1/orders", "/v1/orders"),
        ("/", "/", "/v1", "/"),
        ("/v1/users", "/v1/orders/7", "/v1", "/v1/users"),  # the first path of the route, not this call's
        ("~/v1/orders/\\d+$", "~/v1/orders/\\d+$", "/v1", "~/v1/orders/\\d+$"),
        ("", "/v1/orders/7", "/v1", "UNKNOWN"),
    ],
)
def test_the_template_is_the_path_of_the_route(route, template, context, name):
    found = one(root(200, **{"http.route": route}), balancer())
    assert (found["apiResourceTemplate"], found["apiContext"], found["apiName"]) == (template, context, name)


def test_an_ai_gateway_call_is_told_by_its_child():
    for plugin in ("kong.gen_ai", "kong.a2a"):
        assert one(root(200), One(INTERNAL, 2, 1, 1, 90, {}, plugin), balancer())["apiType"] == "AI"
    assert one(root(101), balancer())["apiType"] == "WS"


# -- detection ----------------------------------------------------------------------------------------


def test_near_relatives_are_not_taken_for_kong():
    app = One(SERVER, 1, attributes={"http.method": "GET", "http.status_code": 200, "service": "kong"})
    assert dialects_of(make_spans(app, resource={"service.name": "kong"})) == ["semconv"]
    debugger = One(SERVER, 1, attributes={"http.method": "GET", "proxy.kong.latency_total_ms": 3})
    assert dialects_of(make_spans(debugger)) == ["semconv"]
    assert dialects_of(make_spans(root(200), scope="kong-internal")) == ["kong"]
    assert dialects_of(make_spans(root(200), scope="")) == ["kong"]  # behind something that drops scopes
