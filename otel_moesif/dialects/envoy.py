"""Envoy: spans of ``envoy.tracers.opentelemetry`` and the OTLP access log.

Sources: envoy source/common/tracing/http_tracer_impl.cc (tags),
source/extensions/access_loggers/open_telemetry (access log), and what Envoy 1.40 was seen to send by
tests/e2e/envoy.py. Every attribute is a string, ``-`` stands for nothing, ``0`` for no status. The CLIENT
span ``router <cluster> egress`` exists only with ``spawn_upstream_span``; ``async … egress`` is the
gateway's own call (ext_authz), not the backend. An access log has no scope and no ``service.name``, and
its trace id and span id are those of the SERVER span.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects.dialect import Dialect, Fields, LogTable, Lookup, SpanTable
from otel_moesif.dialects.uri import absolute_uri, first_of_list, first_segment, host_of, path_of
from otel_moesif.spans import SpanKind

# Response flags that say which of WSO2's error types a fault is (envoy access log docs, %RESPONSE_FLAGS%;
# the sub types are those of WSO2's FaultSubCategories). Others are told apart by the status.
_FLAGS: dict[str, tuple[str, str]] = {
    "RL": ("THROTTLED", "OTHER"),
    "RLSE": ("THROTTLED", "OTHER"),
    "UAEX": ("AUTH", "AUTHORIZATION_FAILURE"),
    "NR": ("OTHER", "RESOURCE_NOT_FOUND"),
    "NC": ("TARGET_CONNECTIVITY", "OTHER"),
    "UH": ("TARGET_CONNECTIVITY", "CONNECTION_SUSPENDED"),
    "UF": ("TARGET_CONNECTIVITY", "OTHER"),
    "UC": ("TARGET_CONNECTIVITY", "OTHER"),
    "UR": ("TARGET_CONNECTIVITY", "OTHER"),
    "LR": ("TARGET_CONNECTIVITY", "OTHER"),
    "UT": ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT"),
    "SI": ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT"),
    "UMSDR": ("TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT"),
    "UO": ("TARGET_CONNECTIVITY", "CONNECTION_SUSPENDED"),
    "URX": ("TARGET_CONNECTIVITY", "OTHER"),
}
_VIA_UPSTREAM = "via_upstream"
_NO_ANSWER = 0  # %RESPONSE_CODE% and http.status_code when nothing was answered
_UNIX_MS = 1_000_000


def _flagged(flags: pl.Expr, place: int) -> pl.Expr:
    """Error type (0) or sub type (1) of the first of the comma-separated flags."""
    first = flags.str.split_exact(",", 1).struct.field("field_0")
    table = {flag: meaning[place] for flag, meaning in _FLAGS.items()}
    return first.replace_strict(table, default=None, return_dtype=pl.String)


def _api_type(grpc: pl.Expr) -> pl.Expr:
    return pl.when(grpc).then(pl.lit("GRPC")).otherwise(pl.lit("HTTP"))


def call(a: Lookup) -> Fields:
    """The call, from the downstream (SERVER) span."""
    url = a.text("http.url", "url.full")
    path = path_of(url)
    flags = a.text("response_flags")
    status = a.integer("http.status_code", "http.response.status_code")
    return {
        "apiName": pl.coalesce(
            a.text("istio.canonical_service"),
            a.text("upstream_cluster.name", "upstream_cluster"),
            a.resource("service.name"),
        ),
        "apiMethod": a.text("http.method", "http.request.method"),
        "apiResourceTemplate": pl.coalesce(a.text("http.route"), path),
        "apiContext": first_segment(path),
        "apiType": _api_type(a.any("grpc.path", "grpc.status_code")),
        "correlationId": a.text("guid:x-request-id"),
        "proxyResponseCode": status,
        "userAgent": a.text("user_agent", "user_agent.original"),
        "userIp": host_of(a.text("peer.address", "network.peer.address")),
        "regionId": a.text("zone"),
        "responseSize": a.integer("response_size", "http.response.body.size"),
        "requestSize": a.integer("request_size", "http.request.body.size"),
        "responseContentType": a.text("grpc.content_type"),
        "requestUri": url,
        # A flag says that Envoy answered itself (not URX: the last retry may have been answered). So does an
        # error for which no cluster was chosen: direct response, no route. Else the CLIENT span decides.
        "fault": pl.when(_flagged(flags, 0).is_not_null() & (flags != "URX"))
        .then(status >= 400)
        .when(a.text("upstream_cluster", "upstream_cluster.name").is_null())
        .then(status >= 400),
        "faultType": _flagged(flags, 0),
        "faultReason": _flagged(flags, 1),
    }


def backend(a: Lookup) -> Fields:
    """One attempt at the upstream, from a ``router <cluster> egress`` span."""
    status = a.integer("http.status_code", "http.response.status_code")
    answered = pl.when(status > _NO_ANSWER).then(status)
    return {
        "destination": a.text("http.url", "url.full", "upstream_address", "peer.address"),
        "status": answered,
        "failed": answered.is_null(),
    }


def is_backend(_: Lookup) -> pl.Expr:
    """The router's own CLIENT spans."""
    return (pl.col("kind") == SpanKind.CLIENT) & pl.col("name").str.starts_with("router ")


