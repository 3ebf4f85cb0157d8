"""Gravitee, hand-written after its source and its error key reference: no captured payload is known."""

from __future__ import annotations

import pytest

from tests.dialects.otlp import CLIENT, INTERNAL, SERVER, One, dialects_of, event, given, make_spans

SCOPE = "io.gravitee.opentelemetry.http"
GATEWAY = {"service.name": "gio-apim-gateway", "service.version": "4.13.0", "hostname": "gw-1"}
API = {
    **GATEWAY,
    "gravitee.module": "apim",
    "gravitee.api.id": "0a6c2bb8",
    "gravitee.api.name": "Shop",
    "gravitee.api.type": "API_V4",
    "gravitee.org.id": "DEFAULT",
    "gravitee.env.id": "TEST",
}
ALWAYS = {
    "client.address": "192.0.2.7",
    "http.request.body.size": 12,
    "http.response.body.size": 345,
    "gravitee.request.id": "req-1",
    "gravitee.transaction.id": "tx-1",
    "user_agent.original": "curl/8.5",
}
LEGACY = {
    "http.method": "GET",
    "http.target": "/shop/items/7?full=1",
    "http.scheme": "https",
    "http.route": "/shop/",
    "net.host.name": "api.example.com",
    "net.host.port": 8443,
    "net.sock.peer.addr": "10.0.0.9",
    "net.sock.peer.port": 51000,
}
STABLE = {
    "http.request.method": "GET",
    "url.path": "/shop/items/7",
    "url.query": "full=1",
    "url.scheme": "https",
    "http.route": "/shop/",
    "server.address": "api.example.com",
    "server.port": 8443,
    "network.peer.address": "10.0.0.9",
}


def server(status=200, names=LEGACY, **more):
    code = "http.status_code" if names is LEGACY else "http.response.status_code"
    return One(SERVER, 1, 0, 0, 100, {**names, **ALWAYS, code: status, **more}, name="GET /shop/")


def policy(name="policy-jwt", failure=None, status=None, id_=3, parent=2):
    attributes = {"gravitee.policy": name, "gravitee.execution.phase": "request"}
    if failure:
        attributes |= {
            "gravitee.execution-failure.key": failure,
            "gravitee.execution-failure.content-type": "text/plain",
            **({"gravitee.execution-failure.status-code": str(status)} if status else {}),
        }
    return One(INTERNAL, id_, parent, 2, 8, attributes, name=f"REQUEST {name}")


PHASE = One(INTERNAL, 2, 1, 1, 99, {}, name="Request phase")
INVOKER = One(INTERNAL, 4, 2, 9, 61, {"gravitee.endpoint.id": "stock"}, name="http-proxy")


def client(status=200, names=LEGACY, id_=5, parent=4, start=10, end=60, url="http://stock:8000/items/7"):
    legacy = names is LEGACY
    attributes = {
        "http.url" if legacy else "url.full": url,
        "http.method" if legacy else "http.request.method": "GET",
    }
    if status:
        attributes["http.status_code" if legacy else "http.response.status_code"] = status
    return One(CLIENT, id_, parent, start, end, attributes, name="GET", status=0 if status else 2)


def spans(*specs, resource=API):
    return make_spans(*specs, resource=resource, scope=SCOPE)


@pytest.mark.parametrize("names", [LEGACY, STABLE], ids=["legacy", "stable"])
def test_every_field_that_gravitee_supplies(names):
    found = event(spans(policy(), client(200, names), INVOKER, PHASE, server(200, names)))
    expected = {
        "gatewayType": "GRAVITEE",
        "eventType": "response",
        "apiName": "Shop",
        "apiId": "0a6c2bb8",
        "apiCreatorTenantDomain": "DEFAULT",
        "apiMethod": "GET",
        "apiResourceTemplate": "/shop/items/7",
        "apiContext": "/shop",
        "apiType": "HTTP",
        "correlationId": "req-1",
        "destination": "http://stock:8000/items/7",
        "proxyResponseCode": 200,
        "targetResponseCode": 200,
        "responseLatency": 100,
        "backendLatency": 50,
        "requestMediationLatency": 10,
        "responseMediationLatency": 40,
        "userAgentHeader": "curl/8.5",
        "userIp": "192.0.2.7",
        "requestSize": 12,
        "responseSize": 345,
        "requestUri": "https://api.example.com:8443/shop/items/7?full=1",
        "apiVersion": "UNKNOWN",
        "applicationName": "UNKNOWN",
        "regionId": "default",
    }
    assert given(found, expected) == expected


