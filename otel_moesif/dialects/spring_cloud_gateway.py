"""Spring Cloud Gateway 5.0: Micrometer's observations, and the OpenTelemetry Java agent.

Sources: spring-cloud-gateway ``DefaultGatewayObservationConvention`` and ``GatewayDocumentedObservation``
(the CLIENT span, which alone names the route), spring-framework
``DefaultServerRequestObservationConvention`` (the SERVER span: ``method``, ``uri``, ``status`` and, as
``http.url``, the path alone). All values are strings, and where there is none stands a word. The agent
(opentelemetry-java-instrumentation, ``instrumentation/spring/spring-cloud-gateway``) speaks the stable
conventions with the route's id as ``http.route`` of the SERVER span; only its experimental attributes
(``otel.instrumentation.spring-cloud-gateway.experimental-span-attributes``) tell it from any other Java
program, so without them it needs ``gateway: spring_cloud_gateway``.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects import semconv
from otel_moesif.dialects.dialect import Dialect, Fields, Lookup, SpanTable
from otel_moesif.dialects.uri import first_segment, path_of
from otel_moesif.spans import SpanKind

_ROUTE_ID = ("spring.cloud.gateway.route.id", "spring-cloud-gateway.route.id")
_ROUTE_URI = ("spring.cloud.gateway.route.uri", "spring-cloud-gateway.route.uri")
_CODES = ("status", "http.response.status_code", "http.status_code")
# Micrometer's words for "none" (KeyValue.NONE_VALUE, DefaultServerRequestObservationConvention).
_NONE = ("UNKNOWN", "none", "NOT_FOUND", "REDIRECTION")


def call(a: Lookup) -> Fields:
    """The call, from its SERVER span; what only the CLIENT span knows is null."""
    route = _known(a.text("http.route"))  # of the agent an id, of Spring Framework 7.1 a pattern
    template = pl.when(route.str.starts_with("/")).then(route)
    route_id = pl.coalesce(a.text(*_ROUTE_ID), pl.when(~route.str.starts_with("/")).then(route))
    uri = _known(a.text("uri"))
    pattern = pl.when(uri == "root").then(pl.lit("/")).otherwise(uri)
    path = path_of(_known(a.text("url.path", "http.url", "http.target", "url.full")))
    return {
        **semconv.call(a),
        "apiName": route_id,
        "apiId": route_id,
        "apiMethod": _known(a.text("method", "http.request.method", "http.method")),
        "apiResourceTemplate": pl.coalesce(pattern, template, path),
        "apiContext": first_segment(path),
        "proxyResponseCode": a.integer(*_CODES),
    }


def backend(a: Lookup) -> Fields:
    """The routed request. Micrometer's ``http.uri`` is the URI that came in, not the one that went out."""
    incoming = a.text("http.uri")
    status = a.integer("http.status_code", "http.response.status_code")
    return {
        "apiName": a.text(*_ROUTE_ID),
        "apiId": a.text(*_ROUTE_ID),
        "apiResourceTemplate": path_of(incoming),
        "apiContext": first_segment(path_of(incoming)),
        "requestUri": incoming,
        "destination": pl.coalesce(a.text(*_ROUTE_URI), semconv.backend(a)["destination"]),
        "status": status,
        "failed": status.is_null(),
    }


def otherwise(a: Lookup) -> Fields:
    """Where no route was found, or the agent names none (it leaves out ids that are UUIDs)."""
    return {
        "apiName": a.resource("service.name"),
        "requestUri": _known(a.text("http.url")),
        "destination": a.text(*_ROUTE_URI),
    }


def is_backend(a: Lookup) -> pl.Expr:
    """The gateway's CLIENT spans; those of a WebClient, which have an ``outcome``, serve its own needs."""
    routed = a.any(*_ROUTE_ID) | (semconv.is_backend(a) & ~a.any("outcome", "client.name"))
    return (pl.col("kind") == SpanKind.CLIENT) & routed


def is_call(a: Lookup) -> pl.Expr:
    """SERVER spans of Micrometer or of the agent."""
    micrometer = a.any("method") & a.any("status", "outcome")
    return ((pl.col("kind") == SpanKind.SERVER) & micrometer) | semconv.is_call(a)


def _known(text: pl.Expr) -> pl.Expr:
    return pl.when(~text.is_in(_NONE)).then(text)


def _detect(_source: Source, keys: frozenset[str]) -> bool:
    return not keys.isdisjoint(_ROUTE_ID)


SPRING_CLOUD_GATEWAY = Dialect(
    name="spring_cloud_gateway",
    gateway_type="SPRING_CLOUD_GATEWAY",
    detect=_detect,
    # spring.cloud.gateway.observability.enabled may be off: then only the SERVER span is there.
    spans=SpanTable(call, backend, is_backend, is_call, otherwise=otherwise, absence_proves=False),
)
