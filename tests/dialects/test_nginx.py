"""NGINX: what nginx-otel's own tests assert, and hand-written cases of both modules."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import pytest

from otel_moesif.otlp.decode import decode_spans
from tests.dialects.otlp import (
    CLIENT,
    SERVER,
    One,
    dialects_of,
    event,
    fixture,
    given,
    make_spans,
    span_request,
)

CPP = {"service.name": "nginx", "telemetry.sdk.name": "opentelemetry", "telemetry.sdk.language": "cpp"}


def native(*specs, resource=None):
    """Spans of ngx_otel_module, whose scope has NGINX's version."""
    batch = make_spans(*specs, resource=resource or {"service.name": "unknown_service:nginx"}, scope="nginx")
    (source,) = batch.sources
    return replace(batch, sources=(replace(source, scope_version="1.29.3"),))


def ingress(*specs):
    """Spans of otel_ngx_module: no version, an SDK in C++."""
    return make_spans(*specs, resource=CPP, scope="nginx")


def call(status=200, **more):
    attributes = {
        "http.method": "GET",
        "http.target": "/orders/7?a=b",
        "http.route": "/orders/",
        "http.scheme": "https",
        "http.flavor": "1.1",
        "http.user_agent": "curl/8",
        "http.request_content_length": 3,
        "http.response_content_length": 18,
        "http.status_code": status,
        "net.host.name": "shop.example",
        "net.host.port": 8443,
        "net.sock.peer.addr": "192.0.2.7",
        "net.sock.peer.port": 4711,
        **more,
    }
    return One(SERVER, attributes=attributes, name="/orders/")


def rows():
    table = json.loads(fixture("gateways/nginx-native/test_otel_expectations.json").read_text())
    versions, paths = table["parametrize"]["http_ver"], table["parametrize"]["path_status"]
    assert set(table["attributes"]) == set(call().attributes), "the fixture's keys are those of `call`"
    return table, list(product(versions, paths, ("http", "https")))


def test_every_row_that_nginx_otels_tests_assert_gives_its_event():
    table, cases = rows()
    assert len(cases) == 12
    for version, (path, status), scheme in cases:
        filled = {"<path>": path, "http|https": scheme, "<http_ver>": version, "niquests/<ver>": "niquests/3",
                  "len(body)": 12, "<status> (int)": status, "<port> (int)": 18443,
                  "1024..65535 (int)": 40000}  # fmt: skip
        attributes = {key: filled.get(value, value) for key, value in table["attributes"].items()}
        resource = {"service.name": table["resource"]["service.name (default)"]}
        assert table["scope (src/batch_exporter.hpp)"]["name"] == "nginx"
        found = event(native(One(SERVER, attributes=attributes, name=path), resource=resource))
        expected = {
            "gatewayType": "NGINX",
            "eventType": "response",
            "apiName": "localhost",
            "apiMethod": "GET",
            "apiResourceTemplate": path,
            "apiContext": path,
            "proxyResponseCode": status,
            "targetResponseCode": status,
            "userAgentHeader": "niquests/3",
            "userIp": "127.0.0.1",
            "requestSize": 0,
            "responseSize": 12,
            "requestUri": f"{scheme}://localhost:18443{path}",
            "responseLatency": 100,
            "correlationId": found["traceId"],
        }
        assert given(found, expected) == expected


def test_the_custom_attributes_that_nginx_otels_tests_assert():
    table, _ = rows()
    custom = {key: value for key, value in table["custom_attributes_case"].items() if key != "span.name"}
    found = event(native(call(**custom)))
    assert found["responseContentType"] == "text/plain"
    assert {"key": "content.type", "value": "text/plain"} in found["responseHeaders"]


def test_the_module_of_ingress_nginx_has_older_names():
    attributes = {
        "http.method": "POST",
        "http.flavor": "1.1",
        "http.target": "/orders?a=b",
        "http.server_name": "shop.example",
        "http.host": "shop.example:8080",
        "http.user_agent": "curl/8",
        "http.scheme": "http",
        "http.status_code": 201,
        "net.host.port": 80,
        "net.peer.ip": "192.0.2.7",
        "net.peer.port": 4711,
        "http.request.header.x_tenant": ["a"],
        "http.request.header.authorization": ["Bearer s3cret"],
    }
    found = event(ingress(One(SERVER, attributes=attributes, name="/")))
    expected = {
        "gatewayType": "NGINX",
        "apiName": "shop.example",
        "apiMethod": "POST",
        "apiResourceTemplate": "/orders",
        "apiContext": "/orders",
        "proxyResponseCode": 201,
        "userAgentHeader": "curl/8",
        "userIp": "192.0.2.7",
        "requestUri": "http://shop.example:8080/orders?a=b",
        "requestHeaders": [{"key": "x-tenant", "value": "a"}],
    }
    assert given(found, expected) == expected


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ({"http.server_name": "_", "http.host": "shop.example:8080"}, "shop.example"),
        ({"http.server_name": "shop.example"}, "shop.example"),
        ({"http.server_name": "_"}, "nginx"),
    ],
)
def test_the_catch_all_server_is_no_name(names, name):
    found = event(ingress(One(attributes={"http.method": "GET", "http.status_code": 200, **names})))
    assert found["apiName"] == name


@pytest.mark.parametrize("status", [200, 301, 401, 404, 429, 502])
def test_without_configured_variables_nobody_knows_who_answered(status):
    found = event(native(call(status)))
    assert (found["eventType"], found["targetResponseCode"]) == ("response", status)


