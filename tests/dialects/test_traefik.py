"""Traefik: the spans that its integration tests assert, and hand-written ones."""

from __future__ import annotations

import json
import re

import pytest

from tests.dialects.otlp import (
    CLIENT,
    INTERNAL,
    SERVER,
    One,
    Record,
    dialects_of,
    event,
    fixture,
    given,
    make_logs,
    make_spans,
)

SCOPE = "github.com/traefik/traefik"
ERROR = 2
KINDS = {"SPAN_KIND_CLIENT": CLIENT, "SPAN_KIND_SERVER": SERVER, "SPAN_KIND_INTERNAL": INTERNAL}
WHOAMI = "172.17.0.2"  # stands for Go's s.whoamiIP


# -- what Traefik's own tests assert ------------------------------------------------------------------


def literal(text):
    """An asserted value: text, or one of the two Go expressions that the tests have."""
    if text == "s.whoamiIP":
        return WHOAMI
    formatted = re.fullmatch(r'fmt\.Sprintf\("(.*)", net\.JoinHostPort\(s\.whoamiIP, "(\d+)"\)\)', text)
    return formatted[1].replace("%s", f"{WHOAMI}:{formatted[2]}") if formatted else text


def asserted(paths):
    """The asserted spans of one trace, innermost first, as they end: name, kind, status, attributes."""
    spans = {}
    for path, value in paths.items():
        if not (found := re.match(r"batches\.0\.scopeSpans\.0\.spans\.(\d+)\.(.*)", path)):
            assert (path, value) == ("batches.0.scopeSpans.0.scope.name", SCOPE)
            continue
        span = spans.setdefault(int(found[1]), {"attributes": {}})
        if attribute := re.fullmatch(r'attributes\.#\(key="(.*)"\)\.value\.(string|int)Value', found[2]):
            text = literal(value)
            span["attributes"][attribute[1]] = int(text) if attribute[2] == "int" else text
        else:
            span[found[2]] = value
    return [spans[number] for number in sorted(spans)]


def nested(spans):
    """Spans as the tests list them, with parents and times: 10 ms per attempt, around it 1 ms per level."""
    specs, start, level = [], 10.0, 0
    for number, span in enumerate(spans, 1):
        name = span["name"]
        outer = [
            n
            for n, other in enumerate(spans, 1)
            if n > number and (name != "Retry" or other["name"] == "Router")
        ]
        around = (
            name in {"Router", "GET"}
            or span["attributes"].get("traefik.middleware.name") == "metrics-entrypoint"
        )
        level = level + 1 if around else 0
        began, ended = (10.0 - level, start + level) if around else (start, start + 10)
        # SafeURL asserts no kind for its attempt
        kind = KINDS[span.get("kind", "SPAN_KIND_CLIENT")]
        status = ERROR if span.get("status.code") == "STATUS_CODE_ERROR" else 0
        specs.append(
            One(kind, number, outer[0] if outer else 0, began, ended, span["attributes"], name, status)
        )
        if name == "Retry" or (name == "Service" and "Retry" not in {x["name"] for x in spans}):
            start += 10
    return specs


OK = {"eventType": "response", "errorType": None, "targetResponseCode": 200, "proxyResponseCode": 200}
UNAUTHORIZED = {
    "eventType": "fault",
    "errorType": "AUTH",
    "errorMessage": "AUTHENTICATION_FAILURE",
    "errorCode": 900901,
    "targetResponseCode": -1,
    "proxyResponseCode": 401,
    "destination": "UNKNOWN",
}


def api(number):
    return {"apiName": f"service{number}", "apiId": f"web-router{number}@file"}


NO_API = {"apiName": "UNKNOWN", "apiId": "UNKNOWN"}
# Test and trace → what its event says.
ROWS = {
    ("TestOpenTelemetryBasic_HTTP_router_minimalVerbosity", 0): {
        **OK, **NO_API, "apiResourceTemplate": "/basic-minimal",
        "destination": f"http://{WHOAMI}:80/basic-minimal", "requestUri": "http://127.0.0.1:8000/basic-minimal",
    },
    ("TestOpenTelemetryBasic_HTTP_entrypoint_minimalVerbosity", 0): {
        **OK, **NO_API, "apiResourceTemplate": "/basic", "requestUri": "http://127.0.0.1:8001/basic",
        "destination": f"http://{WHOAMI}:80/basic",
    },
    ("TestOpenTelemetryBasic_HTTP", 0): {
        **OK, **api(0), "apiResourceTemplate": "/basic", "requestUri": "http://127.0.0.1:8000/basic",
        "destination": f"http://{WHOAMI}:80/basic", "backendLatency": 10,
    },
    ("TestOpenTelemetryBasic_gRPC", 0): {
        **OK, **api(0), "apiResourceTemplate": "/basic", "requestUri": "http://127.0.0.1:8000/basic",
        "destination": f"http://{WHOAMI}:80/basic",
    },
    ("TestOpenTelemetryRateLimit", 0): {
        **api(1), "eventType": "fault", "errorType": "THROTTLED", "errorCode": 900800,
        "proxyResponseCode": 429, "targetResponseCode": -1, "destination": "UNKNOWN",
        "apiResourceTemplate": "/ratelimit",
    },
    ("TestOpenTelemetryRateLimit", 1): {
        **OK, **api(1), "apiResourceTemplate": "/ratelimit", "destination": f"http://{WHOAMI}:80/ratelimit",
    },
    ("TestOpenTelemetryRetry", 0): {
        **api(2), "eventType": "fault", "errorType": "TARGET_CONNECTIVITY", "errorMessage": "OTHER",
        "errorCode": 101503, "proxyResponseCode": 502, "targetResponseCode": -1,
        "destination": f"http://{WHOAMI}:81/retry", "apiResourceTemplate": "/retry",
    },
    ("TestOpenTelemetryAuth", 0): {**UNAUTHORIZED, **api(3), "apiResourceTemplate": "/auth"},
    ("TestOpenTelemetryAuthWithRetry", 0): {**UNAUTHORIZED, **api(4), "apiResourceTemplate": "/retry-auth"},
    ("TestOpenTelemetrySafeURL", 0): {
        **OK, **api(3), "apiResourceTemplate": "/auth", "requestUri": "http://127.0.0.1:8000/auth?api_key=REDACTED",
        "destination": f"http://{WHOAMI}:80/auth?api_key=REDACTED",
    },
}  # fmt: skip