def log_call(a: Lookup) -> Fields:
    """The call, from an access-log record with the attribute names of Envoy Gateway's default format.

    Source: envoyproxy/gateway internal/xds/translator/accesslog.go. Durations are milliseconds.
    """
    path = path_of(a.text("x-envoy-origin-path", "path", ":path"))
    target = a.text("x-envoy-origin-path", "path", ":path")
    duration = a.number("duration")
    details = a.text("response_code_details")
    status = a.integer("response_code")
    via_upstream = details.str.starts_with(_VIA_UPSTREAM).fill_null(value=False)
    upstream_time = pl.when(via_upstream).then(a.number("x-envoy-upstream-service-time"))
    flags = a.text("response_flags")
    return {
        "start": pl.col("time"),
        "end": pl.col("time") + (duration.fill_null(0) * _UNIX_MS).cast(pl.Int64),
        "apiName": pl.coalesce(a.text("upstream_cluster"), a.text("route_name"), a.resource("log_name")),
        "apiMethod": a.text("method"),
        "apiResourceTemplate": path,
        "apiContext": first_segment(path),
        "apiType": _api_type(a.any("grpc_status")),
        "correlationId": a.text("x-request-id"),
        "proxyResponseCode": status,
        "targetResponseCode": pl.when(via_upstream).then(status).otherwise(-1),
        "destination": a.text("upstream_host"),
        "backendLatency": upstream_time,
        # The log has no split of the gateway's own time: all of it is counted before the backend.
        "requestMediationLatency": duration - upstream_time.fill_null(0),
        "responseMediationLatency": pl.lit(0),
        "userAgent": a.text("user-agent"),
        "userIp": pl.coalesce(
            first_of_list(a.text("x-forwarded-for")), host_of(a.text("downstream_remote_address"))
        ),
        "regionId": a.resource("zone_name"),
        "responseSize": a.integer("bytes_sent"),
        "requestSize": a.integer("bytes_received"),
        "requestUri": absolute_uri(
            pl.lit(None, pl.String), a.text("scheme", "x-forwarded-proto"), a.text(":authority"), target
        ),
        "fault": pl.when(details.is_not_null()).then(
            ~via_upstream & ((status >= 400) | (status == _NO_ANSWER))
        ),
        "faultType": _flagged(flags, 0),
        "faultReason": _flagged(flags, 1),
    }


def is_log_call(a: Lookup) -> pl.Expr:
    """Records that carry a status."""
    return a.integer("response_code").is_not_null()


def _detect(source: Source, keys: frozenset[str]) -> bool:
    return (
        source.scope_name == "envoy"
        or source.resource.get("telemetry.sdk.name") == "envoy"
        or {"log_name", "node_name", "cluster_name", "zone_name"} <= source.resource.keys()
        or {"response_code", "response_flags"} <= keys
        or (
            "component" in keys
            and not keys.isdisjoint({"response_flags", "upstream_cluster", "guid:x-request-id"})
        )
    )


ENVOY = Dialect(
    name="envoy",
    gateway_type="ENVOY",
    detect=_detect,
    spans=SpanTable(call, backend, is_backend, absence_proves=False),
    logs=LogTable(log_call, is_log_call),
)
