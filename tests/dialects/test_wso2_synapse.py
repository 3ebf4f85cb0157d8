"""WSO2 API Manager's OpenTelemetry spans."""

from __future__ import annotations

import json
import re

import pytest

from otel_moesif.component import Held
from tests.dialects.otlp import (
    CLIENT,
    INTERNAL,
    SERVER,
    One,
    apim_event,
    dialects_of,
    event,
    events,
    fixture,
    given,
    make_spans,
)

SCOPE = "org.wso2.carbon.apimgt.tracing.telemetry"
NAME = "PizzaShackAPI--1.0.0--carbon.super"
_LINE = re.compile(
    r'"Span Id":"(\w+)","Tracer Id":"(\w+)","Operation":"([^"]+)","Latency":"(\d+)ms","Tags":"(.*)"}$'
)


def real_spans():
    """The log tracer's lines as spans. It has no parents, kinds and times: put in as ``TelemetryUtil`` makes
    them, every check and the backend below the resource, and the backend 30 ms before the end.
    """
    rows = [
        _LINE.search(line).groups()
        for line in fixture("wso2/otel_log_tracer_spans.log").read_text().splitlines()
    ]
    traces = list(dict.fromkeys(trace for _, trace, *_ in rows))
    resources = {trace: int(id_, 16) for id_, trace, name, *_ in rows if re.match(r"[A-Z]+--/", name)}
    roots = {trace: int(id_, 16) for id_, trace, name, *_ in rows if name == NAME}
    specs = []
    for id_, trace, name, latency, tags in rows:
        number, at = int(id_, 16), traces.index(trace) * 5000
        parent = 0 if name == NAME else roots[trace] if number == resources[trace] else resources[trace]
        pairs = re.findall(r"(span[.\w]+)=([^,}]*)", tags)
        end = 1396 if "Backend" in name else int(latency)
        specs.append(One(INTERNAL, number, parent, at + end - int(latency), at + end, dict(pairs), name,
                         trace=int(trace, 16)))  # fmt: skip
    return make_spans(*specs, scope=SCOPE)


def test_the_real_trace_gives_one_event_per_call():
    batch = real_spans()
    assert dialects_of(batch) == ["wso2_synapse"]
    preflight, menu = events(batch)
    both = {
        "apiName": "PizzaShackAPI",
        "apiVersion": "1.0.0",
        "apiCreatorTenantDomain": "carbon.super",
        "apiResourceTemplate": "/menu",
        "apiContext": "/pizzashack/1.0.0",
        "requestUri": "/pizzashack/1.0.0/menu",
        "gatewayType": "SYNAPSE",
        "eventType": "response",
        "apiId": "UNKNOWN",
        "applicationName": "UNKNOWN",
        "userIp": "UNKNOWN",
    }
    assert given(menu, both) == given(preflight, both) == both
    expected = {
        "apiMethod": "GET",
        "correlationId": "b4bb75d4-d4bc-4331-9475-752d0ae2340b",
        "destination": "https://localhost:9443/am/sample/pizzashack/v1/api/",
        "responseLatency": 1426,
        "backendLatency": 997,
        "requestMediationLatency": 399,
        "responseMediationLatency": 30,
        "customProperties": '{"consumerKey":"xTShCMSaKY04lhxY4b0lMfLYHewa"}',
        "traceId": "728e26aac8a02d5455dfa0b49fa91950",
        "spanId": "e1a28540ebf22850",
    }
    assert given(menu, expected) == expected
    expected = {
        "apiMethod": "OPTIONS",
        "correlationId": "9d6e304a-d212-4d28-be41-86c8603c6560",
        "destination": "UNKNOWN",
        "responseLatency": 50,
        "backendLatency": 0,
        "requestMediationLatency": 50,
        "responseMediationLatency": 0,
        "customProperties": None,
    }
    assert given(preflight, expected) == expected


# From here on everything is hand-written.


def root(status=None, name=NAME, end=100, kind=INTERNAL, parent=0, **more):
    attributes = {
        "span.request.method": "GET",
        "span.request.path": "pizzashack/1.0.0/menu",
        "span.activity.id": "a-1",
        "span.api.name": "PizzaShackAPI",
        "span.api.version": "1.0.0",
        "span.resource": "/menu",
        **({"span.http.response.status.code": str(status)} if status else {}),
        **more,
    }
    return One(kind, 1, parent, 0, end, attributes, name)


