"""KrakenD, hand-written after krakend-otel's source: no captured payload is known."""

from __future__ import annotations

import pytest

from tests.dialects.otlp import CLIENT, INTERNAL, SERVER, One, dialects_of, event, events, given, make_spans

SCOPE = "io.krakend.krakend-otel"
RESOURCE = {"service.name": "shop-gateway", "service.version": "2.7", "deployment.environment": "test"}
OK, ERROR = 1, 2


def server(status=200, route="/shop/{id}", **more):
    """KrakenD sets Ok also for 5xx."""
    attributes = {
        "krakend.stage": "global",
        "url.full": "/shop/7?full=1",
        "server.address": "api.example.com:8080",
        "http.request.method": "GET",
        "http.request.body.size": 12,
        "user_agent.original": "curl/8.5",
        "client.address": "192.0.2.7:49152",
        "http.route": route,
        "http.response.status_code": status,
        "http.response.body.size": 345,
        **more,
    }
    return One(SERVER, 1, 0, 0, 100, attributes, name="/shop/7", status=OK)


def between():
    proxy = {"krakend.stage": "proxy", "http.response.status_code": 200, "complete": True}
    return One(INTERNAL, 2, 1, 2, 98, proxy, name="/shop/{id}")


def backend(id_, start, end, status=200, host="stock", **more):
    """The stage span and, below it, the request."""
    stage = {"krakend.stage": "backend", "http.response.status_code": status or 500, "complete": bool(status)}
    attributes = {
        "krakend.stage": "backend-request",
        "krakend.endpoint.route": "/shop/{id}",
        "http.route": "/items/{id}",
        "http.request.method": "GET",
        "url.full": f"http://{host}:8000/items/7",
        "server.address": f"{host}:8000",
        "http.request.body.size": 0,
        **({"http.response.status_code": status, "response-duration": 0.01} if status else {}),
        **more,
    }
    return [
        One(INTERNAL, id_ + 100, 2, start - 1, end + 1, stage, name="/items/{id}"),
        One(
            CLIENT, id_, id_ + 100, start, end, attributes, name="/items/{id}", status=OK if status else ERROR
        ),
    ]


def spans(*specs):
    return make_spans(*specs, resource=RESOURCE, scope=SCOPE)


def test_every_field_that_krakend_supplies():
    found = event(spans(*backend(3, 10, 60), between(), server()))
    expected = {
        "gatewayType": "KRAKEND",
        "eventType": "response",
        "apiName": "shop-gateway",
        "apiMethod": "GET",
        "apiResourceTemplate": "/shop/{id}",
        "apiContext": "/shop",
        "apiType": "HTTP",
        "correlationId": f"{1:032x}",
        "destination": "http://stock:8000/items/7",
        "proxyResponseCode": 200,
        "targetResponseCode": 200,
        "responseLatency": 100,
        "backendLatency": 50,
        "requestMediationLatency": 10,
        "responseMediationLatency": 40,
        "userAgentHeader": "curl/8.5",
        "userIp": "192.0.2.7",
        "regionId": "test",
        "requestSize": 12,
        "responseSize": 345,
        "requestUri": "http://api.example.com:8080/shop/7?full=1",
        "apiId": "UNKNOWN",
        "apiVersion": "UNKNOWN",
    }
    assert given(found, expected) == expected


def test_of_backends_side_by_side_the_longest_gives_the_latency_and_the_worst_the_status():
    both = [*backend(3, 10, 30, 404, "prices"), *backend(4, 11, 81, 200)]
    found = event(spans(*both, between(), server(500)))
    expected = {
        "eventType": "response",  # a backend's error, which KrakenD shows as 500
        "backendLatency": 70,
        "destination": "http://stock:8000/items/7",
        "targetResponseCode": 404,
        "proxyResponseCode": 500,
    }
    assert given(found, expected) == expected


def test_an_answer_from_some_of_the_backends_is_a_response():
    found = event(spans(*backend(3, 10, 30, None), *backend(4, 11, 81, 200), between(), server(200)))
    assert (found["eventType"], found["proxyResponseCode"], found["backendLatency"]) == ("response", 200, 70)
    assert found["targetResponseCode"] == -1  # the worst: one was not reached


