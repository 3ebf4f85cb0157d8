"""OpenTelemetry's semantic conventions for HTTP: what any gateway speaks that has no dialect of its own.

Sources: semantic-conventions docs/http/http-spans.md (stable names) and
docs/non-normative/http-migration.md (legacy names); docs/general/attributes.md for ``user.*``. Each field
takes the stable name and falls back to the legacy one, since some gateways send both and some a mix.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.dialects.dialect import Dialect, Fields, Lookup, SpanTable
from otel_moesif.dialects.uri import absolute_uri, authority_of, first_segment, host_of, path_of, target_of
from otel_moesif.spans import SpanKind

# Never published by WSO2's own reporter (carbon-apimgt AnalyticsPayloadUtil.SENSITIVE_HEADERS), and the
# usual names of API keys beside them.
SENSITIVE_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "apikey", "api-key", "x-api-key"}
)
_STATUS = ("http.response.status_code", "http.status_code")
_METHOD = ("http.request.method", "http.method")
_STATUS_ERROR = 2  # opentelemetry/proto/trace/v1/trace.proto, Status.StatusCode


def call(a: Lookup) -> Fields:
    """The call, from its SERVER span."""
    scheme = a.text("url.scheme", "http.scheme")
    full = a.text("url.full", "http.url")
    path = pl.coalesce(a.text("url.path"), path_of(a.text("http.target")), path_of(full))
    target = pl.coalesce(target_of(a.text("url.path"), a.text("url.query")), a.text("http.target"))
    host = authority_of(
        a.text("server.address", "net.host.name", "http.server_name"),
        a.integer("server.port", "net.host.port"),
        scheme,
    )
    return {
        "apiName": a.resource("service.name"),
        "apiMethod": a.text("http.request.method_original", *_METHOD),
        "apiResourceTemplate": pl.coalesce(a.text("http.route"), path),
        "apiContext": first_segment(path),
        "apiType": api_type(a),
        "correlationId": pl.col("trace_id").bin.encode("hex"),
        "proxyResponseCode": a.integer(*_STATUS),
        "userAgent": a.text("user_agent.original", "http.user_agent", *_header("user-agent")),
        "userIp": host_of(
            a.text(
                "client.address",
                "http.client_ip",
                "network.peer.address",
                "net.sock.peer.addr",
                "net.peer.ip",
            )
        ),
        "userName": a.text("user.name", "user.id", "enduser.id"),
        "companyId": a.text("company.id"),  # moesif.com/docs/server-integration/open-telemetry
        "regionId": a.resource("cloud.region", "deployment.environment.name", "deployment.environment"),
        "responseSize": a.integer("http.response.body.size", "http.response_content_length"),
        "requestSize": a.integer("http.request.body.size", "http.request_content_length"),
        "responseContentType": a.text(
            "http.response.header.content-type", "http.response.header.content_type"
        ),
        "requestUri": absolute_uri(
            full, scheme, pl.coalesce(a.text(*_header("host"), "http.host"), host), pl.coalesce(target, full)
        ),
        "requestHeaders": a.headers("http.request.header.", without=SENSITIVE_HEADERS),
        "responseHeaders": a.headers("http.response.header.", without=SENSITIVE_HEADERS),
    }


def backend(a: Lookup) -> Fields:
    """One attempt at the backend, from a CLIENT span."""
    address = authority_of(
        a.text("server.address", "net.peer.name", "network.peer.address", "net.peer.ip"),
        a.integer("server.port", "net.peer.port"),
        a.text("url.scheme", "http.scheme"),
    )
    status = a.integer(*_STATUS)
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


def api_type(a: Lookup) -> pl.Expr:
    """WSO2's ``apiType`` by what the span speaks; the first that fits.

    Keys: semantic-conventions docs/rpc, docs/graphql, docs/gen-ai (gen-ai and mcp); the order is ours.
    """
    scheme = a.text("url.scheme", "http.scheme")
    rpc = a.text("rpc.system.name", "rpc.system")
    grpc = a.any("grpc.path", "grpc.status_code", "rpc.grpc.status_code") | (rpc == "grpc").fill_null(
        value=False
    )
    websocket = scheme.is_in(["ws", "wss"]).fill_null(value=False) | (a.integer(*_STATUS) == 101).fill_null(
        value=False
    )
    return (
        pl.when(a.any("mcp.method.name"))
        .then(pl.lit("MCP"))
        .when(a.any("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.system"))
        .then(pl.lit("AI"))
        .when(a.any("graphql.operation.type", "graphql.operation.name", "graphql.document"))
        .then(pl.lit("GRAPHQL"))
        .when(grpc)
        .then(pl.lit("GRPC"))
        .when(websocket)
        .then(pl.lit("WS"))
        .otherwise(pl.lit("HTTP"))
    )


def _header(name: str) -> tuple[str, str]:
    return f"http.request.header.{name}", f"http.request.header.{name.replace('-', '_')}"


SEMCONV = Dialect(
    name="semconv",
    gateway_type="OTEL",
    detect=lambda _source, _keys: True,
    spans=SpanTable(call, backend, is_backend, is_call),
)
