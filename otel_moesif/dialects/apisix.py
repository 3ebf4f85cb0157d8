"""Apache APISIX: spans of the ``opentelemetry`` plugin.

Sources: apache/apisix 3.18 apisix/plugins/opentelemetry.lua, apisix/tracer.lua,
docs/en/latest/plugins/opentelemetry.md and t/plugin/opentelemetry*.t. A call is one SERVER span; there
are no spans of backend calls. Who calls, which backend answered and how fast is known where the
plugin's ``additional_attributes`` name the nginx variables for it; these come as text, times in
seconds, and as lists where several backends were tried. ``apisix.response_source`` (newer than 3.15)
tells whose answer it was. Before that, the span's status is the backend's, and an answer that APISIX
made itself has none.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects import semconv
from otel_moesif.dialects.dialect import Dialect, Fields, Lookup, SpanTable
from otel_moesif.dialects.uri import absolute_uri, first_of_list, first_segment, host_of, path_of
from otel_moesif.spans import SpanKind

_UPSTREAM, _NGINX = "upstream", "nginx"  # apisix.response_source; the third is "apisix"
_MS_PER_S = 1_000
_NS_PER_MS = 1_000_000
# nginx separates tries by comma, and groups of them (internal redirects) by colon.
_LAST_OF_LIST = r"([^\s,]+)\s*$"


def call(a: Lookup) -> Fields:
    """The call, from its SERVER span."""
    target = a.text("http.target")
    path = pl.coalesce(a.text("url.path", "uri.path"), path_of(target))
    scheme = a.text("url.scheme", "http.scheme")
    source = a.text("apisix.response_source")
    status = a.integer("http.response.status_code", "http.status_code")
    upstream_status = a.last_number("upstream_status").cast(pl.Int64, strict=False)
    upstream_time = a.last_number("upstream_response_time") * _MS_PER_S
    total = (pl.col("end") - pl.col("start")) / _NS_PER_MS
    consumer = a.text("consumer_name")
    return {
        "apiName": a.text("apisix.service_name", "apisix.route_name", "apisix.route_id"),
        "apiId": a.text("apisix.service_id", "apisix.route_id"),
        "apiMethod": semconv.method(a),
        "apiResourceTemplate": pl.coalesce(a.text("http.route"), path),
        "apiContext": first_segment(path),
        "apiType": semconv.api_type(a),
        "applicationName": consumer,
        "userName": consumer,
        "correlationId": pl.coalesce(
            a.text("request_id", "x-request-id", "X-Request-Id", "http_x_request_id"),
            pl.col("trace_id").bin.encode("hex"),
        ),
        "destination": a.text("upstream_addr").str.extract(_LAST_OF_LIST),
        "proxyResponseCode": status,
        # Where nginx made the answer, an upstream_status of 502 or 504 is its own, too.
        "targetResponseCode": pl.when(source == _UPSTREAM)
        .then(pl.coalesce(upstream_status, status))
        .when(source == _NGINX)
        .then(pl.lit(-1))
        .when(source.is_not_null())
        .then(pl.coalesce(upstream_status, pl.lit(-1)))
        .otherwise(upstream_status),
        "responseCacheHit": a.text("upstream_cache_status") == "HIT",
        "backendLatency": upstream_time,
        # There is no split of APISIX's own time: all of it is counted before the backend.
        "requestMediationLatency": pl.when(upstream_time.is_not_null()).then(total - upstream_time),
        "userAgentHeader": a.text("user_agent.original", "http.user_agent"),
        "userIp": pl.coalesce(
            first_of_list(a.text("http_x_forwarded_for", "x-forwarded-for", "X-Forwarded-For")),
            host_of(a.text("remote_addr")),
        ),
        "regionId": a.resource("cloud.region", "deployment.environment.name", "deployment.environment"),
        "responseSize": a.size("body_bytes_sent", "bytes_sent"),
        "requestSize": a.size("content_length", "http_content_length", "request_length"),
        "responseContentType": a.text("sent_http_content_type", "upstream_http_content_type"),
        "requestUri": absolute_uri(
            target, scheme, a.text("http_host", "net.host.name"), pl.coalesce(target, path)
        ),
        "fault": pl.when(source.is_not_null()).then((source != _UPSTREAM) & (status >= 400)),
    }


def is_call(a: Lookup) -> pl.Expr:
    """SERVER spans but those of phases (``apisix.phase.access`` …), which have no attributes."""
    server = (pl.col("kind") == SpanKind.SERVER) & ~pl.col("name").str.starts_with("apisix.phase.")
    return server & a.any("http.request.method", "http.method")


def _detect(source: Source, keys: frozenset[str]) -> bool:
    return source.scope_name == "opentelemetry-lua" or any(key.startswith("apisix.") for key in keys)


APISIX = Dialect(
    name="apisix",
    gateway_type="APISIX",
    detect=_detect,
    spans=SpanTable(call, is_call=is_call, absence_proves=False, wait=0),
)
