"""WSO2 API Platform's gateway: the router's spans and the policy engine's. All spans are hand-written.

What stands in which is that of api-platform's own sources, see the dialect.
"""

from __future__ import annotations

import json

import pytest

from otel_moesif.component import Held
from otel_moesif.otlp.decode import decode_spans
from tests.dialects.otlp import (
    CLIENT,
    INTERNAL,
    SERVER,
    One,
    apim_event,
    dialects_of,
    event,
    given,
    make_spans,
    span_request,
)

ROUTER, ENGINE = {"service.name": "router", "telemetry.sdk.name": "envoy"}, {"service.name": "policy-engine"}
TAGS = {
    "component": "proxy",
    "http.url": "http://gw.example/reading-list/v1.0/books/7?x=1",
    "http.method": "GET",
    "user_agent": "curl/8",
    "peer.address": "192.0.2.7",
    "request_size": "3",
    "response_size": "133",
    "response_flags": "-",
    "guid:x-request-id": "r-1",
    "upstream_cluster": "cluster_http_backend",
    "http.route": "/reading-list/v1.0/books/{id}",
}


def router(status, **more):
    return One(SERVER, 1, 0, 0, 100, {**TAGS, "http.status_code": str(status), **more}, "ingress")


def upstream(status="200", **more):
    tags = {"component": "proxy", "http.status_code": status, "response_flags": "-",
            "peer.address": "10.0.0.1:80", "peer.service": "books.internal", **more}  # fmt: skip
    return One(CLIENT, 2, 1, 20, 90, tags, "router cluster_http_backend egress")


EXT_PROC = One(CLIENT, 3, 1, 1, 95, {"grpc.status_code": "0"}, "async policy_engine egress")


def engine(reason="upstream_response", status=200, **more):
    attributes = {"route_name": "r", "api_name": "Reading List", "api_version": "v1.0",
                  "api_context": "/reading-list/v1.0", "operation_path": "/books/{id}",
                  "terminal.reason": reason, "http.response.status_code": status, **more}  # fmt: skip
    return One(SERVER, 4, 3, 2, 94, attributes, "external_processing.process")


def phase(name="process_request_headers", **attributes):
    return One(INTERNAL, 5, 4, 3, 9, attributes, f"external_processing.{name}")


def policy(name, *, answered=False, id_=6):
    attributes = {"policy.name": name, "policy.version": "v1", "policy.enabled": True,
                  **({"policy.short_circuit": True} if answered else {})}  # fmt: skip
    return One(INTERNAL, id_, 5, 4, 8, attributes, f"policy.request.{name}")


def trace(routers, engines):
    return decode_spans([span_request(*routers, resource=ROUTER), span_request(*engines, resource=ENGINE)])


FIRST = policy("cors", id_=7)


def test_a_call_is_one_event_with_what_both_processes_know():
    batch = trace([router(200), upstream(), EXT_PROC], [engine(), phase(), FIRST])
    assert dialects_of(batch) == ["wso2_api_platform"]
    expected = {
        "apiName": "Reading List",
        "apiVersion": "v1.0",
        "apiContext": "/reading-list/v1.0",
        "apiResourceTemplate": "/books/{id}",
        "apiMethod": "GET",
        "apiType": "HTTP",
        "destination": "books.internal",
        "correlationId": "r-1",
        "userIp": "192.0.2.7",
        "userAgentHeader": "curl/8",
        "requestSize": 3,
        "responseSize": 133,
        "proxyResponseCode": 200,
        "targetResponseCode": 200,
        "eventType": "response",
        "gatewayType": "WSO2_API_PLATFORM",
        "responseLatency": 100,
        "backendLatency": 70,
        "requestMediationLatency": 20,
        "responseMediationLatency": 10,
        "responseCacheHit": False,
        "requestUri": "http://gw.example/reading-list/v1.0/books/7?x=1",
    }
    assert given(event(batch), expected) == expected


