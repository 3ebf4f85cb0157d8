"""Spring Cloud Gateway, hand-written after the sources of Spring and the Java agent: no capture is known."""

from __future__ import annotations

import pytest

from otel_moesif.otlp.decode import decode_spans
from tests.dialects.otlp import (
    CLIENT,
    SERVER,
    One,
    apim_event,
    dialects_of,
    event,
    events,
    given,
    make_spans,
    span_request,
)

SCOPE = "org.springframework.boot"
RESOURCE = {"service.name": "edge", "deployment.environment": "test"}


def server(status="200", uri="UNKNOWN", path="/shop/items/7", id_=1, trace=1, **more):
    attributes = {
        "method": "GET",
        "uri": uri,
        "status": status,
        "outcome": "SUCCESS" if status == "200" else "UNKNOWN",
        "exception": "none",
        "http.url": path,
        **more,
    }
    return One(SERVER, id_, 0, 0, 100, attributes, name="http get", trace=trace)


def client(status="200", id_=2, start=10, end=60, trace=1, **more):
    attributes = {
        "spring.cloud.gateway.route.id": "shop",
        "spring.cloud.gateway.route.uri": "lb://stock",
        "http.method": "GET",
        "http.status_code": status,
        "http.uri": "http://api.example.com:8080/shop/items/7?full=1",
        **more,
    }
    return One(CLIENT, id_, 1, start, end, attributes, name="HTTP GET", trace=trace)


def spans(*specs):
    return make_spans(*specs, resource=RESOURCE, scope=SCOPE)


def test_every_field_that_micrometer_supplies():
    found = event(spans(client(), server()))
    expected = {
        "gatewayType": "SPRING_CLOUD_GATEWAY",
        "eventType": "response",
        "apiName": "shop",
        "apiId": "shop",
        "apiMethod": "GET",
        "apiResourceTemplate": "/shop/items/7",
        "apiContext": "/shop",
        "correlationId": f"{1:032x}",
        "destination": "lb://stock",
        "proxyResponseCode": 200,
        "targetResponseCode": 200,
        "responseLatency": 100,
        "backendLatency": 50,
        "requestMediationLatency": 10,
        "responseMediationLatency": 40,
        "regionId": "test",
        "requestUri": "http://api.example.com:8080/shop/items/7?full=1",
        "userAgent": "UNKNOWN",
        "userIp": "UNKNOWN",
        "apiVersion": "UNKNOWN",
    }
    assert given(found, expected) == expected


@pytest.mark.parametrize(
    ("uri", "path", "template"),
    [
        ("/shop/{id}", "/shop/7", "/shop/{id}"),
        ("root", "/", "/"),
        ("NOT_FOUND", "/shop/7", "/shop/7"),
        ("REDIRECTION", "/shop/7", "/shop/7"),
        ("UNKNOWN", "UNKNOWN", "/shop/items/7"),  # of the CLIENT span
    ],
)
def test_words_for_nothing_are_no_templates(uri, path, template):
    assert event(spans(client(), server("200", uri, path)))["apiResourceTemplate"] == template


def test_the_opentelemetry_convention_of_spring_framework_7_1():
    attributes = {
        "http.request.method": "GET",
        "http.response.status_code": "404",
        "http.route": "UNKNOWN",
        "url.scheme": "http",
        "url.path": "/shop/items/7",
        "error.type": "none",
        "outcome": "CLIENT_ERROR",
    }
    found = event(spans(client("404"), One(SERVER, attributes=attributes)))
    expected = {
        "apiName": "shop",
        "apiResourceTemplate": "/shop/items/7",
        "proxyResponseCode": 404,
        "targetResponseCode": 404,
        "eventType": "response",
    }
    assert given(found, expected) == expected
    attributes |= {"http.route": "/shop/items/{id}"}
    assert event(spans(client("404"), One(SERVER, attributes=attributes)))["apiResourceTemplate"] == (
        "/shop/items/{id}"
    )


def test_a_backend_that_did_not_answer():
    found = event(spans(client("UNKNOWN"), server("500", exception="ConnectException")))
    expected = {
        "eventType": "fault",
        "errorType": "TARGET_CONNECTIVITY",
        "errorMessage": "OTHER",
        "targetResponseCode": -1,
        "proxyResponseCode": 500,
    }
    assert given(found, expected) == expected