@pytest.mark.parametrize(
    ("status", "key", "error"),
    [
        (401, "API_KEY_MISSING", ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        (401, "JWT_INVALID_TOKEN", ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        (401, "GATEWAY_PLAN_UNRESOLVABLE", ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        (401, "OAUTH2_INVALID_ACCESS_TOKEN", ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
        (403, "OAUTH2_INSUFFICIENT_SCOPE", ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        (403, "RBAC_FORBIDDEN", ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        (403, "GATEWAY_OAUTH2_ACCESS_DENIED", ("AUTH", "AUTHORIZATION_FAILURE", 900910)),
        (503, "OAUTH2_SERVER_UNAVAILABLE", ("AUTH", "OTHER", 900900)),
        (429, "RATE_LIMIT_TOO_MANY_REQUESTS", ("THROTTLED", "OTHER", 900800)),
        (429, "QUOTA_TOO_MANY_REQUESTS", ("THROTTLED", "OTHER", 900800)),
        (400, "REQUEST_VALIDATION_INVALID", ("OTHER", "UNCLASSIFIED", 400)),
        (405, "RESOURCE_FILTERING_METHOD_NOT_ALLOWED", ("OTHER", "METHOD_NOT_ALLOWED", 405)),
        (502, "GATEWAY_CLIENT_CONNECTION_REFUSED", ("TARGET_CONNECTIVITY", "OTHER", 101503)),
        (502, "UPSTREAM_DNS_FAILURE", ("TARGET_CONNECTIVITY", "OTHER", 101503)),
        (504, "GATEWAY_CLIENT_READ_TIMEOUT", ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT", 101504)),
        (504, "REQUEST_TIMEOUT", ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT", 101504)),
        (503, "NO_ENDPOINT_FOUND", ("TARGET_CONNECTIVITY", "CONNECTION_SUSPENDED", 303001)),
        (418, "TEAPOT", ("OTHER", "UNCLASSIFIED", 418)),
        # A response template has given it another status: the key still says what happened.
        (200, "API_KEY_INVALID", ("AUTH", "AUTHENTICATION_FAILURE", 900901)),
    ],
)
def test_an_execution_failure_is_a_fault_of_the_class_that_its_key_names(status, key, error):
    found = event(spans(policy(failure=key, status=401), PHASE, server(status)))
    assert (found["eventType"], found["targetResponseCode"]) == ("fault", -1)
    assert (found["errorType"], found["errorMessage"], found["errorCode"]) == error
    assert (found["proxyResponseCode"], found["errorCodeInferred"]) == (status, True)


def test_a_failure_without_a_status_and_one_after_the_answer():
    assert event(spans(policy(failure="API_KEY_MISSING"), PHASE, server(401)))["eventType"] == "fault"
    early = One(INTERNAL, 4, 2, 9, 61, {
        "gravitee.execution-failure.key": "GATEWAY_CLIENT_STREAM_ENDED_EARLY",
        "gravitee.execution-failure.status-code": "200",
    })  # fmt: skip
    found = event(spans(client(200), early, PHASE, server(200)))
    assert (found["eventType"], found["targetResponseCode"]) == ("response", 200)


def test_a_backend_that_cannot_be_reached():
    invoker = One(INTERNAL, 4, 2, 9, 61, {
        "gravitee.endpoint.id": "stock",
        "gravitee.execution-failure.key": "GATEWAY_CLIENT_CONNECTION_ERROR",
        "gravitee.execution-failure.status-code": "502",
    })  # fmt: skip
    found = event(spans(client(None), invoker, PHASE, server(502)))
    assert (found["eventType"], found["errorType"], found["targetResponseCode"]) == (
        "fault", "TARGET_CONNECTIVITY", -1,
    )  # fmt: skip


def test_a_backends_error_is_a_response():
    found = event(spans(client(404), INVOKER, PHASE, server(404)))
    assert (found["eventType"], found["targetResponseCode"]) == ("response", 404)


def test_of_several_attempts_the_last_counts():
    retried = (client(503, id_=5, start=10, end=20), client(200, id_=6, start=21, end=60))
    found = event(spans(*retried, INVOKER, PHASE, server(200)))
    assert (found["targetResponseCode"], found["backendLatency"]) == (200, 39)


def test_what_a_policy_asks_for_itself_is_no_backend():
    introspection = client(200, id_=7, parent=3, start=3, end=7, url="http://idp/introspect")
    refused = policy("oauth2", "OAUTH2_INVALID_ACCESS_TOKEN", 401)
    found = event(spans(introspection, refused, PHASE, server(401)))
    assert (found["eventType"], found["targetResponseCode"], found["errorType"]) == ("fault", -1, "AUTH")
    found = event(spans(introspection, policy("oauth2"), client(200), INVOKER, PHASE, server(200)))
    assert (found["destination"], found["backendLatency"]) == ("http://stock:8000/items/7", 50)


def test_a_request_that_no_api_takes():
    names = {key: value for key, value in LEGACY.items() if key != "http.route"}
    one = One(SERVER, 1, 0, 0, 5, {**names, **ALWAYS, "http.status_code": 404}, name="GET")
    found = event(spans(one, resource=GATEWAY))
    expected = {
        "apiName": "UNKNOWN",
        "apiId": "UNKNOWN",
        "eventType": "fault",
        "errorMessage": "RESOURCE_NOT_FOUND",
    }
    assert given(found, expected) == expected


def test_missing_values():
    one = One(SERVER, attributes={"http.method": "GET", "http.target": "/", "http.route": "/"})
    found = event(spans(one))
    assert (found["apiContext"], found["apiResourceTemplate"], found["userIp"]) == ("/", "/", "UNKNOWN")
    assert found["correlationId"] == f"{1:032x}"


def test_each_api_keeps_its_own_resource():
    other = {**API, "gravitee.api.id": "ffff", "gravitee.api.name": "Stock"}
    assert event(spans(server(), resource=other))["apiName"] == "Stock"


def test_detection():
    assert dialects_of(spans(server(), resource=GATEWAY)) == ["gravitee"]
    assert dialects_of(make_spans(server(), resource=API)) == ["gravitee"]
    assert dialects_of(make_spans(server(), resource=GATEWAY, scope="io.vertx.tracing")) == ["semconv"]
