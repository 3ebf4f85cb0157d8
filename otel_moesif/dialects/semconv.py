"""OpenTelemetry's semantic conventions for HTTP: what any gateway speaks that has no dialect of its own.

Sources: semantic-conventions docs/http/http-spans.md (stable names) and
docs/non-normative/http-migration.md (legacy names); docs/general/attributes.md for ``user.*``. Each field
takes the stable name and falls back to the legacy one, since some gateways send both and some a mix.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.dialects.dialect import Dialect, Fields, Lookup, SpanTable
from otel_moesif.dialects.grpc_status import http_status
from otel_moesif.dialects.uri import (
    absolute_uri,
    authority_of,
    first_of_list,
    first_segment,
    host_of,
    path_of,
    target_of,
)
from otel_moesif.spans import SpanKind

_STATUS = ("http.response.status_code", "http.status_code")
_METHOD = ("http.request.method", "http.method")
# What Spring's Micrometer calls them (DefaultServerRequestObservationConvention); asked for last.
_MICROMETER_STATUS, _MICROMETER_METHOD = "status", "method"
# semantic-conventions docs/non-normative/rpc-migration.md: a number, then a word.
_GRPC_STATUS = ("rpc.grpc.status_code", "rpc.response.status_code", "rpc.status_code")
_OK = 200
_SWITCHING = 101  # RFC 9110 15.2.2: from here on another protocol
_OTHER_METHOD = "_OTHER"  # http-spans.md: a method that is not known; method_original has it
_STATUS_ERROR = 2  # opentelemetry/proto/trace/v1/trace.proto, Status.StatusCode


def call(a: Lookup) -> Fields:
    """The call, from its SERVER span."""
    scheme = a.text("url.scheme", "http.scheme")
    full = a.text("url.full", "http.url")
    rpc = _rpc_path(a)
    path = pl.coalesce(a.text("url.path"), path_of(a.text("http.target")), path_of(full), rpc)
    target = pl.coalesce(target_of(a.text("url.path"), a.text("url.query")), a.text("http.target"))
    host = authority_of(
        a.text("server.address", "net.host.name", "http.server_name"),
        a.integer("server.port", "net.host.port"),
        scheme,
    )
    return {
        "apiName": a.resource("service.name"),
        "apiMethod": method(a, _MICROMETER_METHOD),
        "apiResourceTemplate": pl.coalesce(a.text("http.route"), path),
        "apiContext": first_segment(path),
        "apiType": api_type(a),
        "correlationId": pl.col("trace_id").bin.encode("hex"),
        "proxyResponseCode": _status(a, _MICROMETER_STATUS),
        "userAgentHeader": a.text("user_agent.original", "http.user_agent", *_header("user-agent")),
        # The peer may be a load balancer: a captured header knows better who stands behind it.
        "userIp": host_of(
            first_of_list(
                a.text(
                    "client.address",
                    "http.client_ip",
                    *_header("x-forwarded-for"),
                    "network.peer.address",
                    "net.sock.peer.addr",
                    "net.peer.ip",
                    "net.peer.name",
                )
            )
        ),
        "userName": a.text("user.name", "user.id", "enduser.id"),
        "companyId": a.text("company.id"),  # moesif.com/docs/server-integration/open-telemetry
        "regionId": a.resource("cloud.region", "deployment.environment.name", "deployment.environment"),
        "responseSize": a.size("http.response.body.size", "http.response_content_length"),
        "requestSize": a.size("http.request.body.size", "http.request_content_length"),
        "responseContentType": a.text(
            "http.response.header.content-type", "http.response.header.content_type"
        ),
        "requestUri": absolute_uri(
            full,
            scheme,
            pl.coalesce(a.text(*_header("host"), "http.host"), host),
            pl.coalesce(target, full, rpc),
        ),
        "requestHeaders": a.headers("http.request.header."),
        "responseHeaders": a.headers("http.response.header."),
    }


def backend(a: Lookup) -> Fields:
    """One attempt at the backend, from a CLIENT span."""
    address = authority_of(
        a.text("server.address", "net.peer.name", "network.peer.address", "net.peer.ip"),
        a.integer("server.port", "net.peer.port"),
        a.text("url.scheme", "http.scheme"),
    )
    status = _status(a)
    error = a.any("error.type") | (pl.col("status_code") == _STATUS_ERROR)
    return {
        "destination": pl.coalesce(a.text("url.full", "http.url"), address),
        "status": status,
        "failed": status.is_null() & error,
    }


def is_backend(a: Lookup) -> pl.Expr:
    """CLIENT spans of HTTP or RPC; a gateway's calls of its own cache or database are not the backend."""
    http = a.any(*_METHOD, *_STATUS, "url.full", "http.url", "rpc.system", "rpc.system.name")
    return (pl.col("kind") == SpanKind.CLIENT) & http