def test_a_caller_that_went_away():
    found = event(spans(client("200"), server("UNKNOWN")))
    assert (found["proxyResponseCode"], found["eventType"]) == (0, "response")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("401", ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        ("403", ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        ("404", ("OTHER", "RESOURCE_NOT_FOUND", 404)),
        ("429", ("THROTTLED", "OTHER", 900800)),
        ("503", ("TARGET_CONNECTIVITY", "OTHER", 101503)),
        ("504", ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT", 101504)),
    ],
)
def test_errors_without_a_backend_are_faults_once_the_gateway_was_seen_to_report_backends(status, error):
    other = (client(trace=2), server(trace=2))
    found = next(x for x in events(spans(*other, server(status, "NOT_FOUND"))) if x["traceId"] == f"{1:032x}")
    assert (found["eventType"], found["targetResponseCode"], found["apiName"]) == ("fault", -1, "edge")
    assert (found["errorType"], found["errorMessage"], found["errorCode"]) == error
    assert found["requestUri"] == "/shop/items/7"


def test_of_several_attempts_the_last_counts():
    found = event(spans(client("503", 2, 10, 20), client("200", 3, 25, 60), server()))
    assert (found["targetResponseCode"], found["backendLatency"]) == (200, 35)


def test_what_the_gateway_asks_for_itself_is_no_backend():
    introspection = One(CLIENT, 5, 1, 2, 95, {
        "client.name": "idp", "method": "POST", "uri": "/introspect", "status": "200", "outcome": "SUCCESS",
        "http.url": "http://idp/introspect",
    }, name="http post")  # fmt: skip
    found = event(spans(introspection, client(), server()))
    assert (found["destination"], found["backendLatency"]) == ("lb://stock", 50)


def agent(status=200, route="shop", **more):
    """The Java agent 2.x: stable conventions, the route's id as http.route."""
    attributes = {
        "http.request.method": "POST",
        "url.path": "/shop/items",
        "url.query": "dry=1",
        "url.scheme": "https",
        "server.address": "api.example.com",
        "client.address": "192.0.2.7",
        "network.peer.address": "10.0.0.9",
        "user_agent.original": "curl/8.5",
        "http.response.status_code": status,
        **({"http.route": route} if route else {}),
        **more,
    }
    backend = {
        "http.request.method": "POST",
        "url.full": "http://stock:8000/items?dry=1",
        "server.address": "stock",
        "server.port": 8000,
        "http.response.status_code": status,
    }
    call = One(SERVER, 1, 0, 0, 100, attributes, name=f"POST {route}")
    return make_spans(
        One(CLIENT, 2, 1, 10, 60, backend, name="POST"),
        call,
        resource=RESOURCE,
        scope="io.opentelemetry.netty-4.1",
    )


EXPERIMENTAL = {"spring-cloud-gateway.route.id": "shop", "spring-cloud-gateway.route.uri": "lb://stock"}


@pytest.mark.parametrize(
    ("batch", "options"),
    [(agent(**EXPERIMENTAL), {}), (agent(), {"gateway": "spring_cloud_gateway"})],
    ids=["experimental attributes", "chosen"],
)
def test_every_field_that_the_agent_supplies(batch, options):
    found = event(batch, **options)
    expected = {
        "gatewayType": "SPRING_CLOUD_GATEWAY",
        "eventType": "response",
        "apiName": "shop",
        "apiId": "shop",
        "apiMethod": "POST",
        "apiResourceTemplate": "/shop/items",
        "apiContext": "/shop",
        "destination": "http://stock:8000/items?dry=1",
        "proxyResponseCode": 200,
        "targetResponseCode": 200,
        "backendLatency": 50,
        "userAgentHeader": "curl/8.5",
        "userIp": "192.0.2.7",
        "requestUri": "https://api.example.com/shop/items?dry=1",
    }
    assert given(found, expected) == expected


def test_the_agent_leaves_out_ids_that_are_uuids():
    found = event(agent(route=None), gateway="spring_cloud_gateway")
    assert (found["apiName"], found["apiId"]) == ("edge", "UNKNOWN")


def test_detection():
    assert dialects_of(spans(client(), server())) == ["spring_cloud_gateway"]
    assert dialects_of(agent(**EXPERIMENTAL)) == ["spring_cloud_gateway"]
    assert dialects_of(agent()) == ["semconv"]  # nothing tells it from another Java program
    assert dialects_of(spans(server())) == ["semconv"]  # nor this from another Spring application


def test_before_it_is_known_status_and_method_are_read_all_the_same():
    found = event(spans(server("404")))
    assert given(found, {"gatewayType": 0, "proxyResponseCode": 0, "apiMethod": 0}) == {
        "gatewayType": "OTEL",
        "proxyResponseCode": 404,
        "apiMethod": "GET",
    }
    mine = apim_event()
    mine.process(spans(server("404")))
    assert mine.process(spans(client(), server())).frame["gatewayType"].to_list() == ["SPRING_CLOUD_GATEWAY"]


def test_two_senders_in_one_batch_keep_their_dialects():
    request = span_request(server("404", id_=7, trace=7), resource={"service.name": "app"}, scope=SCOPE)
    both = decode_spans([span_request(client(), server(), resource=RESOURCE, scope=SCOPE), request])
    assert {x["apiName"]: x["gatewayType"] for x in events(both)} == {
        "shop": "SPRING_CLOUD_GATEWAY",
        "app": "OTEL",
    }