def test_every_trace_that_traefiks_tests_assert_is_a_row_here():
    table = json.loads(fixture("gateways/traefik/tracing_test_expectations.json").read_text())
    rows = {(test, n) for test, row in table.items() for n in range(len(row["expected_traces_tempo_paths"]))}
    assert rows == set(ROWS)


@pytest.mark.parametrize(("test", "number"), ROWS)
def test_the_spans_that_traefiks_tests_assert_are_one_event(test, number):
    row = json.loads(fixture("gateways/traefik/tracing_test_expectations.json").read_text())[test]
    spans = asserted(row["expected_traces_tempo_paths"][number])
    if not any(span.get("kind") == "SPAN_KIND_SERVER" for span in spans):
        # this one asserts all but the SERVER span; its request is that of TestOpenTelemetryBasic_HTTP
        assert (test, row["requests"]) == (
            "TestOpenTelemetryBasic_gRPC",
            [["http://127.0.0.1:8000/basic", "StatusOK"]],
        )
        spans.append({**server(200, path="/basic", host="127.0.0.1:8000"), "kind": "SPAN_KIND_SERVER"})
    expected = {
        "apiMethod": "GET",
        "apiType": "HTTP",
        "gatewayType": "TRAEFIK",
        "userIp": "127.0.0.1",
        "userAgentHeader": "Go-http-client/1.1",
        **ROWS[test, number],
    }
    assert given(event(make_spans(*nested(spans), scope=SCOPE)), expected) == expected


def test_the_last_of_the_asserted_attempts_counts():
    row = json.loads(fixture("gateways/traefik/tracing_test_expectations.json").read_text())
    spans = asserted(row["TestOpenTelemetryRetry"]["expected_traces_tempo_paths"][0])
    spans[8]["attributes"]["http.response.status_code"] = 200
    spans[-1]["attributes"]["http.response.status_code"] = 200
    found = event(make_spans(*nested(spans), scope=SCOPE))
    assert (found["eventType"], found["targetResponseCode"], found["backendLatency"]) == ("response", 200, 10)
    assert (found["requestMediationLatency"], found["responseMediationLatency"]) == (23, 3)


# -- hand-written spans -------------------------------------------------------------------------------


def server(status, path="/v1/orders/7", host="shop.example", **more):
    attributes = {
        "entry_point": "web",
        "http.request.method": "GET",
        "network.protocol.version": "1.1",
        "http.request.body.size": 0,
        "url.path": path,
        "url.query": "",
        "url.scheme": "http",
        "user_agent.original": "Go-http-client/1.1",
        "server.address": host,
        "network.peer.address": "127.0.0.1",
        "http.response.status_code": status,
        **more,
    }
    return {"name": "GET", "attributes": attributes}


def call(status, **more):
    return One(SERVER, 1, attributes=server(status, **more)["attributes"], name="GET")


def attempt(status, start=10, end=90, id_=5, parent=1):
    attributes = {
        "http.request.method": "GET",
        "url.full": f"http://u:p@{WHOAMI}/orders/7",
        "url.scheme": "http",
    }
    attributes |= {"server.address": WHOAMI, "server.port": 80}
    if status:
        attributes["http.response.status_code"] = status
    return One(
        CLIENT, id_, parent, start, end, attributes, "ReverseProxy", ERROR if (status or 500) >= 400 else 0
    )


def router(name="orders@kubernetescrd", id_=2, parent=1, **more):
    attributes = {"traefik.router.name": name, "http.route": "PathPrefix(`/v1`)", **more}
    return One(INTERNAL, id_, parent, 1, 99, attributes, "Router")


def middleware(name, status=ERROR):
    return One(INTERNAL, 3, 2, 2, 98, {"traefik.middleware.name": "m@file"}, name, status)


