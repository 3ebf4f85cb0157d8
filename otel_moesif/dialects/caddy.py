"""Caddy 2.11: ``modules/caddyhttp/tracing/tracer.go``, one otelhttp SERVER span per request.

The span's name is what ``tracing { span … }`` says, ``handler`` by default; the only thing that names an API.
Caddy has no CLIENT spans. What the backend did, placeholders tell that are configured as ``span_attributes``
under their own names (modules/caddyhttp/reverseproxy/reverseproxy.go, modules/caddyhttp/replacer.go); they
are filled in when the answer is there::

    tracing {
        span orders
        span_attributes {
            http.reverse_proxy.upstream.hostport {http.reverse_proxy.upstream.hostport}
            http.reverse_proxy.upstream.latency_ms {http.reverse_proxy.upstream.latency_ms}
            http.reverse_proxy.status_code {http.reverse_proxy.status_code}
            http.auth.user.id {http.auth.user.id}
            http.request.uuid {http.request.uuid}
        }
    }

Errors that a handler returns (a backend that does not answer, basic_auth) become an answer only after the
span has ended, so that it says 200 (inferred from tracer.go and otelhttp, not observed). Of these the
backend's alone can be told: chosen, but no latency.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.dialects import semconv
from otel_moesif.dialects.dialect import Dialect, Fields, Lookup, SpanTable

_STATUS = "http.reverse_proxy.status_code"
_UPSTREAM = "http.reverse_proxy.upstream.hostport"
_LATENCY = ("http.reverse_proxy.upstream.latency_ms", "http.reverse_proxy.upstream.duration_ms")
_DEFAULT_SPAN = "handler"  # tracer.go, defaultSpanName
_DEFAULT_SERVICE = "unknown_service:"  # what the SDK says where OTEL_SERVICE_NAME is not set
_ERROR = 400  # RFC 9110 15.5
_BAD_GATEWAY = 502  # reverseproxy.go, statusError
_NS_PER_MS = 1_000_000


def call(a: Lookup) -> Fields:
    """The call, from its SERVER span."""
    generic = semconv.call(a)
    status = generic["proxyResponseCode"]
    name, service = pl.col("name"), a.resource("service.name")
    latency = a.number(*_LATENCY)
    answer = pl.coalesce(a.integer(_STATUS), pl.when(latency.is_not_null()).then(status))
    answered = answer.is_not_null()
    not_answered = a.any(*_LATENCY, _STATUS) & ~answered
    unreachable = not_answered & a.text(_UPSTREAM).is_not_null()
    code = pl.when(unreachable & (status < _ERROR)).then(_BAD_GATEWAY).otherwise(status)
    total = (pl.col("end") - pl.col("start")) / _NS_PER_MS
    return {
        **generic,
        "apiName": pl.coalesce(
            pl.when(~name.is_in(("", _DEFAULT_SPAN))).then(name),
            pl.when(~service.str.starts_with(_DEFAULT_SERVICE)).then(service),
            a.text("server.address", "net.host.name"),
        ),
        "correlationId": pl.coalesce(a.text("http.request.uuid"), generic["correlationId"]),
        "userName": a.text("http.auth.user.id", "user.name", "user.id", "enduser.id"),
        "destination": a.text(_UPSTREAM),
        "proxyResponseCode": code,
        "targetResponseCode": pl.when(answered).then(answer).when(not_answered).then(-1),
        "backendLatency": latency,
        # The placeholders have no split of the gateway's own time: all of it is counted before the backend.
        "requestMediationLatency": total - latency,
        "responseMediationLatency": pl.when(latency.is_not_null()).then(0.0),
        # Null where the placeholder is not configured: then no span tells who refused.
        "fault": pl.when(answered)
        .then((status >= _ERROR) & (answer < _ERROR))
        .when(not_answered)
        .then(code >= _ERROR),
        "faultType": pl.when(unreachable).then(pl.lit("TARGET_CONNECTIVITY")),
    }


CADDY = Dialect(
    name="caddy",
    gateway_type="CADDY",
    detect=lambda source, _: source.resource.get("webengine.name") == "Caddy",
    spans=SpanTable(call, is_call=semconv.is_call, absence_proves=False, wait=0),
)
