"""Kong: spans of the ``opentelemetry`` plugin, and the access log of Kong Gateway Enterprise.

Sources: Kong 3.10 kong/observability/tracing/instrumentation.lua and kong/plugins/opentelemetry; for
the access log (Enterprise 3.13 and later) developer.konghq.com app/_data/plugins/otel-metrics.yaml and
a capture of 3.14. Numbers come as doubles where Kong has no better idea. The runtime log
(``logs_endpoint``) has the scope of the spans, ``kong-internal``, and tells of no call; the access log
has ``api-access``. Spans name no client program, no consumer and no sizes, and need
``tracing_instrumentations``; the log names all of these.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects import semconv
from otel_moesif.dialects.dialect import Dialect, Fields, LogTable, Lookup, SpanTable
from otel_moesif.dialects.uri import absolute_uri, authority_of, first_segment, host_of, path_of
from otel_moesif.spans import SpanKind

# What nginx puts in where a backend gave no answer (ngx_http_upstream.c): refused or cut off, timed out.
_NO_ANSWER = (502, 504)
_CLIENT_GONE = 499  # NGINX's word for a caller that left before the answer
_NS_PER_MS = 1_000_000
_ERROR = 2  # Status.StatusCode of opentelemetry/proto/trace/v1/trace.proto
_UPSTREAM, _KONG = "upstream", "kong"  # kong.response.source
# Paths of a route that are looked at; a call by another one gets its own path as template.
_PATHS = 8


def _whole(a: Lookup, *keys: str) -> pl.Expr:
    """A whole number that may come as a double, or as a text of one (``80.0``)."""
    return a.number(*keys).cast(pl.Int64, strict=False)


def _call_key(a: Lookup) -> pl.Expr:
    """Spans and log name a call by the same request id; the log has no trace id of its own."""
    return pl.concat_str(pl.lit("kong:"), a.text("kong.request.id"))


def _matched(path: pl.Expr, *route_paths: pl.Expr) -> pl.Expr:
    """The path of the route that the call came by: a prefix, or a regular expression that begins with ``~``.

    Of several it is the longest prefix, as in Kong's own router; of regular expressions, only one that is
    alone is known to be meant.
    """
    # Of texts that all begin one text, the greatest is the longest.
    prefix = pl.max_horizontal(pl.when(path.str.starts_with(one)).then(one) for one in route_paths)
    first, *others = route_paths
    alone = pl.all_horizontal(pl.lit(value=True), *(other.is_null() for other in others))
    return pl.coalesce(prefix, pl.when(alone & first.str.starts_with("~")).then(first))


def _context(path: pl.Expr, matched: pl.Expr) -> pl.Expr:
    """The route's prefix is the API's base path, unless it is ``/`` or a regular expression."""
    prefix = pl.when((matched != "/") & ~matched.str.starts_with("~")).then(matched)
    return pl.coalesce(prefix, first_segment(path))


def call(a: Lookup) -> Fields:
    """The call, from the span ``kong``."""
    url = a.text("http.url")
    path = path_of(url)
    route = _matched(path, a.text("http.route"))
    return {
        "apiMethod": a.text("http.method"),
        "apiResourceTemplate": pl.coalesce(route, path),
        "apiContext": _context(path, route),
        "callKey": _call_key(a),
        "correlationId": pl.coalesce(a.text("kong.request.id"), pl.col("trace_id").bin.encode("hex")),
        "proxyResponseCode": _whole(a, "http.status_code"),
        "userIp": host_of(a.text("http.client_ip", "net.peer.ip")),
        "regionId": _region(a),
        "requestUri": url,
    }


def backend(a: Lookup) -> Fields:
    """One try, from a span ``kong.balancer``.

    Kong learns that a try failed only when it begins the next one (``Kong.balancer``), so the last try never
    says so itself, nor which status came. After a failed try, a 502 or 504 was nobody's answer either.
    """
    code = _whole(a, "http.status_code")
    no_answer = code.is_in(_NO_ANSWER)
    return {
        "apiName": a.text("peer.service"),
        "destination": authority_of(
            a.text("net.peer.name", "net.peer.ip"), _whole(a, "net.peer.port"), pl.lit("http")
        ),
        "status": pl.when(~no_answer).then(code),
        "failed": pl.when(code.is_not_null())
        .then(no_answer)
        .when(pl.col("status_code") == _ERROR)
        .then(pl.lit(value=True))
        .when(a.number("try_count").fill_null(1) <= 1)
        .then(pl.lit(value=False)),
    }


def otherwise(a: Lookup) -> Fields:
    """From the span ``kong``, where no other says better."""
    status = _whole(a, "http.status_code")
    return {
        "apiName": a.text("http.route"),
        "apiType": semconv.api_type(a),
        "status": pl.when(status != _CLIENT_GONE).then(status),
        "failed": status.is_in(_NO_ANSWER),
    }


def is_call(a: Lookup) -> pl.Expr:
    """The root of Kong's own spans."""
    return (pl.col("kind") == SpanKind.SERVER) & a.any("http.method", "http.status_code", "kong.request.id")


def is_backend(_: Lookup) -> pl.Expr:
    """Not ``kong.dns`` nor ``kong.internal.request`` (a plugin's own call), which are CLIENT spans, too."""
    return (pl.col("kind") == SpanKind.CLIENT) & (pl.col("name") == "kong.balancer")


