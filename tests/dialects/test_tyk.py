"""Tyk: hand-written cases; the scenarios of its own tests are in test_tyk_scenarios.py."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from tests.dialects.otlp import (
    CLIENT,
    INTERNAL,
    SERVER,
    One,
    dialects_of,
    event,
    given,
    make_spans,
)

TYK = {"service.name": "tyk", "service.version": "v5.15.0", "tyk.gw.id": "gw-1", "tyk.gw.dataplane": False}
OTELHTTP = "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
ERROR = 2


def of(*specs, messages=None, resource=TYK):
    """The event of these spans; ``messages`` are span statuses' messages by the span's id."""
    batch = make_spans(*specs, resource=resource, scope=OTELHTTP)
    told = [(messages or {}).get(spec.id, "") for spec in specs]
    frame = batch.frame.with_columns(pl.Series("status_message", told, dtype=pl.String))
    return event(replace(batch, frame=frame))


def server(status=200, **more):
    attributes = {
        "http.request.method": "GET",
        "url.scheme": "https",
        "url.path": "/orders/7",
        "server.address": "shop.example",
        "client.address": "192.0.2.7",
        "network.peer.address": "10.0.0.9",
        "user_agent.original": "curl/8",
        "http.request.body.size": -1,  # r.ContentLength of a body of unknown length
        "http.response.body.size": 18,
        "http.response.status_code": status,
        "tyk.api.id": "f00d",
        "tyk.api.name": "Orders",
        "tyk.api.orgid": "acme",
        "tyk.api.path": "/orders/",
        "tyk.original_path": "/orders/7",
        **more,
    }
    return One(SERVER, 1, 0, 0, 100, attributes, "GET /orders/7")


def middleware(id_, parent, name, status=0, **attributes):
    return One(INTERNAL, id_, parent, id_, 95, attributes, name, status)


def client(status=200, parent=1, id_=9, start=20, end=90):
    attributes = {"http.request.method": "GET", "url.full": "http://orders:80/7", "server.address": "orders"}
    attributes |= {"http.response.status_code": status} if status else {"error.type": "*net.OpError"}
    return One(CLIENT, id_, parent, start, end, attributes, "HTTP GET", 0 if status else ERROR)


def test_a_call_without_details_gives_every_field():
    call = server(
        **{"tyk.api.version": "v2", "tyk.api.apikey.alias": "shop-app", "tyk.api.oauthid": "client-7"}
    )
    found = of(call, client())
    expected = {
        "gatewayType": "TYK",
        "eventType": "response",
        "apiId": "f00d",
        "apiName": "Orders",
        "apiVersion": "v2",
        "apiCreatorTenantDomain": "acme",
        "apiMethod": "GET",
        "apiContext": "/orders",
        "apiResourceTemplate": "/7",
        "apiType": "HTTP",
        "applicationName": "shop-app",
        "applicationId": "client-7",
        "correlationId": found["traceId"],
        "destination": "http://orders:80/7",
        "proxyResponseCode": 200,
        "targetResponseCode": 200,
        "responseLatency": 100,
        "backendLatency": 70,
        "requestMediationLatency": 20,
        "responseMediationLatency": 10,
        "userAgentHeader": "curl/8",
        "userIp": "192.0.2.7",
        "requestSize": None,
        "responseSize": 18,
        "requestUri": "https://shop.example/orders/7",
    }
    assert given(found, expected) == expected


def test_a_call_in_detail_gives_the_same():
    chain = [
        middleware(2, 1, "VersionCheck", **{"tyk.api.version": "v2"}),
        middleware(3, 2, "AuthKey", **{"tyk.api.apikey.alias": "shop-app", "tyk.api.apikey": "5ec2e7"}),
        middleware(4, 3, "RateCheckMW"),
    ]
    found = of(server(404), *chain, client(404, parent=4))
    expected = {
        "eventType": "response",
        "apiVersion": "v2",
        "applicationName": "shop-app",
        "targetResponseCode": 404,
        "backendLatency": 70,
    }
    assert given(found, expected) == expected
    assert "5ec2e7" not in str(found)


MESSAGES = [
    (429, "API Rate limit exceeded", "THROTTLED", "API_LEVEL_LIMIT_EXCEEDED", 900800),
    (429, "Rate limit exceeded", "THROTTLED", "APPLICATION_LEVEL_LIMIT_EXCEEDED", 900803),
    (403, "Quota exceeded", "THROTTLED", "SUBSCRIPTION_LIMIT_EXCEEDED", 900804),
    (403, "This organisation rate limit has been exceeded, please", "THROTTLED", "OTHER", 900800),
    (401, "Authorization field missing", "AUTH", "AUTHENTICATION_FAILURE", 900901),
    (403, "Key not authorised", "AUTH", "AUTHENTICATION_FAILURE", 900901),
    (401, "Key has expired, please renew", "AUTH", "AUTHENTICATION_FAILURE", 900901),
    (403, "Key is inactive, please renew", "AUTH", "SUBSCRIPTION_VALIDATION_FAILURE", 900909),
    (403, "Access to this API has been disallowed", "AUTH", "AUTHORIZATION_FAILURE", 900910),
    (403, "Requested endpoint is forbidden", "AUTH", "AUTHORIZATION_FAILURE", 900910),
    (403, "Version information not found", "OTHER", "RESOURCE_NOT_FOUND", 404),
    (404, "This API version does not seem to exist", "OTHER", "RESOURCE_NOT_FOUND", 404),
    (403, "a plugin's own words", "AUTH", "AUTHORIZATION_FAILURE", 900910),
]  # fmt: skip


@pytest.mark.parametrize(("status", "message", "kind", "reason", "code"), MESSAGES)
@pytest.mark.parametrize("detailed", [True, False], ids=["detailed", "not detailed"])
def test_the_message_of_what_failed_tells_the_error_type(status, message, kind, reason, code, detailed):
    if detailed:
        failed = middleware(3, 2, "SomeMW", ERROR)
        found = of(server(status), middleware(2, 1, "VersionCheck"), failed, messages={3: message})
    else:
        found = of(replace(server(status), status=ERROR), messages={1: message})
    given_ = (found["eventType"], found["errorType"], found["errorMessage"])
    assert given_ == ("fault", kind, reason)
    assert found["targetResponseCode"] == -1
    # The code belongs to type and sub type, or is the status where WSO2 has none.
    assert found["errorCode"] in {code, status}


@pytest.mark.parametrize(
    ("status", "backend", "kind", "target", "error"),
    [
        (500, 500, "response", 500, None),
        (500, None, "fault", -1, "TARGET_CONNECTIVITY"),
        (504, None, "fault", -1, "TARGET_CONNECTIVITY"),
        (404, "none", "fault", -1, "OTHER"),
        (200, "none", "response", -1, None),  # from the cache, or a mock
        (301, "none", "response", -1, None),
    ],
)
def test_who_answered(status, backend, kind, target, error):
    found = of(server(status), *([] if backend == "none" else [client(backend)]))
    assert (found["eventType"], found["targetResponseCode"], found["errorType"]) == (kind, target, error)


def test_the_last_of_several_attempts_counts():
    found = of(server(), client(503, id_=8, start=10, end=30), client(200, start=40, end=90))
    assert (found["targetResponseCode"], found["backendLatency"]) == (200, 50)


def test_looping_gives_one_call_with_the_inner_version():
    chain = [
        middleware(2, 1, "VersionCheck", **{"tyk.api.version": "Non Versioned"}),
        middleware(3, 2, "VersionCheck", **{"tyk.api.version": "v3"}),
    ]
    assert of(server(), *chain, client(parent=3))["apiVersion"] == "v3"
    assert of(server(**{"tyk.api.version": "Non Versioned"}), client())["apiVersion"] == "UNKNOWN"


@pytest.mark.parametrize(
    ("version", "shipped"),
    [
        ("v5.3.1", False),
        ("v5.2.0", False),
        (None, False),
        ("v5.3.2", True),
        ("5.8.1", True),
        ("v5.15.0", True),
        ("v6.0.0", True),
    ],
)
def test_an_oauth_id_that_may_be_a_key_is_not_shipped(version, shipped):
    resource = {**TYK, "service.version": version} if version else {"tyk.gw.id": "gw-1"}
    found = of(server(**{"tyk.api.oauthid": "0a1b2c", "tyk.api.apikey": "5ec2e7"}), resource=resource)
    assert found["applicationId"] == ("0a1b2c" if shipped else "UNKNOWN")
    assert "5ec2e7" not in str(found)


@pytest.mark.parametrize(
    ("listen", "path", "context", "template"),
    [
        ("/orders/", "/orders/7", "/orders", "/7"),
        ("/orders/", "/orders/", "/orders", "/"),
        ("/orders", "/orders", "/orders", "/"),
        ("/", "/orders/7", "/", "/orders/7"),
        ("/orders", "/orders-v2/7", "/orders", "/orders-v2/7"),
        ("/{tenant}/orders/", "/acme/orders/7", "/{tenant}/orders", "/acme/orders/7"),
    ],
)
def test_the_resource_is_the_path_below_the_listen_path(listen, path, context, template):
    found = of(server(**{"tyk.api.path": listen, "tyk.original_path": path}), client())
    assert (found["apiContext"], found["apiResourceTemplate"]) == (context, template)


def test_mcp_and_graphql_are_told_by_any_of_the_spans():
    assert of(server(**{"mcp.method.name": "tools/call"}), client())["apiType"] == "MCP"
    engine = middleware(2, 1, "GraphqlEngine", **{"graphql.operation.type": "query"})
    assert of(server(), engine, client(parent=2))["apiType"] == "GRAPHQL"


def test_tyk_is_known_by_its_resource_or_its_apis():
    call = server()
    assert dialects_of(make_spans(call, resource=TYK, scope=OTELHTTP)) == ["tyk"]
    assert dialects_of(make_spans(call, resource={"service.name": "mine"}, scope=OTELHTTP)) == ["tyk"]
    plain = One(attributes={"http.request.method": "GET"})
    assert dialects_of(make_spans(plain, resource=TYK, scope="tyk")) == ["tyk"]
    assert dialects_of(make_spans(plain, resource={"service.name": "tyk"}, scope=OTELHTTP)) == ["semconv"]
