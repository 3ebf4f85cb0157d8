"""Envoy and Envoy Gateway: a real capture, the configured log format, and hand-written cases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.dialects.otlp import (
    CLIENT,
    SERVER,
    One,
    dialects_of,
    event,
    given,
    load_spans,
    make_spans,
)

ENVOY = {"service.name": "edge", "telemetry.sdk.name": "envoy"}


def ingress(status="200", flags="-", kind=SERVER, **more):
    """A downstream span, hand-written after what Envoy 1.40 sends; None leaves an attribute out."""
    attributes = {
        "guid:x-request-id": "r-1",
        "http.url": "http://shop.example/orders/7?a=b",
        "http.method": "GET",
        "user_agent": "-",
        "peer.address": "192.0.2.7",
        "component": "proxy",
        "upstream_cluster": "orders",
        "upstream_cluster.name": "orders",
        "http.status_code": status,
        "response_flags": flags,
        **more,
    }
    attributes = {key.replace("__", "."): value for key, value in attributes.items() if value is not None}
    return One(kind, attributes=attributes, name="ingress" if kind == SERVER else "egress shop.example")


def router(status="200", start=10, end=90, id_=2, flags="-", **more):
    attributes = {
        "upstream_address": "10.0.0.1:80",
        "peer.address": "10.0.0.1:80",
        "component": "proxy",
        "upstream_cluster": "orders",
        "http.status_code": status,
        "response_flags": flags,
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return One(CLIENT, id_, 1, start, end, attributes, "router orders egress")


def of(*specs, **options):
    return event(make_spans(*specs, resource=ENVOY, scope="envoy"), **options)


LOST, LATE = ("TARGET_CONNECTIVITY", "OTHER"), ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT")
NO_CLUSTER = {"upstream_cluster": None, "upstream_cluster.name": None}


def test_the_real_span_of_kgateway_gives_every_field_that_envoy_supplies():
    found = event(load_spans("gateways/kgateway-envoy/envoy-1.34.1-kgateway.traces.json"))
    expected = {
        "gatewayType": "ENVOY",
        "eventType": "response",
        "apiName": "kube_httpbin_httpbin_8000",
        "apiMethod": "GET",
        "apiResourceTemplate": "/status/200",
        "apiContext": "/status",
        "apiType": "HTTP",
        "correlationId": "b5fa5226-ad2f-90a1-bd3a-e02d834301cd",
        "proxyResponseCode": 200,
        "targetResponseCode": 200,
        "responseCacheHit": False,
        "userAgentHeader": "curl/7.83.1-DEV",
        "userIp": "10.244.0.21",
        "regionId": "default",  # zone is the empty text
        "responseLatency": 22,
        "responseSize": 0,
        "requestSize": 0,
        "requestUri": "http://www.example.com/status/200",
        "traceId": "3771968e2d941a83f41517dd052fbfdb",
        "spanId": "8d10646806636467",
        "errorType": None,
    }
    assert given(found, expected) == expected


@pytest.mark.parametrize(
    ("specs", "kind", "codes", "error"),
    [
        ([ingress(), router()], "response", (200, 200), None),
        ([ingress("404"), router("404")], "response", (404, 404), None),
        ([ingress("401"), router("401")], "response", (401, 401), None),
        ([ingress("301", **NO_CLUSTER)], "response", (301, -1), None),
        ([ingress("200", **NO_CLUSTER)], "response", (200, -1), None),
        ([ingress("401", **NO_CLUSTER)], "fault", (401, -1), ("AUTH", "AUTHENTICATION_FAILURE")),
        ([ingress("403", "UAEX")], "fault", (403, -1), ("AUTH", "AUTHORIZATION_FAILURE")),
        ([ingress("401", "UAEX")], "fault", (401, -1), ("AUTH", "AUTHENTICATION_FAILURE")),
        ([ingress("429", "RL")], "fault", (429, -1), ("THROTTLED", "OTHER")),
        ([ingress("503", "OM")], "fault", (503, -1), ("THROTTLED", "OTHER")),
        ([ingress("404", "NR", **NO_CLUSTER)], "fault", (404, -1), ("OTHER", "RESOURCE_NOT_FOUND")),
        ([ingress("503", "UH")], "fault", (503, -1), ("TARGET_CONNECTIVITY", "CONNECTION_SUSPENDED")),
        ([ingress("503", "UF,URX"), router("0", flags="UF")], "fault", (503, -1), LOST),
        ([ingress("504", "UT"), router("0")], "fault", (504, -1), LATE),
        ([ingress("504", "DI,UT"), router("0")], "fault", (504, -1), LATE),
        ([ingress("503", "DI,UH")], "fault", (503, -1), ("TARGET_CONNECTIVITY", "CONNECTION_SUSPENDED")),
        ([ingress("503", "FI")], "fault", (503, -1), LOST),
        ([ingress("503", "URX"), router("503", 5, 20, 2), router("503", 30, 60, 3)], "response", (503, 503),
         None),
        ([ingress("0", "DC"), router("0")], "fault", (0, -1), ("OTHER", "UNCLASSIFIED")),
        ([ingress("101"), router("101")], "response", (101, 101), None),
        ([ingress("200", "DC"), router("200")], "response", (200, 200), None),
        # gRPC: HTTP 200 whatever became of the call
        ([ingress(grpc__status_code="0"), router(grpc__status_code="0")], "response", (200, 200), None),
        ([ingress(grpc__status_code="5"), router(grpc__status_code="5")], "response", (404, 404), None),
        ([ingress(flags="UF", grpc__status_code="14"), router("0", flags="UF")], "fault", (503, -1),
         LOST),
        ([ingress(flags="RL", grpc__status_code="14")], "fault", (503, -1), ("THROTTLED", "OTHER")),
        ([ingress(flags="UAEX", grpc__status_code="7")], "fault", (403, -1),
         ("AUTH", "AUTHORIZATION_FAILURE")),
        ([ingress(flags="NR", grpc__status_code="12", **NO_CLUSTER)], "fault", (501, -1),
         ("OTHER", "RESOURCE_NOT_FOUND")),
        ([ingress(grpc__status_code="99"), router(grpc__status_code="99")], "response", (500, 500), None),
    ],
)  # fmt: skip
def test_the_outcome_of_hand_written_calls(specs, kind, codes, error):
    found = of(*specs)
    assert found["eventType"] == kind
    assert (found["proxyResponseCode"], found["targetResponseCode"]) == codes
    assert (found["errorType"], found["errorMessage"]) == (error or (None, None))


def test_latencies_and_destination_are_those_of_the_last_attempt():
    last = replace(
        router("200", 40, 95, 3), attributes={**router().attributes, "upstream_address": "10.0.0.2:80"}
    )
    found = of(ingress(), router("503", 5, 30), last)
    parts = ("responseLatency", "backendLatency", "requestMediationLatency", "responseMediationLatency")
    assert [found[part] for part in parts] == [100, 55, 40, 5]
    assert (found["destination"], found["targetResponseCode"]) == ("10.0.0.2:80", 200)


def test_the_gateways_own_calls_are_neither_calls_nor_the_backend():
    check = replace(router("403"), name="async authz egress")
    found = of(ingress("403", "UAEX"), check)
    assert (found["eventType"], found["targetResponseCode"]) == ("fault", -1)


def test_without_upstream_spans_an_egress_span_is_the_call():
    found = of(ingress(kind=CLIENT))
    assert (found["apiMethod"], found["eventType"], found["targetResponseCode"]) == ("GET", "response", 200)


def test_with_upstream_spans_an_egress_call_has_its_backend():
    found = of(replace(ingress("503"), name="egress shop.example"), router("503"))
    assert (found["eventType"], found["backendLatency"]) == ("response", 80)


@pytest.mark.parametrize("both", [True, False], ids=["both names", "stable names only"])
def test_opt_in_stable_names_are_read_although_they_are_strings(both):
    names = {
        "guid:x-request-id": "r-1",
        "url.full": "http://shop.example/orders/7?a=b",
        "http.request.method": "GET",
        "http.response.status_code": "404",
        "http.request.body.size": "3",
        "http.response.body.size": "18",
        "network.peer.address": "192.0.2.7",
        "user_agent.original": "curl/8",
    }
    legacy = (
        ingress("404", user_agent="curl/8", request_size="3", response_size="18").attributes if both else {}
    )
    backend = {"http.response.status_code": "404", "network.peer.address": "10.0.0.1:80"}
    call = One(SERVER, attributes={**legacy, **names}, name="ingress")
    found = of(call, One(CLIENT, 2, 1, 10, 90, backend, "router orders egress"))
    expected = {
        "eventType": "response",
        "apiMethod": "GET",
        "apiResourceTemplate": "/orders/7",
        "proxyResponseCode": 404,
        "targetResponseCode": 404,
        "destination": "10.0.0.1:80",
        "userIp": "192.0.2.7",
        "userAgentHeader": "curl/8",
        "requestSize": 3,
        "responseSize": 18,
    }
    assert given(found, expected) == expected
    # Without a backend span nobody knows who refused: where legacy tags are off, no cluster says nothing.
    assert of(call)["eventType"] == "response"


def test_custom_tags_say_what_envoy_does_not():
    found = of(
        ingress(
            **{
                "http.route": "/orders/{id}",
                "user.name": "alice",
                "http.request.header.x-forwarded-for": "203.0.113.9, 10.0.0.9",
                "http.request.header.authorization": "Bearer s3cret",
                "http.response.header.content-type": "application/json",
                "grpc.path": None,
            }
        )
    )
    expected = {
        "apiResourceTemplate": "/orders/{id}",
        "userName": "alice",
        "userIp": "203.0.113.9",
        "responseContentType": "application/json",
    }
    assert given(found, expected) == expected
    assert "s3cret" not in str(found)


def test_an_answer_from_the_cache_has_no_backend():
    found = of(ingress(flags="RFCF"))
    assert (found["responseCacheHit"], found["targetResponseCode"]) == (True, -1)


def test_the_kind_of_api_is_told_by_what_was_spoken():
    assert of(ingress("101"))["apiType"] == "WS"
    assert of(ingress(grpc__path="/pkg.Svc/Get"))["apiType"] == "GRPC"


def test_envoy_gateways_clusters_are_named_after_their_route():
    named = {"upstream_cluster.name": "httproute/default/orders/rule/0"}
    assert of(ingress(**named))["apiName"] == "default/orders"


# Detection.


@pytest.mark.parametrize(
    ("resource", "scope", "attributes", "dialect"),
    [
        ({}, "envoy", {}, "envoy"),
        ({"telemetry.sdk.name": "envoy"}, "", {}, "envoy"),
        ({}, "", {"component": "proxy", "response_flags": "-"}, "envoy"),
        ({}, "", {"component": "proxy"}, "semconv"),  # opentracing's word for any proxy
        ({"service.name": "envoy"}, "", {"http.method": "GET"}, "semconv"),
    ],
)
def test_spans_are_known_by_scope_sdk_or_keys(resource, scope, attributes, dialect):
    assert dialects_of(make_spans(One(attributes=attributes), resource=resource, scope=scope)) == [dialect]


def test_the_dialect_can_be_configured():
    assert of(ingress(), gateway="envoy_gateway")["gatewayType"] == "ENVOY_GATEWAY"


def test_without_a_request_id_the_trace_names_the_call():
    assert of(ingress(**{"guid:x-request-id": None}))["correlationId"] == f"{1:032x}"


def test_an_attempt_is_known_by_its_address_when_its_name_is_configured():
    found = of(ingress("404"), replace(router("404"), name="to orders"))
    assert (found["targetResponseCode"], found["backendLatency"]) == (404, 80)
    assert found["destination"] == "10.0.0.1:80"