def upstream(status, address="10.0.0.1:80", time="0.070", **more):
    return {"upstream_status": status, "upstream_addr": address, "upstream_response_time": time, **more}


NOT_ASKED = upstream("", "", "")


@pytest.mark.parametrize(
    ("status", "variables", "kind", "target", "error"),
    [
        (200, upstream("200"), "response", 200, None),
        (404, upstream("404"), "response", 404, None),
        (502, upstream("502"), "response", 502, None),
        (200, upstream("502, 200", "10.0.0.1:80, 10.0.0.2:80", "0.010, 0.070"), "response", 200, None),
        (200, upstream("502, 503 : 200", "10.0.0.1:80, 10.0.0.2:80 : 10.0.0.3:80", "0.1, - : 0.070"),
         "response", 200, None),
        (502, upstream("502, -", "10.0.0.1:80, 10.0.0.2:80", "0.010, -"), "fault", -1, "TARGET_CONNECTIVITY"),
        (502, upstream("502", upstream_header_time="-"), "fault", -1, "TARGET_CONNECTIVITY"),
        (504, upstream("502, 504", upstream_header_time="0.010, -"), "fault", -1, "TARGET_CONNECTIVITY"),
        (500, upstream("200"), "fault", 200, "OTHER"),
        (401, NOT_ASKED, "fault", -1, "AUTH"),
        (403, NOT_ASKED, "fault", -1, "AUTH"),
        (429, upstream("-", "-", "-"), "fault", -1, "THROTTLED"),
        (404, NOT_ASKED, "fault", -1, "OTHER"),
        (301, NOT_ASKED, "response", -1, None),
        (503, {"limit_req_status": "REJECTED"}, "fault", -1, "THROTTLED"),
        (503, {"limit_conn_status": "REJECTED", **NOT_ASKED}, "fault", -1, "THROTTLED"),
        (200, {"limit_req_status": "PASSED", **upstream("200")}, "response", 200, None),
        (404, {"upstream_addr": "10.0.0.1:80"}, "response", 404, None),
        (404, {"upstream_addr": ""}, "fault", -1, "OTHER"),
        (404, {"nginx.upstream_status": "404"}, "response", 404, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("sender", [native, ingress])
def test_configured_variables_tell_who_answered(sender, status, variables, kind, target, error):
    found = event(sender(call(status, **variables)))
    assert (found["eventType"], found["targetResponseCode"], found["errorType"]) == (kind, target, error)


def test_configured_variables_give_the_last_attempts_time_and_address():
    found = event(native(call(200, **upstream("502, 200", "10.0.0.1:80, 10.0.0.2:80", "0.010, 0.070"))))
    assert found["destination"] == "10.0.0.2:80"
    parts = ("responseLatency", "backendLatency", "requestMediationLatency", "responseMediationLatency")
    assert [found[part] for part in parts] == [100, 70, 30, 0]


def test_latencies_are_never_negative_although_times_are_rounded():
    found = event(native(call(200, **upstream("200", time="0.101"))))
    assert (found["backendLatency"], found["requestMediationLatency"]) == (101, 0)


def test_a_time_beyond_all_bounds_stops_nobody():
    found = event(native(call(200, **upstream("200", time="9" * 400))))
    assert (found["eventType"], found["backendLatency"]) == ("response", 0)


def test_further_variables():
    found = event(
        native(
            call(
                200,
                request_id="f00d",
                remote_user="alice",
                http_x_forwarded_for="203.0.113.9, 10.0.0.9",
                upstream_cache_status="HIT",
            )
        )
    )
    expected = {
        "correlationId": "f00d",
        "userName": "alice",
        "userIp": "203.0.113.9",
        "responseCacheHit": True,
        "targetResponseCode": -1,
    }
    assert given(found, expected) == expected
    assert event(native(call(200, remote_user="-")))["userName"] == "UNKNOWN"


def test_client_spans_are_read_where_the_module_sends_them():
    attempt = {"url.full": "http://orders/7", "server.address": "10.0.0.1", "http.request.method": "GET",
               "http.status_code": 404}  # fmt: skip
    found = event(native(call(404), One(CLIENT, 2, 1, 10, 90, attempt)))
    assert (found["eventType"], found["backendLatency"]) == ("response", 80)
    assert found["destination"] == "http://orders/7"


def test_a_scope_named_nginx_is_nginx_only_with_version_or_cpp():
    assert dialects_of(native(call())) == ["nginx"]
    assert dialects_of(ingress(call())) == ["nginx"]
    other = {"service.name": "nginx", "telemetry.sdk.language": "python"}
    assert dialects_of(make_spans(call(), resource=other, scope="nginx")) == ["semconv"]
    assert dialects_of(make_spans(call(), resource=CPP, scope="mine")) == ["semconv"]
    assert dialects_of(decode_spans([span_request(call(), resource=CPP)])) == ["semconv"]


@pytest.mark.parametrize("key", ["x-forwarded-for", "x_forwarded_for"])
@pytest.mark.parametrize("sender", [native, ingress])
def test_a_captured_header_says_who_stands_behind_the_load_balancer(sender, key):
    found = event(sender(call(**{f"http.request.header.{key}": ["203.0.113.9, 10.0.0.9"]})))
    assert found["userIp"] == "203.0.113.9"


def test_a_unix_socket_is_nobodys_address():
    assert event(native(call(**{"net.sock.peer.addr": "unix:"})))["userIp"] == "UNKNOWN"