def is_call(a: Lookup) -> pl.Expr:
    """SERVER spans of HTTP or RPC."""
    http = a.any(*_METHOD, *_STATUS, "url.path", "http.target", "http.url", "rpc.system", "rpc.system.name")
    return (pl.col("kind") == SpanKind.SERVER) & http


def method(a: Lookup, *further: str) -> pl.Expr:
    """HTTP method, as it came where it is none that the conventions know."""
    name = a.text(*_METHOD, *further)
    original = pl.when(name == _OTHER_METHOD).then(a.text("http.request.method_original"))
    post = pl.when(_is_grpc(a)).then(pl.lit("POST"))  # grpc PROTOCOL-HTTP2.md, "Requests"
    return pl.coalesce(original, name, post)


def _is_grpc(a: Lookup) -> pl.Expr:
    return (a.text("rpc.system.name", "rpc.system") == "grpc").fill_null(value=False)


def _rpc_path(a: Lookup) -> pl.Expr:
    """``/package.Service/Method``, in one attribute or (rpc-migration.md: formerly) in two."""
    name = a.text("rpc.method")
    both = pl.concat_str(a.text("rpc.service"), pl.lit("/"), name)
    full = pl.when(name.str.contains("/", literal=True)).then(name.str.strip_prefix("/")).otherwise(both)
    return pl.when(_is_grpc(a)).then(pl.format("/{}", full))


def api_type(a: Lookup) -> pl.Expr:
    """WSO2's ``apiType`` by what the span speaks; the first that fits.

    Keys: semantic-conventions docs/rpc, docs/graphql, docs/gen-ai (gen-ai and mcp), OpenInference
    (``llm.*``); krakend-otel (``http.connection.hijacked``); content types of the gRPC protocol over HTTP/2.
    The order is ours.
    """
    scheme = a.text("url.scheme", "http.scheme")
    grpc = a.any("grpc.path", "grpc.status_code", "rpc.grpc.status_code") | _is_grpc(a)
    content_type = a.text(
        *_header("content-type"), *(f"http.response.header.content{dash}type" for dash in "-_")
    )
    grpc |= content_type.str.starts_with("application/grpc").fill_null(value=False)
    switched = scheme.is_in(["ws", "wss"]) | (a.integer(*_STATUS) == _SWITCHING)
    websocket = switched.fill_null(value=False) | a.flag("http.connection.hijacked")
    return (
        pl.when(a.any("mcp.method.name"))
        .then(pl.lit("MCP"))
        .when(a.any_under("gen_ai.", "llm."))
        .then(pl.lit("AI"))
        .when(a.any_under("graphql."))
        .then(pl.lit("GRAPHQL"))
        .when(grpc)
        .then(pl.lit("GRPC"))
        .when(websocket)
        .then(pl.lit("WS"))
        .otherwise(pl.lit("HTTP"))
    )


def _status(a: Lookup, *further: str) -> pl.Expr:
    """HTTP status; of a gRPC call that has none, what its own status amounts to."""
    if a.keys[0].isdisjoint(_GRPC_STATUS):  # most senders: the table of gRPC's names costs 5 ms a batch
        return a.integer(*_STATUS, *further)
    grpc = a.text(*_GRPC_STATUS)
    answered = pl.when(grpc.is_not_null()).then(_OK)
    return http_status(pl.coalesce(a.integer(*_STATUS, *further), answered), grpc)


def _header(name: str) -> tuple[str, str]:
    return f"http.request.header.{name}", f"http.request.header.{name.replace('-', '_')}"


SEMCONV = Dialect(
    name="semconv",
    gateway_type="OTEL",
    detect=lambda _source, _keys: True,
    spans=SpanTable(call, backend, is_backend, is_call, absence_proves=False),
)
