"""Envoy's access log over OTLP: attributes, or a line of text, of Envoy itself, Envoy Gateway and Istio.

Sources: envoy source/extensions/access_loggers/open_telemetry; the formats are those of envoyproxy/gateway
internal/xds/translator/accesslog.go (attribute names with hyphens), istio
pilot/pkg/model/telemetry_logging.go (``EnvoyJSONLogFormatIstio``: with underscores; ``EnvoyTextLogFormat``)
and Envoy's default format string, which is Istio's without the bracketed parts below. Durations are
milliseconds. An access log has no scope and no ``service.name``; its trace id and span id are those of the
call's span, its time is the request's start.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import polars as pl

from otel_moesif.attributes import Records
from otel_moesif.dialects.dialect import Fields, Lookup
from otel_moesif.dialects.envoy_answers import (
    NO_ANSWER,
    answered_itself,
    api_type,
    fault_reason,
    fault_type,
    from_cache,
    is_error,
    istio_service,
    service_of,
)
from otel_moesif.dialects.grpc_status import http_status
from otel_moesif.dialects.uri import absolute_uri, first_of_list, first_segment, host_of, path_of

Read = Callable[..., pl.Expr]
"""The first of these names that a record has, as text; ``-`` and the empty text count as absent."""

_HEAD = (
    r'^\[(?P<start_time>[^\]]+)\] "(?P<method>[^\s"-]\S*) (?P<path>\S+) (?P<protocol>[^"]+)"'
    r" (?P<response_code>\d+) (?P<response_flags>\S+)"
)
_WHY = (
    r" (?P<response_code_details>\S+) (?P<connection_termination_details>\S+)"
    r' "(?P<upstream_transport_failure_reason>[^"]*)"'
)
_MIDDLE = (
    r" (?P<bytes_received>\d+) (?P<bytes_sent>\d+) (?P<duration>\d+|-) (?P<upstream_service_time>\S+)"
    r' "(?P<x_forwarded_for>[^"]*)" "(?P<user_agent>.*?)" "(?P<request_id>[^"]*)" "(?P<authority>[^"]*)"'
    r' "(?P<upstream_host>[^"]*)"'
)
_ADDRESSES = (
    r" (?P<upstream_cluster>\S+) (?P<upstream_local_address>\S+) (?P<downstream_local_address>\S+)"
    r" (?P<downstream_remote_address>\S+) (?P<requested_server_name>\S+) (?P<route_name>\S+)"
)
ISTIO_LINE = rf"{_HEAD}{_WHY}{_MIDDLE}{_ADDRESSES}\s*$"
_LINE = rf"{_HEAD}(?:{_WHY})?{_MIDDLE}(?:{_ADDRESSES})?\s*$"
_START_TIME = "%Y-%m-%dT%H:%M:%S%.fZ"  # %START_TIME% without a format of its own

# %RESPONSE_CODE_DETAILS% of an answer that the backend gave. What broke it off later stands in its place:
# a caller that left, a backend that reset the stream.
_VIA_UPSTREAM = r"^(?:via_upstream|websocket_handshake_unsuccessful|upstream_reset_after_response_started)"
_LEFT = r"^downstream_"
_NS_PER_MS = 1_000_000


def log_call(a: Lookup) -> Fields:
    """The call, from a record with attributes or a line of text."""
    return fields(a, partial(attribute_or_line, a))


def is_log_call(a: Lookup) -> pl.Expr:
    """Records that carry a status and a method; a TCP connection's record has neither."""
    return is_http(partial(attribute_or_line, a))