def one(*specs):
    return event(make_spans(*specs, scope=SCOPE))


@pytest.mark.parametrize(
    ("status", "kind", "target"),
    [(200, "response", 200), (404, "response", 404), (500, "response", 500), (503, "response", 503)],
)
def test_an_answer_of_the_backend_is_a_response(status, kind, target):
    found = one(attempt(status), call(status))
    assert (found["eventType"], found["targetResponseCode"]) == (kind, target)
    assert (found["backendLatency"], found["requestMediationLatency"]) == (80, 10)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (502, ("TARGET_CONNECTIVITY", "OTHER", 101503)),
        (504, ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT", 101504)),
        (499, ("OTHER", "UNCLASSIFIED", 499)),
    ],
)
def test_a_status_that_traefik_put_in_is_nobodys_answer(status, error):
    found = one(attempt(status), call(status))
    assert (found["eventType"], found["targetResponseCode"]) == ("fault", -1)
    assert (found["errorType"], found["errorMessage"], found["errorCode"]) == error


@pytest.mark.parametrize(
    ("status", "specs", "error"),
    [
        (401, [router(), middleware("BasicAuth")], ("AUTH", "AUTHENTICATION_FAILURE")),
        (401, [router(), middleware("ForwardAuth")], ("AUTH", "AUTHENTICATION_FAILURE")),
        (403, [router(), middleware("ForwardAuth")], ("AUTH", "AUTHORIZATION_FAILURE")),
        (500, [router(), middleware("ForwardAuth")], ("AUTH", "OTHER")),
        (404, [router(), middleware("IPAllowLister")], ("AUTH", "AUTHORIZATION_FAILURE")),
        (503, [router(), middleware("CircuitBreaker")], ("TARGET_CONNECTIVITY", "CONNECTION_SUSPENDED")),
        (413, [router(), middleware("Buffer")], ("OTHER", "UNCLASSIFIED")),
        (429, [], ("THROTTLED", "OTHER")),
        (404, [], ("OTHER", "RESOURCE_NOT_FOUND")),
        (503, [], ("TARGET_CONNECTIVITY", "OTHER")),  # no server is left
    ],
)
def test_an_answer_without_an_attempt_is_traefiks_own(status, specs, error):
    found = one(*specs, call(status))
    assert (found["eventType"], found["targetResponseCode"]) == ("fault", -1)
    assert (found["errorType"], found["errorMessage"]) == error
    assert found["apiName"] == ("orders" if specs else "UNKNOWN")


def test_a_redirect_by_traefik_is_no_fault():
    found = one(call(308))
    assert (found["eventType"], found["targetResponseCode"]) == ("response", -1)


def test_the_request_of_forward_auth_is_not_the_backend():
    auth = One(
        CLIENT, 4, 3, 3, 9, {"url.full": "http://auth/", "http.response.status_code": 401}, "AuthRequest"
    )
    found = one(auth, middleware("ForwardAuth"), router(), call(401))
    assert (found["eventType"], found["destination"]) == ("fault", "UNKNOWN")


def test_names_lose_their_provider_ids_keep_it_and_a_rule_is_no_template():
    service = One(INTERNAL, 3, 2, 2, 98, {"traefik.service.name": "shop-orders-80@kubernetescrd"}, "Service")
    found = one(attempt(200, parent=3), service, router(), call(200))
    expected = {
        "apiName": "orders",  # the router begins first and names no service: its own name
        "apiId": "orders@kubernetescrd",
        "apiResourceTemplate": "/v1/orders/7",
        "apiContext": "/v1",
        "destination": f"http://{WHOAMI}/orders/7",
    }
    assert given(found, expected) == expected
    named = router(**{"traefik.service.name": "shop-orders-80@kubernetescrd"})
    assert one(attempt(200, parent=3), service, named, call(200))["apiName"] == "shop-orders-80"


def test_unknown_sizes_and_forwarded_clients():
    more = {"http.request.body.size": -1, "client.address": "192.0.2.7", "url.scheme": "https"}
    found = one(attempt(200), call(200, **more))
    assert (found["requestSize"], found["userIp"]) == (None, "192.0.2.7")
    assert found["requestUri"] == "https://shop.example/v1/orders/7"


def test_a_websocket_is_one():
    assert one(attempt(101), call(101))["apiType"] == "WS"


# -- detection ----------------------------------------------------------------------------------------


def test_near_relatives_are_not_taken_for_traefik():
    app = One(SERVER, attributes={"http.request.method": "GET", "http.response.status_code": 200})
    assert dialects_of(make_spans(app, resource={"service.name": "traefik"})) == ["semconv"]
    other = Record("x", {"DownstreamStatus": 200, "RouterName": "r"})
    assert dialects_of(make_logs(other, scope="my.router")) == ["semconv"]
    assert dialects_of(make_logs(Record("x", {"level": "info"}), scope="traefik")) == ["semconv"]
    assert dialects_of(make_spans(call(200), scope="")) == ["traefik"]  # behind something that drops scopes