def test_one_backend_that_cannot_be_reached_makes_an_error_a_fault():
    found = event(spans(*backend(3, 10, 30, None), *backend(4, 11, 81, 200), between(), server(500)))
    expected = {
        "eventType": "fault",
        "errorType": "TARGET_CONNECTIVITY",
        "errorMessage": "OTHER",
        "errorCode": 101503,
        "errorCodeInferred": True,
    }
    assert given(found, expected) == expected


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        (403, ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        (429, ("THROTTLED", "OTHER", 900800)),
        (503, ("TARGET_CONNECTIVITY", "OTHER", 101503)),
        (500, ("OTHER", "UNCLASSIFIED", 500)),
    ],
)
def test_errors_without_a_backend_are_faults_once_the_gateway_was_seen_to_report_backends(status, error):
    other = One(CLIENT, 9, 8, 0, 1, {"krakend.stage": "backend-request", "url.full": "http://x/"}, trace=2)
    (found,) = events(spans(other, server(status)))
    assert found["eventType"] == "fault"
    assert (found["errorType"], found["errorMessage"], found["errorCode"]) == error
    assert found["targetResponseCode"] == -1


def test_an_error_without_backend_spans_proves_nothing_where_they_are_switched_off():
    found = event(spans(between(), server(404)))
    assert (found["eventType"], found["targetResponseCode"]) == ("response", 404)


def test_a_path_without_endpoint_is_a_fault_and_its_phrase_no_template():
    found = event(spans(server(404, "404 Not Found")))
    expected = {
        "eventType": "fault",
        "errorType": "OTHER",
        "errorMessage": "RESOURCE_NOT_FOUND",
        "errorCode": 404,
        "apiResourceTemplate": "/shop/7",
        "apiContext": "/shop",
    }
    assert given(found, expected) == expected


def test_the_status_of_the_span_does_not_matter():
    found = event(spans(*backend(3, 10, 60, 503), between(), server(503)))
    assert (found["eventType"], found["targetResponseCode"]) == ("response", 503)


def test_a_websocket():
    found = event(spans(server(200, "Upgraded Connection", **{"http.connection.hijacked": True})))
    assert (found["apiType"], found["eventType"], found["apiResourceTemplate"]) == (
        "WS",
        "response",
        "/shop/7",
    )


def test_behind_a_trusted_proxy_the_address_has_no_port():
    found = event(spans(server(200, **{"client.address": "2001:db8::7"})))
    assert found["userIp"] == "2001:db8::7"
    assert event(spans(server(200, **{"client.address": "[2001:db8::7]:443"})))["userIp"] == "2001:db8::7"


def test_requests_of_its_own_are_no_backends():
    keys = One(CLIENT, 5, 1, 5, 20, {"url.full": "http://idp/keys", "http.response.status_code": 200})
    found = event(spans(keys, *backend(3, 30, 60), between(), server()))
    assert found["backendLatency"] == 30
    found = event(spans(keys, server(401)))
    assert found["destination"] == "UNKNOWN"


def test_captured_headers_are_lists_and_secrets_are_left_out():
    found = event(spans(server(200, **{
        "http.request.header.accept": ["text/html", "*/*"],
        "http.request.header.authorization": ["Bearer s3cret"],
        "http.response.header.content-type": ["application/json"],
    })))  # fmt: skip
    assert found["requestHeaders"] == [{"key": "accept", "value": "text/html, */*"}]
    assert found["responseContentType"] == "application/json"


def test_detection():
    assert dialects_of(spans(server())) == ["krakend"]
    assert dialects_of(make_spans(server())) == ["krakend"]  # another scope, by its stage
    plain = One(SERVER, 1, attributes={"http.request.method": "GET", "url.full": "/x", "http.route": "/x"})
    assert dialects_of(make_spans(plain, scope="go.opentelemetry.io/contrib")) == ["semconv"]
