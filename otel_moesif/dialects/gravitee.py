"""Gravitee APIM 4.13: one tracer per API, so that the API's identity stands on the resource.

Sources: gravitee-api-management ``TracerResourceAttributes.java`` (resource), ``AbstractTracingHook.java``,
``TracingPolicyHook.java`` (policies and failures), gravitee-node ``gravitee-node-opentelemetry`` (HTTP: the
legacy names, or the stable ones with ``otel.semconv-stability.opt-in``; both are read, see `semconv`), and
the documentation's "Gateway error key reference" and "Response templates" (error keys). A request that no
API takes comes from the gateway's own tracer, without an API. Who called (``gravitee.attribute.user``,
``.application``) is told only by span events of the verbose mode, which are not read.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects import semconv
from otel_moesif.dialects.dialect import Dialect, Fields, Lookup, SpanTable
from otel_moesif.dialects.uri import path_of

_SCOPES = "io.gravitee.opentelemetry"
_FAILURE = "gravitee.execution-failure.key"

# Error key (regular expression): WSO2's error type and sub type; the first that fits. Sub type None: by the
# status. Other keys (of validation, of transformation, a policy's own) are told apart by the status.
_FAILURES: tuple[tuple[str, str, str | None], ...] = (
    (r"TOO_MANY_REQUESTS$", "THROTTLED", None),
    (r"^RBAC_|^RESOURCE_FILTERING_FORBIDDEN$", "AUTH", "AUTHORIZATION_FAILURE"),
    (r"INSUFFICIENT_SCOPE$|ACCESS_DENIED$", "AUTH", "AUTHORIZATION_FAILURE"),
    (r"^OAUTH2_(SERVER_UNAVAILABLE|MISSING_SERVER|INVALID_SERVER_RESPONSE)$", "AUTH", "OTHER"),
    (r"^GATEWAY_OAUTH2_SERVER_ERROR$|^JWT_JWKS_RESOLUTION_ERROR$", "AUTH", "OTHER"),
    (r"^(API_KEY|JWT|OAUTH2|GATEWAY_OAUTH2|HTTP_SIGNATURE)_", "AUTH", "AUTHENTICATION_FAILURE"),
    (r"^GATEWAY_(PLAN_UNRESOLVABLE|MISSING_SECURITY_PROVIDER)$", "AUTH", "AUTHENTICATION_FAILURE"),
    (r"^NO_ENDPOINT_FOUND$|_POOL_EXHAUSTED$", "TARGET_CONNECTIVITY", "CONNECTION_SUSPENDED"),
    (r"^REQUEST_TIMEOUT$|^(GATEWAY_CLIENT|UPSTREAM)_.*TIMEOUT$", "TARGET_CONNECTIVITY", "CONNECTION_TIMEOUT"),
    (r"^(GATEWAY_CLIENT|UPSTREAM)_", "TARGET_CONNECTIVITY", "OTHER"),
    (r"METHOD_NOT_ALLOWED$|^INVALID_HTTP_METHOD$", "OTHER", "METHOD_NOT_ALLOWED"),
)


def call(a: Lookup) -> Fields:
    """The call, from its SERVER span; ``http.route`` is the path under which the API stands."""
    route = a.text("http.route")
    context = route.str.strip_suffix("/")
    target = a.text("url.path", "http.target", "url.full", "http.url")
    status = a.integer("http.response.status_code", "http.status_code")
    api = a.resource("gravitee.api.id")
    return {
        **semconv.call(a),
        "apiName": a.resource("gravitee.api.name", "gravitee.api.id"),
        "apiId": api,
        "apiCreatorTenantDomain": a.resource("gravitee.org.id"),
        "apiContext": pl.when(context == "").then(pl.lit("/")).otherwise(context),
        "apiResourceTemplate": pl.coalesce(path_of(target), route),
        "correlationId": pl.coalesce(
            a.text("gravitee.request.id", "gravitee.transaction.id"), pl.col("trace_id").bin.encode("hex")
        ),
        # No API took it.
        "fault": pl.when(api.is_null() & route.is_null() & (status == 404)).then(pl.lit(value=True)),
    }


def detail(a: Lookup) -> Fields:
    """What a policy, a phase or the invoker says of its failure: then Gravitee answered itself.

    A failure with another status than an error's is one after the answer had begun
    (``GATEWAY_CLIENT_STREAM_ENDED_EARLY``): that was the backend's answer.
    """
    key = a.text(_FAILURE)
    status = a.integer("gravitee.execution-failure.status-code")
    return {
        "fault": pl.when(key.is_not_null() & (status.fill_null(500) >= 400)).then(pl.lit(value=True)),
        "faultType": _classified(key, 1),
        "faultReason": _classified(key, 2),
        "proxyResponseCode": status,
    }


def is_detail(a: Lookup) -> pl.Expr:
    """Spans that say why a call failed."""
    return a.any(_FAILURE)


def is_backend(a: Lookup) -> pl.Expr:
    """HTTP requests, but not those that a policy makes (introspection of a token, a callout).

    Such a one is a child of its policy's span. If that comes in another batch it is taken for an attempt;
    the invoker's own ends later, so that only a call that never got that far is affected.
    """
    policies = pl.col("span_id").filter(a.any("gravitee.policy")).implode()
    return semconv.is_backend(a) & ~pl.col("parent_span_id").is_in(policies)


def _classified(key: pl.Expr, place: int) -> pl.Expr:
    """Error type (1) or sub type (2) of an error key."""
    found = pl.lit(None, pl.String)
    for row in reversed(_FAILURES):
        found = pl.when(key.str.contains(row[0])).then(pl.lit(row[place], pl.String)).otherwise(found)
    return found


def _detect(source: Source, _keys: frozenset[str]) -> bool:
    return source.scope_name.startswith(_SCOPES) or not source.resource.keys().isdisjoint(
        {"gravitee.api.id", "gravitee.module"}
    )


GRAVITEE = Dialect(
    name="gravitee",
    gateway_type="GRAVITEE",
    detect=_detect,
    # An API may stand on something else than HTTP (a mock, a broker), which makes no CLIENT span of HTTP.
    spans=SpanTable(
        call,
        semconv.backend,
        is_backend,
        semconv.is_call,
        detail=detail,
        is_detail=is_detail,
        absence_proves=False,
    ),
)