@pytest.mark.parametrize(
    ("status", "name", "error"),
    [
        (401, "jwt-auth", ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        (401, "api-key-auth", ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        (403, "mcp-acl-list", ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        (403, "subscription-validation", ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        (400, "opaque-token-auth", ("AUTH", "OTHER", 900900)),
        (429, "advanced-ratelimit", ("THROTTLED", "OTHER", 900800)),
        (429, "llm-cost-based-ratelimit", ("THROTTLED", "OTHER", 900800)),
        (503, "token-based-ratelimit", ("THROTTLED", "OTHER", 900800)),
        (422, "aws-bedrock-guardrail", ("GUARDRAIL_FAULT", "GUARDRAIL_HIT", 900514)),
        (422, "semantic-prompt-guard", ("GUARDRAIL_FAULT", "GUARDRAIL_HIT", 900514)),
        (418, "respond", ("OTHER", "UNCLASSIFIED", 418)),
    ],
)
def test_the_policy_that_answered_tells_the_fault(status, name, error):
    engines = [engine("policy_denied", status), phase(), FIRST, policy(name, answered=True)]
    found = event(trace([router(status), EXT_PROC], engines))
    assert (found["eventType"], found["targetResponseCode"]) == ("fault", -1)
    assert (found["errorType"], found["errorMessage"], found["errorCode"]) == error
    assert (found["apiName"], found["errorCodeInferred"]) == ("Reading List", True)
    blocked = json.loads(found["customProperties"] or "{}")
    assert blocked == ({} if error[0] == "OTHER" else {"blocked_by": name})


@pytest.mark.parametrize(("name", "hit"), [("semantic-cache", True), ("redirect", False), ("cors", False)])
def test_an_answer_of_a_policy_that_is_no_error_is_a_response(name, hit):
    found = event(
        trace([router(200), EXT_PROC], [engine("policy_denied"), phase(), policy(name, answered=True)])
    )
    assert (found["eventType"], found["responseCacheHit"]) == ("response", hit)
    assert found["customProperties"] is None


@pytest.mark.parametrize(
    ("reason", "status", "error"),
    [
        ("policy_error", 500, ("OTHER", "UNCLASSIFIED")),
        ("payload_too_large", 413, ("OTHER", "UNCLASSIFIED")),
        ("no_policy_chain", 500, ("OTHER", "UNCLASSIFIED")),
        ("processing_failed", 500, ("OTHER", "UNCLASSIFIED")),
        ("resolution_failed", 404, ("OTHER", "RESOURCE_NOT_FOUND")),
    ],
)
def test_other_ends_in_the_policy_engine(reason, status, error):
    found = event(trace([router(status), EXT_PROC], [engine(reason, status), phase()]))
    assert (found["eventType"], found["errorType"], found["errorMessage"]) == ("fault", *error)


def test_a_status_that_a_policy_put_over_the_backends():
    found = event(
        trace([router(502), upstream(), EXT_PROC], [engine("policy_status_override", 502), phase()])
    )
    assert (found["eventType"], found["proxyResponseCode"], found["targetResponseCode"]) == (
        "fault",
        502,
        200,
    )


def test_an_error_of_the_backend_is_a_response():
    found = event(trace([router(500), upstream("500"), EXT_PROC], [engine(status=500), phase()]))
    assert (found["eventType"], found["targetResponseCode"], found["errorType"]) == ("response", 500, None)


def test_a_backend_that_cannot_be_reached_is_a_fault_of_the_router():
    found = event(
        trace(
            [router(503, response_flags="UF"), upstream("0", response_flags="UF"), EXT_PROC],
            [engine(status=503), phase()],
        )
    )
    assert (found["eventType"], found["errorType"], found["errorCode"]) == (
        "fault",
        "TARGET_CONNECTIVITY",
        101503,
    )


def test_a_route_that_is_not_found_never_reaches_the_policy_engine():
    lost = router(404, response_flags="NR")
    tags = {
        key: value for key, value in lost.attributes.items() if key not in {"http.route", "upstream_cluster"}
    }
    found = event(make_spans(One(SERVER, 1, 0, 0, 9, tags, "ingress"), resource=ROUTER))
    assert (found["eventType"], found["errorMessage"]) == ("fault", "RESOURCE_NOT_FOUND")
    assert (found["apiName"], found["apiResourceTemplate"]) == ("router", "/reading-list/v1.0/books/7")


def test_a_call_waits_for_the_policy_engines_spans_even_with_its_backends():
    mine = apim_event()
    first = mine.process_held(
        make_spans(router(200), upstream(), EXT_PROC, resource=ROUTER), Held({}, 0, ending=False)
    )
    assert (len(first.batch), first.due) == (0, 3_000_000_000)
    rest = make_spans(engine(), phase(), resource=ENGINE)
    last = mine.process_held(rest, Held(first.held, 1_000_000_000, ending=False))
    assert last.batch.frame.select("apiName", "backendLatency").rows() == [("Reading List", 70)]
    assert not last.held["calls"].height


def test_without_the_policy_engines_spans_the_router_tells_what_it_can():
    found = event(make_spans(router(200), upstream(), resource=ROUTER))
    expected = {"apiName": "cluster_http_backend", "apiResourceTemplate": "/reading-list/v1.0/books/{id}",
                "apiContext": "/reading-list", "apiVersion": "UNKNOWN"}  # fmt: skip
    assert given(found, expected) == expected


@pytest.mark.parametrize(
    ("resource", "attributes", "dialect"),
    [
        (ROUTER, TAGS, "wso2_api_platform"),
        ({"service.name": "envoy-gateway"}, {**TAGS, "peer.service": "x"}, "wso2_api_platform"),
        (ENGINE, {"api_name": "a", "terminal.reason": "upstream_response"}, "wso2_api_platform"),
        ({"service.name": "edge"}, TAGS, "envoy"),
        ({"service.name": "router"}, {"http.request.method": "GET"}, "semconv"),
        ({"service.name": "policy-engine"}, {"http.request.method": "GET"}, "semconv"),
    ],
)
def test_detection(resource, attributes, dialect):
    assert dialects_of(make_spans(One(attributes=attributes), resource=resource)) == [dialect]
