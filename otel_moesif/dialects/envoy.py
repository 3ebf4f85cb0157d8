"""Envoy: spans of ``envoy.tracers.opentelemetry``; its access log is in `otel_moesif.dialects.envoy_log`.

Sources: envoy source/common/tracing/{http_tracer_impl.cc,common_values.h} (tags, and the names of
``otel_semconv_stability_opt_in``), and what Envoy 1.40 was seen to send by tests/e2e/envoy.py. Every
attribute is a string, ``-`` stands for nothing, ``0`` for no status. The CLIENT span
``router <cluster> egress`` exists only with ``spawn_upstream_span``; ``async … egress`` is the gateway's own
call (ext_authz), not the backend. A listener of direction OUTBOUND without ``spawn_upstream_span`` makes the
call itself a CLIENT span.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects.dialect import Dialect, Fields, LogTable, Lookup, SpanTable
from otel_moesif.dialects.envoy_answers import (
    NO_ANSWER,
    answered_itself,
    api_type,
    fault_reason,
    fault_type,
    from_cache,
    is_error,
    service_of,
)
from otel_moesif.dialects.envoy_log import is_log_call, log_call
from otel_moesif.dialects.grpc_status import http_status
from otel_moesif.dialects.uri import first_of_list, first_segment, host_of, path_of
from otel_moesif.spans import SpanKind

_STATUS = ("http.status_code", "http.response.status_code")
_GRPC_STATUS = "grpc.status_code"
_CLUSTER = ("upstream_cluster.name", "upstream_cluster")


def call(a: Lookup) -> Fields:
    """The call, from the downstream span."""
    url = a.text("http.url", "url.full")
    path = path_of(url)
    flags = a.text("response_flags")
    status = http_status(a.integer(*_STATUS), a.text(_GRPC_STATUS))
    # Legacy tags always come with response_flags; without them an absent cluster says nothing.
    no_cluster = a.any("response_flags") & a.text(*_CLUSTER).is_null()
    grpc = a.any("grpc.path", _GRPC_STATUS)
    return {
        "apiName": pl.coalesce(service_of(a.text(*_CLUSTER)), a.resource("service.name")),
        "apiMethod": a.text("http.method", "http.request.method"),
        "apiResourceTemplate": pl.coalesce(a.text("http.route"), path),
        "apiContext": first_segment(path),
        "apiType": api_type(grpc, status),
        "correlationId": pl.coalesce(a.text("guid:x-request-id"), pl.col("trace_id").bin.encode("hex")),
        "proxyResponseCode": status,
        # No cluster was chosen (direct response, redirect, no route), or it was not asked.
        "targetResponseCode": pl.when(no_cluster | from_cache(flags)).then(-1),
        "responseCacheHit": from_cache(flags),
        "userAgentHeader": a.text("user_agent", "user_agent.original"),
        # peer.address is the direct peer; custom tags may know who stands behind it.
        "userIp": pl.coalesce(
            a.text("client.address"),
            first_of_list(a.text("http.request.header.x-forwarded-for", "x-forwarded-for")),
            host_of(a.text("peer.address", "network.peer.address")),
        ),
        "userName": a.text("user.name", "user.id", "enduser.id"),
        "regionId": pl.coalesce(a.text("zone"), a.resource("cloud.region")),
        "responseSize": a.size("response_size", "http.response.body.size"),
        "requestSize": a.size("request_size", "http.request.body.size"),
        "responseContentType": a.text("http.response.header.content-type", "grpc.content_type"),
        "requestUri": url,
        "requestHeaders": a.headers("http.request.header."),
        "responseHeaders": a.headers("http.response.header."),
        # Else the CLIENT span decides.
        "fault": pl.when(answered_itself(flags) | no_cluster).then(is_error(status)),
        "faultType": fault_type(flags),
        "faultReason": fault_reason(flags),
    }


def backend(a: Lookup) -> Fields:
    """One attempt at the upstream, from a ``router <cluster> egress`` span."""
    status = http_status(a.integer(*_STATUS), a.text(_GRPC_STATUS))
    answered = pl.when(status > NO_ANSWER).then(status)
    return {
        "destination": a.text("upstream_address", "peer.address", "network.peer.address"),
        "status": answered,
        "failed": answered.is_null(),
    }


def is_backend(a: Lookup) -> pl.Expr:
    """The router's own CLIENT spans; their name can be configured, the address is theirs alone."""
    routers = pl.col("name").str.starts_with("router ") | a.any("upstream_address")
    return (pl.col("kind") == SpanKind.CLIENT) & routers & ~pl.col("name").str.starts_with("async ")


def is_call(a: Lookup) -> pl.Expr:
    """SERVER spans, and CLIENT spans with the tags of a request: only the connection manager sets these."""
    own = pl.col("name").str.contains(r"^(?:router|async) ") | a.any("upstream_address")
    request = a.any("guid:x-request-id", "http.url", "url.full")
    egress = (pl.col("kind") == SpanKind.CLIENT) & request & ~own
    return (pl.col("kind") == SpanKind.SERVER) | egress


def speaks_envoy(source: Source, keys: frozenset[str]) -> bool:
    """Whether a sender is an Envoy of any kind; gateways.md section 4, number 7."""
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
    detect=speaks_envoy,
    # The upstream span ends first, into the same buffer (source/extensions/tracers/opentelemetry/tracer.cc).
    spans=SpanTable(call, backend, is_backend, is_call, absence_proves=False, wait=0),
    logs=LogTable(log_call, is_log_call),
)
