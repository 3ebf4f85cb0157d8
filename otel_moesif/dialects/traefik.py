"""Traefik: spans, and the access log over OTLP.

Sources: traefik/traefik 3.7 pkg/observability/tracing/tracing.go, pkg/proxy/httputil/observability.go,
pkg/middlewares/accesslog/{logdata,logger,field_middleware}.go and integration/tracing_test.go. Spans
follow the stable semantic conventions. Which API was called is told by INTERNAL spans of routers and
services, which need ``traceVerbosity: detailed``; a router's ``http.route`` is the text of its rule,
which is no template. Queries come with their values REDACTED. Each attempt at a backend is a CLIENT
span ``ReverseProxy`` (none with the experimental FastProxy). The access log needs
``experimental.otlpLogs`` and has headers only where ``accesslog.fields.headers`` keeps them; its times
are nanoseconds.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects import semconv
from otel_moesif.dialects.dialect import Dialect, Fields, LogTable, Lookup, SpanTable
from otel_moesif.dialects.uri import absolute_uri, first_of_list, first_segment, host_of, path_of
from otel_moesif.spans import SpanKind

# What Traefik puts in where a backend gave no answer (ComputeStatusCode): the client went away; no connection
# or one that was cut off; timed out. A backend that answers so itself cannot be told from that.
_NO_ANSWER = (499, 502, 504)
_ERROR = 2  # Status.StatusCode of opentelemetry/proto/trace/v1/trace.proto
_NS_PER_MS = 1_000_000
# Middlewares that refuse a call themselves, by their spans' names, and WSO2's type and sub type for it. Most
# let one configure the status.
_REFUSALS: dict[str, tuple[str, str | None]] = {
    "BasicAuth": ("AUTH", "AUTHENTICATION_FAILURE"),
    "digestAuth": ("AUTH", "AUTHENTICATION_FAILURE"),
    "DigestAuth": ("AUTH", "AUTHENTICATION_FAILURE"),
    "ForwardAuth": ("AUTH", None),
    "IPAllowLister": ("AUTH", "AUTHORIZATION_FAILURE"),
    "IPWhiteLister": ("AUTH", "AUTHORIZATION_FAILURE"),
    "CircuitBreaker": ("TARGET_CONNECTIVITY", "CONNECTION_SUSPENDED"),
}


def _without_provider(name: pl.Expr) -> pl.Expr:
    """``shop`` of ``shop@file``."""
    return name.str.replace(r"@[^@]*$", "")


def _refusal(place: int) -> pl.Expr:
    """Error type (0) or sub type (1) where a span is that of a middleware which refused the call."""
    table = {name: meaning[place] for name, meaning in _REFUSALS.items()}
    meaning = pl.col("name").replace_strict(table, default=None, return_dtype=pl.String)
    return pl.when(pl.col("status_code") == _ERROR).then(meaning)


def call(a: Lookup) -> Fields:
    """The call, from its SERVER span: as the semantic conventions have it, but for these."""
    return {
        **semconv.call(a),
        "apiName": pl.lit(None, pl.String),  # service.name is Traefik itself
        "apiResourceTemplate": a.text("url.path"),
    }


def backend(a: Lookup) -> Fields:
    """One attempt at the backend, from a span ``ReverseProxy``."""
    status = a.integer("http.response.status_code")
    failed = status.is_in(_NO_ANSWER) | status.is_null()
    return {
        "destination": _without_user(a.text("url.full")),
        "status": pl.when(~failed).then(status),
        "failed": failed,
    }


def is_backend(_: Lookup) -> pl.Expr:
    """Not the CLIENT span of ``ForwardAuth``'s own request."""
    return (pl.col("kind") == SpanKind.CLIENT) & (pl.col("name") == "ReverseProxy")


def detail(a: Lookup) -> Fields:
    """From the INTERNAL spans of routers, services and middlewares."""
    router = a.text("traefik.router.name")
    return {
        "apiName": _without_provider(a.text("traefik.service.name", "traefik.router.name")),
        "apiId": router,
        "faultType": _refusal(0),
        "faultReason": _refusal(1),
    }


def is_detail(a: Lookup) -> pl.Expr:
    """INTERNAL spans that name what they are."""
    named = a.any("traefik.router.name", "traefik.service.name", "traefik.middleware.name")
    return (pl.col("kind") == SpanKind.INTERNAL) & named


