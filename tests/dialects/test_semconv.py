"""Plain semantic conventions: what any dialect that leans on them inherits. All of it is hand-written."""

from __future__ import annotations

import pytest

from otel_moesif.credentials import SENSITIVE_HEADERS
from tests.dialects.otlp import CLIENT, SERVER, One, event, given, make_spans

BASE = {
    "http.request.method": "GET",
    "url.path": "/orders/7",
    "url.scheme": "https",
    "server.address": "shop.example",
    "http.response.status_code": 200,
}


def of(**more):
    """The event of a call with these attributes beside the usual ones; None leaves one out."""
    attributes = {**BASE, **{key.replace("__", "."): value for key, value in more.items()}}
    return event(make_spans(One(attributes={k: v for k, v in attributes.items() if v is not None})))


@pytest.mark.parametrize(
    ("method", "original", "expected"),
    [("GET", None, "GET"), ("_OTHER", "PURGE", "PURGE"), ("_OTHER", None, "_OTHER"), ("GET", "GeT", "GET")],
)
def test_a_method_that_the_conventions_do_not_know_is_named_as_it_came(method, original, expected):
    found = of(http__request__method=method, http__request__method_original=original)
    assert found["apiMethod"] == expected


@pytest.mark.parametrize(
    ("attributes", "uri"),
    [
        ({"url.query": "a=b"}, "https://shop.example/orders/7?a=b"),
        ({"url.query": "?a=b"}, "https://shop.example/orders/7?a=b"),
        ({"url.path": "orders"}, "https://shop.example/orders"),
        ({"server.port": 443}, "https://shop.example/orders/7"),
        ({"server.port": "8443"}, "https://shop.example:8443/orders/7"),
        ({"server.address": "2001:db8::1", "server.port": 8443}, "https://[2001:db8::1]:8443/orders/7"),
        ({"server.address": "2001:db8::1", "server.port": 443}, "https://[2001:db8::1]/orders/7"),
        ({"server.address": "[::1]:8000", "server.port": 443}, "https://[::1]:8000/orders/7"),
        ({"url.scheme": "wss", "server.port": 443}, "wss://shop.example/orders/7"),
        ({"url.path": None, "http.target": "*", "http.request.method": "OPTIONS"}, "https://shop.example/"),
        ({"url.path": None, "http.target": "http://other.example/a?b"}, "http://other.example/a?b"),
        ({"url.full": "http://h.example:81/x?y=z"}, "http://h.example:81/x?y=z"),
    ],
)
def test_the_uri_is_whole_and_valid(attributes, uri):
    assert of(**attributes)["requestUri"] == uri


@pytest.mark.parametrize(
    ("attributes", "address"),
    [
        ({"client.address": "203.0.113.9, 10.0.0.1"}, "203.0.113.9"),
        ({"client.address": "[2001:db8::1]:4711"}, "2001:db8::1"),
        ({"client.address": "192.0.2.7:4711"}, "192.0.2.7"),
        ({"client.address": "2001:db8::1"}, "2001:db8::1"),
        ({"client.address": "@"}, "UNKNOWN"),
        ({"net.sock.peer.addr": "unix:"}, "UNKNOWN"),
        ({"net.peer.name": "192.0.2.7"}, "192.0.2.7"),
        (
            {"http.request.header.x-forwarded-for": ["203.0.113.9, 10.0.0.1"], "net.peer.ip": "10.0.0.2"},
            "203.0.113.9",
        ),
        (
            {"http.request.header.x_forwarded_for": ["203.0.113.9"], "client.address": "192.0.2.7"},
            "192.0.2.7",
        ),
    ],
)
def test_the_caller_is_whoever_stands_behind_the_proxies(attributes, address):
    assert of(**attributes)["userIp"] == address


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({}, "HTTP"),
        ({"mcp.method.name": "tools/call", "gen_ai.request.model": "m"}, "MCP"),
        ({"gen_ai.request.model": "m"}, "AI"),
        ({"llm.model_name": "m"}, "AI"),
        ({"graphql.document": "{a}"}, "GRAPHQL"),
        ({"http.request.header.content-type": ["application/grpc+proto"]}, "GRPC"),
        ({"http.response.header.content_type": ["application/grpc"]}, "GRPC"),
        ({"http.request.header.content-type": ["application/json"]}, "HTTP"),
        ({"http.response.status_code": 101}, "WS"),
        ({"url.scheme": "wss"}, "WS"),
        ({"http.connection.hijacked": True}, "WS"),
        ({"http.connection.hijacked": False}, "HTTP"),
    ],
)
def test_the_type_of_api_is_told_by_what_the_span_speaks(attributes, kind):
    assert of(**attributes)["apiType"] == kind


@pytest.mark.parametrize(
    "name", [{"rpc.service": "a.Shop", "rpc.method": "Buy"}, {"rpc.method": "a.Shop/Buy"}]
)
def test_a_grpc_call_is_a_post_to_its_method(name):
    call = {"rpc.system": "grpc", "server.address": "shop.example", "server.port": 50051, **name}
    found = event(make_spans(One(SERVER, attributes={**call, "rpc.grpc.status_code": 0})))
    expected = {
        "apiMethod": "POST",
        "apiResourceTemplate": "/a.Shop/Buy",
        "apiContext": "/a.Shop",
        "apiType": "GRPC",
        "proxyResponseCode": 200,
        "requestUri": "http://shop.example:50051/a.Shop/Buy",
    }
    assert given(found, expected) == expected


def test_sizes_that_are_not_known_are_not_negative():
    found = of(http__request__body__size=-1, http__response__body__size="-1")
    assert (found["requestSize"], found["responseSize"]) == (None, 0)


def test_a_call_without_status_whose_backend_did_not_answer_is_a_fault():
    call = One(attributes={"http.request.method": "GET", "url.path": "/"})
    lost = One(CLIENT, 2, 1, 10, 90, {"http.request.method": "GET", "error.type": "timeout"}, status=2)
    found = event(make_spans(call, lost))
    assert (found["eventType"], found["errorType"]) == ("fault", "TARGET_CONNECTIVITY")
    assert (found["proxyResponseCode"], found["targetResponseCode"]) == (0, -1)
    assert event(make_spans(call))["eventType"] == "response"


def test_a_caller_that_left_is_no_failure_of_the_backend():
    call = One(attributes={**BASE, "http.response.status_code": 499})
    canceled = One(CLIENT, 2, 1, 10, 90, {"http.request.method": "GET", "error.type": "canceled"}, status=2)
    found = event(make_spans(call, canceled))
    assert (found["eventType"], found["errorType"], found["errorMessage"]) == (
        "fault",
        "OTHER",
        "UNCLASSIFIED",
    )


@pytest.mark.parametrize("way", ["request", "response"])
@pytest.mark.parametrize(
    "spelt", [str, str.title, lambda name: name.replace("-", "_")], ids=["as is", "title", "legacy"]
)
def test_credentials_in_headers_stay_out(way, spelt):
    prefix = f"http.{way}.header."
    captured = {f"{prefix}{spelt(name)}": ["s3cret"] for name in SENSITIVE_HEADERS}
    found = of(**captured, **{f"{prefix}accept": ["a/b"]})
    assert found[f"{way}Headers"] == [{"key": "accept", "value": "a/b"}]
