"""Tyk 5.15: SERVER and CLIENT spans of otelhttp, and with ``detailed_tracing`` one span per middleware.

Sources: tyk internal/otel/otel.go, gateway/middleware.go (each middleware's span is the parent of the next
one's, and of the CLIENT span), gateway/mw_*.go and handler_error.go (messages), TykTechnologies/opentelemetry
semconv/v1.0.0; ci/tests/tracing/scenarios. ``tyk.api.version``, ``tyk.api.apikey.alias``,
``tyk.api.oauthid``, ``graphql.*`` and the message of what failed stand on the SERVER span or, in detail, on
the middleware's.

``tyk.api.apikey`` is the hash of a key and is never taken. Nor is ``tyk.api.oauthid`` of a gateway before
5.3.2: it could be the key itself (release notes of 5.3.2).
"""

from __future__ import annotations

import polars as pl

from otel_moesif.dialects import semconv
from otel_moesif.dialects.dialect import Dialect, Fields, Lookup, SpanTable
from otel_moesif.dialects.uri import absolute_uri, authority_of
from otel_moesif.spans import SpanKind

_NOT_VERSIONED = "Non Versioned"  # internal/otel/otel.go, NON_VERSIONED
_STATUS_ERROR = 2  # opentelemetry/proto/trace/v1/trace.proto, Status.StatusCode
# service.version of gateways whose oauthid is the client's id: 5.3.2 and later.
_SAFE_VERSION = r"^v?(?:5\.3\.(?:[2-9]|\d\d)|5\.(?:[4-9]|\d\d)|[6-9]\.|\d\d)"

# What a middleware answers, as the span's status message, and WSO2's type and sub type of it; patterns, the
# first that fits. Quotas are refused with 403, and so are keys that do not exist.
_MESSAGES: tuple[tuple[str, str, str], ...] = (
    # mw_api_rate_limit.go, mw_rate_limiting.go (of a key), mw_organisation_activity.go
    (r"^API Rate Limit Exceeded", "THROTTLED", "API_LEVEL_LIMIT_EXCEEDED"),
    (r"^Rate Limit Exceeded", "THROTTLED", "APPLICATION_LEVEL_LIMIT_EXCEEDED"),
    (r"^Quota Exceeded", "THROTTLED", "SUBSCRIPTION_LIMIT_EXCEEDED"),
    (r"^This organisation (?:quota|rate limit) has been exceeded", "THROTTLED", "OTHER"),
    (r"^This organization access has been disabled or quota", "THROTTLED", "OTHER"),
    (r"^This organisation access has been disabled", "AUTH", "SUBSCRIPTION_VALIDATION_FAILURE"),
    # handler_error.go, mw_auth_key.go, mw_key_expired_check.go, mw_access_rights.go
    (r"^Authori[sz]ation field missing", "AUTH", "AUTHENTICATION_FAILURE"),
    (r"^(?:Bearer token malformed|Key not authori[sz]ed|Key has expired)", "AUTH", "AUTHENTICATION_FAILURE"),
    (r"^Key is inactive", "AUTH", "SUBSCRIPTION_VALIDATION_FAILURE"),
    (r"^(?:Client certificate|Certificate has expired)", "AUTH", "AUTHENTICATION_FAILURE"),
    (r"^Request signature verification failed", "AUTH", "AUTHENTICATION_FAILURE"),
    (r"^Access to this API has been disallowed", "AUTH", "AUTHORIZATION_FAILURE"),
    (r"^(?:Access denied|Requested endpoint is forbidden)", "AUTH", "AUTHORIZATION_FAILURE"),
    # mw_version_check.go, with 403 or 404
    (r"^(?:Version information not found|This API version)", "OTHER", "RESOURCE_NOT_FOUND"),
)


def call(a: Lookup) -> Fields:
    """The call, from its SERVER span."""
    listen = a.text("tyk.api.path")
    path = a.text("tyk.original_path", "url.path")
    rest = path.str.strip_prefix(listen.str.strip_suffix("/"))
    rest = pl.when(rest.str.starts_with("/")).then(rest).when(rest == "").then(pl.lit("/")).otherwise(path)
    scheme = a.text("url.scheme", "http.scheme")
    host = authority_of(
        a.text("server.address", "net.host.name"), a.integer("server.port", "net.host.port"), scheme
    )
    return {
        **semconv.call(a),
        "apiName": a.text("tyk.api.name"),
        "apiId": a.text("tyk.api.id"),
        "apiCreatorTenantDomain": a.text("tyk.api.orgid"),
        "apiResourceTemplate": pl.coalesce(a.text("http.route"), rest, path),
        "apiContext": pl.when(listen == "/").then(listen).otherwise(listen.str.strip_suffix("/")),
        "apiType": _special_type(a),
        "requestUri": absolute_uri(pl.lit(None, pl.String), scheme, host, path),
        **_anywhere(a),
    }


def detail(a: Lookup) -> Fields:
    """What a middleware's span knows."""
    return {"apiType": _special_type(a), **_anywhere(a)}


def is_detail(_: Lookup) -> pl.Expr:
    """Middleware spans, and those of the GraphQL engine."""
    return pl.col("kind") == SpanKind.INTERNAL


def otherwise(_: Lookup) -> Fields:
    """What holds where no span says better."""
    return {"apiType": pl.lit("HTTP")}


def _anywhere(a: Lookup) -> Fields:
    """What stands on the SERVER span or on the middleware's, as ``detailed_tracing`` says."""
    version = a.text("tyk.api.version")
    safe = a.resource("service.version").str.contains(_SAFE_VERSION).fill_null(value=False)
    message = pl.when(pl.col("status_code") == _STATUS_ERROR).then(pl.col("status_message"))
    return {
        "apiVersion": pl.when(version != _NOT_VERSIONED).then(version),
        "applicationName": a.text("tyk.api.apikey.alias"),
        "applicationId": pl.when(safe).then(a.text("tyk.api.oauthid")),
        "faultType": _told(message, 1),
        "faultReason": _told(message, 2),
    }


def _told(message: pl.Expr, place: int) -> pl.Expr:
    found = [pl.when(message.str.contains(rf"(?i){row[0]}")).then(pl.lit(row[place])) for row in _MESSAGES]
    return pl.coalesce(found)


def _special_type(a: Lookup) -> pl.Expr:
    """``apiType`` where a span says that it is not plain HTTP."""
    kind = semconv.api_type(a)
    return pl.when(kind != "HTTP").then(kind)


TYK = Dialect(
    name="tyk",
    gateway_type="TYK",
    detect=lambda source, keys: "tyk.gw.id" in source.resource or "tyk.api.id" in keys,
    spans=SpanTable(call, semconv.backend, semconv.is_backend, semconv.is_call, detail, is_detail, otherwise),
)