def fields(a: Lookup, read: Read) -> Fields:
    """The call, from a record whose columns are read by ``read``."""
    target = read("x-envoy-origin-path", "path", ":path")
    path = path_of(target)
    duration = read("duration").cast(pl.Float64, strict=False)
    grpc = read("grpc_status")
    status = http_status(read("response_code").cast(pl.Int64, strict=False), grpc)
    details, flags = read("response_code_details"), read("response_flags")
    host, cluster, route = read("upstream_host"), read("upstream_cluster"), read("route_name")
    # Without the details: a host was chosen, and no flag says that it did not answer.
    by_host = ~answered_itself(flags).fill_null(value=False) & host.is_not_null()
    broken_off = host.is_not_null() & (details.str.contains(_LEFT) | ~is_error(status))
    via_upstream = pl.coalesce(details.str.contains(_VIA_UPSTREAM) | broken_off, by_host)
    from_upstream = via_upstream & (status > NO_ANSWER)
    service_time = read("x-envoy-upstream-service-time", "upstream_service_time")
    backend = pl.when(from_upstream).then(service_time.cast(pl.Float64, strict=False))
    start = pl.coalesce(_start_of_line(a), pl.col("time"))
    return {
        "start": start,
        "end": start + (duration * _NS_PER_MS).cast(pl.Int64, strict=False).fill_null(0),
        # A sidecar's own clusters are nameless; Istio puts the service that was meant into the TLS handshake.
        "apiName": pl.coalesce(
            service_of(cluster), istio_service(read("requested_server_name")), service_of(route)
        ),
        "apiMethod": read("method"),
        "apiResourceTemplate": path,
        "apiContext": first_segment(path),
        "apiType": api_type(grpc.is_not_null(), status),
        "correlationId": pl.coalesce(read("x-request-id", "request_id"), _trace_id()),
        "proxyResponseCode": status,
        "targetResponseCode": pl.when(from_upstream).then(status).otherwise(-1),
        "responseCacheHit": from_cache(flags),
        "destination": host,
        "backendLatency": backend,
        # The log has no split of the gateway's own time: all of it is counted before the backend.
        "requestMediationLatency": duration - backend.fill_null(0),
        "responseMediationLatency": pl.lit(0),
        "userAgentHeader": read("user-agent", "user_agent"),
        "userIp": pl.coalesce(
            first_of_list(read("x-forwarded-for", "x_forwarded_for")),
            host_of(read("downstream_remote_address")),
        ),
        "userName": a.text("user.name", "user.id", "enduser.id"),
        "regionId": a.resource("zone_name"),
        "responseSize": read("bytes_sent").cast(pl.Int64, strict=False),
        "requestSize": read("bytes_received").cast(pl.Int64, strict=False),
        "requestUri": absolute_uri(
            pl.lit(None, pl.String),
            read("scheme", "x-forwarded-proto"),
            read(":authority", "authority"),
            target,
        ),
        "fault": ~from_upstream & is_error(status),
        "faultType": fault_type(flags),
        "faultReason": fault_reason(flags),
    }


def _trace_id() -> pl.Expr:
    text = pl.col("trace_id").bin.encode("hex")
    return pl.when(text != "").then(text)


def is_http(read: Read) -> pl.Expr:
    """Whether a record tells of a request, not of a TCP connection or something else."""
    status = read("response_code").cast(pl.Int64, strict=False)
    return status.is_not_null() & ((status > NO_ANSWER) | read("method").is_not_null())


def attribute_or_line(a: Lookup, *names: str) -> pl.Expr:
    """The first of these names that a record has as an attribute, else in its line of text."""
    return pl.coalesce(a.text(*names), *(_of_line(a, name) for name in names if f"(?P<{name}>" in _LINE))


def _of_line(a: Lookup, name: str) -> pl.Expr:
    text = a.computed("line", _lines).struct.field(name)
    return pl.when((text != "") & (text != "-")).then(text)


def _lines(records: Records) -> pl.Series:
    """The lines' columns as one struct per record."""
    return records.frame["body"].str.extract_groups(_LINE)


def _start_of_line(a: Lookup) -> pl.Expr:
    """Nanoseconds since the epoch; a line that somebody else read from a file has another time outside."""
    time = _of_line(a, "start_time").str.to_datetime(_START_TIME, time_unit="ns", strict=False)
    return time.cast(pl.Int64)