RESOURCE = One(INTERNAL, 2, 1, 1, 99, {}, "GET--/menu")
BACKEND = One(INTERNAL, 3, 2, 20, 90, {"span.endpoint": "https://backend/"}, "API:Backend_Latency")


def check(name, error=None, id_=4):
    return One(INTERNAL, id_, 2, 2, 5, {"error": error} if error else {}, f"API:{name}")


CHECKS = [
    check("CORS_Request_Latency", id_=5),
    check("Key_Validation_Latency"),
    check("Throttle_Latency", id_=6),
]
FAILED = "API Authentication Failure"


@pytest.mark.parametrize(
    ("specs", "kind", "target", "error"),
    [
        ([root(200), *CHECKS, BACKEND], "response", 200, None),
        ([root(404), *CHECKS, BACKEND], "response", 404, None),
        ([root(503), *CHECKS, BACKEND], "response", 503, None),
        ([root(200), *CHECKS], "response", -1, None),  # from the cache
        ([root(401), check("Key_Validation_Latency", FAILED)], "fault", -1,
         ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        ([root(403), check("Key_Validation_Latency", FAILED)], "fault", -1,
         ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        ([root(), check("Key_Validation_Latency", FAILED)], "fault", -1, ("AUTH", "OTHER", 900900)),
        ([root(429), check("Throttle_Latency", "Error in Throttle Handler")], "fault", -1,
         ("THROTTLED", "OTHER", 900800)),
        ([root(503), check("Throttle_Latency", "Error in API Throttle Handler")], "fault", -1,
         ("THROTTLED", "OTHER", 900800)),
        ([root(405), check("CORS_Request_Latency", "Error in CORS_Request Handler")], "fault", -1,
         ("OTHER", "METHOD_NOT_ALLOWED", 405)),
        ([root(500), check("Response_Mediation_Latency", "Error in Response Mediation"), BACKEND], "fault",
         -1, ("OTHER", "UNCLASSIFIED", 500)),
        ([root(200), check("Google_Analytics_Latency", "Error in Google Analytics Handler"), BACKEND],
         "response", 200, None),
        ([root(503), *CHECKS], "fault", -1, ("TARGET_CONNECTIVITY", "OTHER", 101503)),  # it never ended
        ([root(504), *CHECKS], "fault", -1, ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT", 101504)),
    ],
)  # fmt: skip
def test_response_or_fault(specs, kind, target, error):
    found = event(make_spans(RESOURCE, *specs, scope=SCOPE))
    assert (found["eventType"], found["targetResponseCode"]) == (kind, target)
    said = (found["errorType"], found["errorMessage"], found["errorCode"])
    assert said == (error or (None, None, None))
    assert found["errorCodeInferred"] is (True if error else None)


def test_a_call_of_no_api():
    """Only the root span, under the name it started with."""
    attributes = {"span.request.method": "GET", "span.request.path": "nothing/here?token=1"}
    attributes["span.http.response.status.code"] = "404"
    found = event(make_spans(One(INTERNAL, 1, 0, 0, 3, attributes, "API:Response_Latency"), scope=SCOPE))
    expected = {"apiName": "UNKNOWN", "apiCreatorTenantDomain": "UNKNOWN", "apiContext": "UNKNOWN",
                "apiResourceTemplate": "/nothing/here", "requestUri": "/nothing/here?token=1",
                "eventType": "fault", "errorMessage": "RESOURCE_NOT_FOUND", "errorCode": 404}  # fmt: skip
    assert given(found, expected) == expected


def test_the_call_may_have_a_parent_elsewhere():
    found = event(make_spans(root(200, parent=77), RESOURCE, BACKEND, scope=SCOPE))
    assert (found["parentSpanId"], found["backendLatency"]) == (f"{77:016x}", 70)


@pytest.mark.parametrize(
    ("path", "resource", "version", "context"),
    [
        ("pizzashack/1.0.0/menu", "/menu", "1.0.0", "/pizzashack/1.0.0"),
        ("/pizzashack/1.0.0/menu?a=b", "/menu", "1.0.0", "/pizzashack/1.0.0"),
        ("shop/2.0.0/order/7/line/1", "/order/{id}/line/{no}", "2.0.0", "/shop/2.0.0"),
        ("t/acme.com/shop/2.0.0/a/b/c", "/*", "2.0.0", "/t/acme.com/shop/2.0.0"),
        ("shop/v1", "/", "v1", "/shop/v1"),
        ("shop/v1/", "/", "v1", "/shop/v1"),
        ("shop/v1/v1", "/{x}", "v1", "/shop/v1"),
        ("shop/order/7", "/order/{id}", "2.0.0", "/shop"),  # the default version has none in its path
        ("größe/1.0.0/menü/1", "/menü/{id}", "1.0.0", "/größe/1.0.0"),
        ("shop/a/b", "/a/*", "2.0.0", "UNKNOWN"),
    ],
)
def test_the_context_is_what_stands_before_the_resource(path, resource, version, context):
    more = {"span.request.path": path, "span.resource": resource, "span.api.version": version}
    assert event(make_spans(root(200, **more), scope=SCOPE))["apiContext"] == context


def test_kinds_and_http_attributes_of_later_versions():
    """carbon-apimgt PR 13940: which keys, is not sure; old and new ones are read."""
    http = {"http.method": "POST", "http.url": "https://gw/pizzashack/1.0.0/menu?x=1",
            "http.status_code": 200, "net.peer.ip": "192.0.2.7", "http.user_agent": "curl/8"}  # fmt: skip
    call = root(None, kind=SERVER, **http)
    backend = One(CLIENT, 3, 2, 20, 90, {"http.url": "https://backend/menu", "http.status_code": "502"},
                  "API:Backend_Latency")  # fmt: skip
    found = event(make_spans(call, RESOURCE, backend, scope=SCOPE))
    expected = {"apiMethod": "GET", "proxyResponseCode": 200, "targetResponseCode": 502,
                "requestUri": "https://gw/pizzashack/1.0.0/menu?x=1", "destination": "https://backend/menu",
                "userIp": "192.0.2.7",
                "userAgentHeader": "curl/8", "apiContext": "/pizzashack/1.0.0"}  # fmt: skip
    assert given(found, expected) == expected


def test_names_with_quotes_and_dashes():
    more = {"span.consumerkey": 'k"\\1', "span.api.name": "a--b"}
    found = event(make_spans(root(200, "a--b--1.0.0--acme.com", **more), scope=SCOPE))
    assert (found["apiName"], found["apiCreatorTenantDomain"]) == ("a--b", "acme.com")
    assert json.loads(found["customProperties"]) == {"consumerKey": 'k"\\1'}


def test_a_check_that_comes_after_its_call_is_waited_for():
    mine = apim_event()
    mine.process_held(make_spans(root(200), RESOURCE, BACKEND, scope=SCOPE), Held({}, 0, ending=False))
    first = mine.process_held(make_spans(*_other(root(401)), scope=SCOPE), Held({}, 0, ending=False))
    assert (len(first.batch), first.due) == (0, 6_000_000_000)
    rest = make_spans(*_other(check("Key_Validation_Latency", FAILED), RESOURCE), scope=SCOPE)
    last = mine.process_held(rest, Held(first.held, 6_000_000_000, ending=True))
    assert last.batch.frame["errorType"].to_list() == ["AUTH"]


def _other(*specs):
    return [One(s.kind, s.id, s.parent, s.start, s.end, s.attributes, s.name, trace=2) for s in specs]


@pytest.mark.parametrize(
    ("scope", "attributes", "dialect"),
    [
        (SCOPE, {}, "wso2_synapse"),
        ("", {"span.request.method": "GET"}, "wso2_synapse"),
        ("", {"span.endpoint": "http://b"}, "wso2_synapse"),
        ("", {"http.request.method": "GET", "span.kind": "server"}, "semconv"),
    ],
)
def test_detection(scope, attributes, dialect):
    assert dialects_of(make_spans(One(attributes=attributes), scope=scope)) == [dialect]