def log_call(a: Lookup) -> Fields:
    """The call, from an access-log record."""
    target = a.text("RequestPath")
    path = path_of(target)
    duration = a.integer("Duration")
    start = pl.coalesce(a.integer("StartUTC", "StartLocal"), pl.col("time") - duration.fill_null(0))
    status = a.integer("DownstreamStatus")
    # Absent or 0 where no service was called.
    origin = a.integer("OriginStatus")
    called = (origin > 0).fill_null(value=False)
    waited = a.integer("OriginDuration")
    answered = pl.when(called & ~origin.is_in(_NO_ANSWER)).then(origin)
    trace_id = pl.coalesce(a.text("TraceId", "trace_id"), _hex("trace_id"))
    span_id = pl.coalesce(a.text("SpanId", "span_id"), _hex("span_id"))
    return {
        "start": start,
        "end": start + duration.fill_null(0),
        # The ids of the SERVER span, in the form in which they name a call by themselves.
        "callKey": pl.concat_str(trace_id, pl.lit(":"), span_id),
        "apiName": _without_provider(a.text("ServiceName", "RouterName")),
        "apiId": a.text("RouterName"),
        "apiMethod": a.text("RequestMethod"),
        "apiResourceTemplate": path,
        "apiContext": first_segment(path),
        "apiType": pl.when(status == 101).then(pl.lit("WS")).otherwise(pl.lit("HTTP")),
        "applicationName": a.text("ClientUsername"),
        "userName": a.text("ClientUsername"),
        "commonName": a.text("TLSClientSubject").str.extract(r"(?:^|,)\s*CN=([^,+]+)"),
        "correlationId": trace_id,
        "destination": pl.when(called).then(pl.coalesce(_service_url(a), a.text("ServiceAddr"))),
        "proxyResponseCode": status,
        "targetResponseCode": pl.coalesce(answered, pl.lit(-1)),
        "backendLatency": pl.when(called).then(waited / _NS_PER_MS),
        # The log has no split of Traefik's own time: all of it is counted before the backend.
        "requestMediationLatency": pl.when(called).then(
            pl.coalesce(a.integer("Overhead"), duration - waited) / _NS_PER_MS
        ),
        "userAgentHeader": a.text("request_User-Agent"),
        "userIp": host_of(first_of_list(a.text("ClientHost", "ClientAddr"))),
        "regionId": a.resource("cloud.region", "deployment.environment.name", "deployment.environment"),
        "responseSize": a.size("DownstreamContentSize"),
        "requestSize": a.size("RequestContentSize"),
        "responseContentType": a.text("downstream_Content-Type", "origin_Content-Type"),
        "requestUri": absolute_uri(
            target, a.text("RequestScheme"), a.text("RequestAddr", "RequestHost"), target
        ),
        "requestHeaders": a.headers("request_"),
        "responseHeaders": a.headers("downstream_"),
        "fault": (status >= 400) & ((answered < 400) | answered.is_null()),
    }


def is_log_call(a: Lookup) -> pl.Expr:
    """Records that carry a status; Traefik's own log has the same scope."""
    return a.integer("DownstreamStatus").is_not_null()


def _service_url(a: Lookup) -> pl.Expr:
    """``ServiceURL``: a URL, or Go's dump of one, ``{Scheme:http Opaque: User: Host:10.0.0.2:80 Path:/a …``.

    logrus gets a ``*url.URL`` (field_middleware.go); how it is written is up to the bridge to OpenTelemetry.
    """
    text = a.text("ServiceURL")
    dumped = pl.concat_str(
        text.str.extract(r"\bScheme:([^\s}]+)"),
        pl.lit("://"),
        text.str.extract(r"\bHost:([^\s}]+)"),
        text.str.extract(r"\bPath:([^\s}]*)"),
    )
    return pl.when(text.str.starts_with("{")).then(dumped).otherwise(_without_user(text))


def _without_user(url: pl.Expr) -> pl.Expr:
    return url.str.replace(r"^([A-Za-z][A-Za-z0-9+.\-]*://)[^/?#@]*@", "${1}")


def _hex(column: str) -> pl.Expr:
    text = pl.col(column).bin.encode("hex")
    return pl.when(text != "").then(text)


def _detect(source: Source, keys: frozenset[str]) -> bool:
    return (
        source.scope_name == "github.com/traefik/traefik"
        or (source.scope_name == "traefik" and not keys.isdisjoint({"RouterName", "DownstreamStatus"}))
        or {"entry_point", "http.request.method"} <= keys
    )


TRAEFIK = Dialect(
    name="traefik",
    gateway_type="TRAEFIK",
    detect=_detect,
    # Go's batch processor queues spans as they end, so those below a call come before it.
    spans=SpanTable(call, backend, is_backend, semconv.is_call, detail, is_detail, wait=0),
    logs=LogTable(log_call, is_log_call),
)
