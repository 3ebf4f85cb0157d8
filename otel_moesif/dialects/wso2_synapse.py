"""WSO2 API Manager's Synapse gateway: its OpenTelemetry spans.

Sources: carbon-apimgt ``APIMgtGatewayConstants``, ``APIMgtLatencySynapseHandler``,
``APIMgtLatencyStatsHandler``, ``APIAuthenticationHandler``, ``TelemetryUtil``, ``OTLPTelemetry``;
a real trace in docs-apim ``monitoring-with-opentelemetry.md``. All values are texts. The spans of a call, and
what they end as:

============================  =========================================  =============================
started as                    ends as                                    says
============================  =========================================  =============================
``API:Response_Latency``      ``<api>--<version>--<tenant>`` (an API     ``span.*``: the call
                              that is not found leaves the first name)
``API:Resource``              ``<METHOD>--<resource>``                   nothing; it stands between
``API:Backend_Latency``       the same                                   ``span.endpoint``
``API:Key_Validation_…`` etc  the same                                   ``error`` when the check failed
============================  =========================================  =============================

Released versions send every span as INTERNAL, so a call is told by its attributes; nor may it be told by
having no parent, since a caller's ``traceparent`` is taken up. With carbon-apimgt PR 13940 come kinds,
``http.method`` and further ``http.*``, which are read where they are there. A backend span that never ends
(no answer came) is never sent: its absence says that the backend did not answer.

The spans do not have the application, the user, the caller's address or ids of API and application; the
analytics log (`otel_moesif.dialects.wso2_metrics_log`) has all of it. Of a gateway, take one of the two.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects.dialect import Dialect, Fields, Lookup, SpanTable
from otel_moesif.dialects.uri import first_of_list, host_of, path_of
from otel_moesif.json_columns import json_value

_SCOPE = "org.wso2.carbon.apimgt.tracing.telemetry"
_BACKEND = "API:Backend_Latency"
# Spans whose ``error`` says that the gateway refused the call, and WSO2's error type of that. The checks of
# CORS and mediation have no type of their own, and a failing Google Analytics handler stops no call.
_CHECKS: dict[str, str | None] = {
    "API:Key_Validation_Latency": "AUTH",
    "API:Throttle_Latency": "THROTTLED",
    "API:CORS_Request_Latency": None,
    "API:Request_Mediation_Latency": None,
    "API:Response_Mediation_Latency": None,
}
_NAME = r"^.+--.+--(.+)$"  # of the call's span, once the API is known: name, version, tenant domain
_STATUS = ("span.http.response.status.code", "http.response.status_code", "http.status_code")
_METHOD = ("span.request.method", "http.request.method", "http.method")
_URL = ("url.full", "http.url")


def context_of(path: pl.Expr, template: pl.Expr, version: pl.Expr) -> pl.Expr:
    """An API's base path: what stands before the resource.

    The resource itself where it has no variables; else up to the version, which a context ends with unless
    the call was for the default version; else as many segments less as the template has.

    Args:
        path: ``/pizzashack/1.0.0/menu``.
        template: ``/menu``, ``/order/{id}``, ``/*``.
        version: ``1.0.0``.
    """
    marked = pl.concat_str(pl.lit("/"), version, pl.lit("/"))
    before = pl.concat_str(path, pl.lit("/")).str.split(marked)
    up_to_version = pl.concat_str(before.list.first(), pl.lit("/"), version)
    segments = path.str.split("/")
    fewer = segments.list.head(segments.list.len() - template.str.count_matches("/", literal=True)).list.join(
        "/"
    )
    plain = path.str.ends_with(template) & ~template.str.contains(r"[{*]")
    found = (
        pl.when(plain)
        .then(path.str.strip_suffix(template))
        .when(before.list.len() > 1)
        .then(up_to_version)
        .when(~template.str.contains("*", literal=True))
        .then(fewer)
    )
    return pl.when(found != "").then(found)


def call(a: Lookup) -> Fields:
    """The call, from its own span."""
    target = pl.concat_str(pl.lit("/"), a.text("span.request.path").str.strip_prefix("/"))
    path = pl.coalesce(path_of(target), path_of(a.text(*_URL)), a.text("url.path"))
    template, version = a.text("span.resource"), a.text("span.api.version")
    return {
        "apiName": a.text("span.api.name"),
        "apiVersion": version,
        # The gateway's tenant, which is the creator's unless an API was published across tenants.
        "apiCreatorTenantDomain": pl.col("name").str.extract(_NAME),
        "apiMethod": a.text(*_METHOD),
        "apiResourceTemplate": pl.coalesce(template, a.text("http.route"), path),
        "apiContext": context_of(path, template, version),
        "correlationId": pl.coalesce(a.text("span.activity.id"), pl.col("trace_id").bin.encode("hex")),
        "proxyResponseCode": a.integer(*_STATUS),
        "userIp": pl.coalesce(
            a.text("client.address", "http.client_ip"),
            first_of_list(a.text("http.request.header.x-forwarded-for")),
            host_of(a.text("network.peer.address", "net.sock.peer.addr", "net.peer.ip")),
        ),
        "userAgentHeader": a.text("user_agent.original", "http.user_agent"),
        "userName": a.text("user.name", "user.id", "enduser.id"),
        "regionId": a.resource("cloud.region", "deployment.environment.name", "deployment.environment"),
        "requestUri": pl.coalesce(a.text(*_URL), target),
        "customProperties": _consumer_key(a.text("span.consumerkey")),
    }


def _consumer_key(key: pl.Expr) -> pl.Expr:
    """The OAuth client id, by which an application can be looked up; ``null`` where there was no token."""
    text = pl.format('{{"consumerKey":{}}}', json_value(key))
    return pl.when(key.is_not_null()).then(text)


def backend(a: Lookup) -> Fields:
    """The call of the backend, from its own span; an answer came, or it would not have ended."""
    return {"destination": a.text("span.endpoint", *_URL), "status": a.integer(*_STATUS)}


def is_backend(a: Lookup) -> pl.Expr:
    """By name, which this span keeps."""
    return (pl.col("name") == _BACKEND) | a.any("span.endpoint")


def is_call(a: Lookup) -> pl.Expr:
    """The span that has the request's method and path; only the call's own has them."""
    return a.any("span.request.method", "span.request.path")


def detail(_: Lookup) -> Fields:
    """A failed check: the gateway answered itself."""
    types = {name: kind for name, kind in _CHECKS.items() if kind}
    return {
        "fault": pl.lit(value=True),
        "faultType": pl.col("name").replace_strict(types, default=None, return_dtype=pl.String),
    }


def is_detail(a: Lookup) -> pl.Expr:
    """Spans of checks that failed."""
    return pl.col("name").is_in(list(_CHECKS)) & a.any("error")


def _detect(source: Source, keys: frozenset[str]) -> bool:
    return source.scope_name == _SCOPE or not keys.isdisjoint(
        {"span.request.method", "span.request.path", "span.api.name", "span.endpoint"}
    )


WSO2_SYNAPSE = Dialect(
    name="wso2_synapse",
    gateway_type="SYNAPSE",
    detect=_detect,
    # A check that fails answers first and ends after the call; OTLPTelemetry's BatchSpanProcessor may have
    # sent the call by then, and comes again after 5 s (the SDK's default).
    spans=SpanTable(call, backend, is_backend, is_call, detail, is_detail, wait=6),
)
