"""NGINX: ``ngx_otel_module`` (nginxinc/nginx-otel) and ``otel_ngx_module`` (ingress-nginx and others).

Sources: nginx-otel src/http_module.cpp; opentelemetry-cpp-contrib
instrumentation/nginx/src/otel_ngx_module.cpp; the variables of ngx_http_upstream_module and
ngx_http_limit_req_module.
Both make one SERVER span per request, in milliseconds, with legacy names:

=====================  ================================  ======================
field                  ngx_otel_module                   otel_ngx_module
=====================  ================================  ======================
apiName                ``net.host.name``                 ``http.server_name``
apiResourceTemplate    ``http.route`` (the location)     path of ``http.target``
userIp                 ``net.sock.peer.addr``            ``net.peer.ip``
host of requestUri     ``net.host.name`` and ``.port``   ``http.host``
sizes                  ``http.*_content_length``         none
=====================  ================================  ======================

What the backend did only variables tell, if they are configured as attributes under their own names or with
``nginx.`` before it (``otel_span_attr upstream_status $upstream_status;`` or ``opentelemetry_attribute``):
``upstream_status``, ``upstream_addr``, ``upstream_response_time`` and ``upstream_header_time`` (seconds),
``upstream_cache_status``, ``limit_req_status``, ``limit_conn_status``, ``request_id``, ``remote_user``,
``http_x_forwarded_for``. After retries they are lists, ``0.012, 0.034``, and after an internal redirect
groups of lists, ``0.012 : 0.1``; the last item is the last attempt, ``-`` an attempt without an answer.

Recent sources of nginx-otel can make CLIENT spans (``otel_upstream_span_enable``, seen in 111f621; the
release is not known); they are read like anybody's.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects import semconv
from otel_moesif.dialects.dialect import Dialect, Fields, Lookup, SpanTable
from otel_moesif.dialects.uri import first_of_list, host_of

_MS_PER_S = 1000
_NS_PER_MS = 1_000_000
_CATCH_ALL = "_"  # server_name of a server that takes what no other does
_LAST = r"([^\s,]+)\s*$"
# $upstream_cache_status of an answer that no backend gave (REVALIDATED and EXPIRED asked it).
_FROM_CACHE = ("HIT", "STALE", "UPDATING")
# A limit that refuses answers 503 unless limit_req_status says 429.
_REFUSED = "REJECTED"
_ERROR = 400  # RFC 9110 15.5


def call(a: Lookup) -> Fields:
    """The call, from its SERVER span."""
    status = a.integer("http.status_code")
    server = a.text("http.server_name", "net.host.name")
    named = pl.when(server != _CATCH_ALL).then(server)
    answer = _answer(a)
    answered = answer.is_not_null()
    not_answered = ~answered & _tells_of_backend(a)
    refused = _is(_last(a, "limit_req_status"), _REFUSED) | _is(_last(a, "limit_conn_status"), _REFUSED)
    cached = _is(_last(a, "upstream_cache_status"), *_FROM_CACHE)
    backend = a.last_number(*_names("upstream_response_time")) * _MS_PER_S
    total = (pl.col("end") - pl.col("start")) / _NS_PER_MS
    forwarded = a.text(
        *_names("http_x_forwarded_for"), *(f"http.request.header.x{dash}forwarded{dash}for" for dash in "-_")
    )
    return {
        **semconv.call(a),
        "apiName": pl.coalesce(named, host_of(a.text("http.host")), a.resource("service.name")),
        "correlationId": pl.coalesce(a.text(*_names("request_id")), pl.col("trace_id").bin.encode("hex")),
        "userName": a.text(*_names("remote_user"), "user.name", "user.id", "enduser.id"),
        "userIp": host_of(pl.coalesce(first_of_list(forwarded), a.text("net.sock.peer.addr", "net.peer.ip"))),
        "responseContentType": a.text(*(f"http.response.header.content{dash}type" for dash in "_-.")),
        "responseCacheHit": cached,
        "destination": _last(a, "upstream_addr"),
        "targetResponseCode": pl.when(answered).then(answer).when(not_answered | refused | cached).then(-1),
        "backendLatency": backend,
        # The variables have no split of the gateway's own time: all of it is counted before the backend.
        "requestMediationLatency": total - backend,
        "responseMediationLatency": pl.when(backend.is_not_null()).then(0.0),
        # Null where nothing was configured: then no span tells who refused.
        "fault": pl.when(refused)
        .then(pl.lit(value=True))
        .when(answered)
        .then((status >= _ERROR) & (answer < _ERROR))
        .when(not_answered)
        .then(status >= _ERROR),
        "faultType": pl.when(refused).then(pl.lit("THROTTLED")),
        "faultReason": pl.when(refused).then(pl.lit("OTHER")),
    }


def _names(variable: str) -> tuple[str, str]:
    return variable, f"nginx.{variable}"


def _last(a: Lookup, variable: str) -> pl.Expr:
    """The last attempt's item of a variable; ``-`` says that there was none."""
    return a.text(*_names(variable)).str.extract(_LAST)


def _is(value: pl.Expr, *wanted: str) -> pl.Expr:
    return value.is_in(wanted).fill_null(value=False)


def _answer(a: Lookup) -> pl.Expr:
    """Status that the last backend answered; null where NGINX put its own 502 or 504 there."""
    no_header = _is(_last(a, "upstream_header_time"), "-") | _is(
        a.plain(*_names("upstream_header_time")).cast(pl.String), "-"
    )
    return pl.when(~no_header).then(_last(a, "upstream_status").cast(pl.Int64, strict=False))


def _tells_of_backend(a: Lookup) -> pl.Expr:
    """Whether the record would say so if a backend had answered: the variable is sent, be it empty."""
    address = _names("upstream_addr")
    return a.any(*_names("upstream_status")) | (a.any(*address) & a.text(*address).is_null())


def _detect(source: Source, _: frozenset[str]) -> bool:
    native = bool(source.scope_version)
    return source.scope_name == "nginx" and (native or source.resource.get("telemetry.sdk.language") == "cpp")


NGINX = Dialect(
    name="nginx",
    gateway_type="NGINX",
    detect=_detect,
    spans=SpanTable(call, semconv.backend, semconv.is_backend, semconv.is_call, absence_proves=False),
)