def detail(_: Lookup) -> Fields:
    """From a span of the AI plugins (Enterprise 3.13) or of the A2A plugin (3.14)."""
    return {"apiType": pl.lit("AI")}


def is_detail(_: Lookup) -> pl.Expr:
    """``kong.gen_ai``, ``kong.a2a`` and what lies below them."""
    return pl.col("name").str.contains(r"^kong\.(?:gen_ai|a2a)")


def log_call(a: Lookup) -> Fields:
    """The call, from an access-log record; its time is the end of the call.

    Latencies are milliseconds, whatever the documentation says (capture: 119 for a call of 118 ms).
    """
    path = pl.coalesce(a.text("url.path"), path_of(a.text("url.full")))
    route = _matched(path, *(a.text(f"kong.route.paths.{place}") for place in range(1, _PATHS + 1)))
    total = _known(a, "kong.latency.total")
    started = a.number("kong.request.started_at")
    start = pl.coalesce(
        (started * _NS_PER_MS).cast(pl.Int64, strict=False),
        pl.col("time") - (total.fill_null(0) * _NS_PER_MS).cast(pl.Int64, strict=False),
    )
    end = pl.coalesce(start + (total * _NS_PER_MS).cast(pl.Int64, strict=False), pl.col("time"))
    source = a.text("kong.response.source")
    status = _whole(a, "http.response.status_code")
    # Before 3.13.0.1, several tries gave a text such as "502, 200".
    upstream_status = a.last_number("kong.upstream.status_code").cast(pl.Int64, strict=False)
    called = (source == _UPSTREAM) | upstream_status.is_not_null() | a.any("kong.upstream.try.1.ip")
    waited = _known(a, "kong.latency.upstream")
    inside = _known(a, "kong.latency.internal")
    consumer = a.text(*(f"kong.auth.consumer.{name}" for name in ("username", "name", "custom_id")))
    protocol = a.text("kong.service.protocol")
    service = authority_of(a.text("kong.service.host"), _whole(a, "kong.service.port"), protocol)
    return {
        "start": start,
        "end": end,
        "callKey": _call_key(a),
        "apiName": a.text("kong.service.name", "kong.route.name"),
        "apiId": a.text("kong.service.id", "kong.route.id"),
        "apiMethod": a.text("http.request.method"),
        "apiResourceTemplate": pl.coalesce(route, path),
        "apiContext": _context(path, route),
        "apiType": pl.when(protocol.is_in(["grpc", "grpcs"]))
        .then(pl.lit("GRPC"))
        .when(protocol.is_in(["ws", "wss"]))
        .then(pl.lit("WS"))
        .otherwise(semconv.api_type(a)),
        "applicationId": a.text("kong.auth.consumer.id"),
        "applicationName": consumer,
        "userName": consumer,
        "correlationId": a.text("kong.request.id"),
        "destination": pl.when(called).then(
            absolute_uri(pl.lit(None, pl.String), protocol, service, a.text("kong.upstream.uri"))
        ),
        "proxyResponseCode": status,
        "targetResponseCode": pl.when(source == _KONG)
        .then(pl.coalesce(pl.when(~upstream_status.is_in(_NO_ANSWER)).then(upstream_status), pl.lit(-1)))
        .otherwise(upstream_status),
        "responseCacheHit": a.text("http.response.header.x-cache-status") == "Hit",  # proxy-cache plugin
        "backendLatency": waited,
        # The log has no split of Kong's own time: all but the sending of the answer is counted as before.
        "requestMediationLatency": pl.when(waited.is_not_null()).then(pl.coalesce(inside, total - waited)),
        "responseMediationLatency": pl.when(waited.is_not_null()).then(total - inside - waited),
        "userAgentHeader": a.text("user_agent.original", "http.request.header.user-agent"),
        "userIp": host_of(a.text("client.address")),
        "regionId": _region(a),
        "responseSize": a.size(
            "http.response.body.size", "http.response.header.content-length", "http.response.size"
        ),
        # http.request.size counts the head as well; there is nothing better without a Content-Length.
        "requestSize": a.size(
            "http.request.body.size", "http.request.header.content-length", "http.request.size"
        ),
        "responseContentType": a.text("http.response.header.content-type"),
        "requestUri": a.text("url.full"),
        "requestHeaders": a.headers("http.request.header."),
        "responseHeaders": a.headers("http.response.header."),
        "fault": pl.when(source.is_not_null()).then((source == _KONG) & (status >= 400)),
    }


def is_log_call(a: Lookup) -> pl.Expr:
    """Records with a status: neither the runtime log's lines nor those of a TCP stream have one."""
    return _whole(a, "http.response.status_code").is_not_null()


def _known(a: Lookup, key: str) -> pl.Expr:
    """A latency; Kong says -1 where it has none."""
    value = a.number(key)
    return pl.when(value >= 0).then(value)


def _region(a: Lookup) -> pl.Expr:
    return a.resource("cloud.region", "deployment.environment.name", "deployment.environment")


def _detect(source: Source, keys: frozenset[str]) -> bool:
    return source.scope_name in {"api-access", "kong-internal"} or "kong.request.id" in keys


KONG = Dialect(
    name="kong",
    gateway_type="KONG",
    detect=_detect,
    # Balancer spans are one of the instrumentations that can be chosen.
    spans=SpanTable(call, backend, is_backend, is_call, detail, is_detail, otherwise, absence_proves=False),
    logs=LogTable(log_call, is_log_call),
)
