"""WSO2 API Platform's gateway: an Envoy (the router) and its policy engine, in one trace.

Sources: api-platform 1c23c350 gateway-controller ``pkg/xds/translator.go`` (the router's tracing:
``spawn_upstream_span``, the custom tags ``peer.service`` and ``http.route``), policy-engine
``internal/constants/constants.go`` (span names and attributes), ``internal/kernel/extproc.go`` and
``internal/tracing/span_status.go`` (what stands on which), ``gateway/build.yaml`` (the policies). The
router's spans are Envoy's (`otel_moesif.dialects.envoy`); below them stand the policy engine's:

=====================================  ======================================================================
``external_processing.process``        SERVER, but no call: ``api_name``, ``api_version``, ``api_context``,
                                       ``operation_path``, and the outcome (``terminal.reason``, status)
``policy.request.<n>``, ``.response.`` ``policy.name``; ``policy.short_circuit`` on the one that answered
=====================================  ======================================================================

No span has the application, the user or ids.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects import envoy
from otel_moesif.dialects.dialect import Dialect, Fields, Lookup, SpanTable
from otel_moesif.json_columns import json_value

_ROUTER, _POLICY_ENGINE = "router", "policy-engine"
_PROCESS = "external_processing.process"
_ENGINE = r"^(?:external_processing|policy)\."
# ``terminal.reason``: whose answer the caller got. Every other one is the engine's own.
_FROM_BACKEND = "upstream_response"
# The same, where it says what kind of fault that is; a policy that denied says so on its own span.
_REASONS: dict[str, str] = {
    "policy_error": "OTHER",
    "payload_too_large": "OTHER",
    "no_policy_chain": "OTHER",
    "unknown_message_type": "OTHER",
    "processing_failed": "OTHER",
    "resolution_failed": "OTHER",
}
# Names of policies (gateway/build.yaml, and by the same pattern those that people write themselves).
_THROTTLES = r"rate-?limit|quota|throttl"
_AUTHENTICATES = r"auth|jwt|api-key|acl|subscription"
_GUARDS = r"guard|content-safety|content-moderation"
_CACHES = r"cache"
# The router's own spans of these fields say less than the policy engine's.
_ENGINE_KNOWS = ("apiName", "apiContext", "apiResourceTemplate")


def call(a: Lookup) -> Fields:
    """The call, from the router's SERVER span."""
    found = envoy.call(a)
    hit = found["responseCacheHit"]
    return {
        **{name: value for name, value in found.items() if name not in _ENGINE_KNOWS},
        "responseCacheHit": pl.when(hit).then(hit),
    }


def otherwise(a: Lookup) -> Fields:
    """What the router knows where the policy engine did not run or its spans did not come."""
    found = envoy.call(a)
    return {name: found[name] for name in _ENGINE_KNOWS}


def backend(a: Lookup) -> Fields:
    """One attempt at the backend, from the router's CLIENT span; its host by name rather than by address."""
    found = envoy.backend(a)
    return {**found, "destination": pl.coalesce(a.text("peer.service"), found["destination"])}


def is_call(a: Lookup) -> pl.Expr:
    """The router's; the policy engine's SERVER spans are of its own protocol with the router."""
    return envoy.is_call(a) & ~_of_engine()


def _of_engine() -> pl.Expr:
    return pl.col("name").str.contains(_ENGINE)


def detail(a: Lookup) -> Fields:
    """What the policy engine says: of the API, of the outcome, and which policy answered."""
    reason = a.text("terminal.reason")
    status = a.integer("http.response.status_code")
    denied = pl.when(a.text("policy.short_circuit") == "true").then(a.text("policy.name"))
    return {
        "apiName": a.text("api_name"),
        "apiVersion": a.text("api_version"),
        "apiContext": a.text("api_context"),
        "apiResourceTemplate": a.text("operation_path"),
        "fault": pl.when(reason.is_not_null()).then((reason != _FROM_BACKEND) & (status >= 400)),
        "faultType": pl.coalesce(
            pl.when(denied.str.contains(_THROTTLES))
            .then(pl.lit("THROTTLED"))
            .when(denied.str.contains(_GUARDS))
            .then(pl.lit("GUARDRAIL_FAULT"))
            .when(denied.str.contains(_AUTHENTICATES))
            .then(pl.lit("AUTH")),
            reason.replace_strict(_REASONS, default=None, return_dtype=pl.String),
        ),
        "faultReason": pl.when(denied.str.contains(_GUARDS)).then(pl.lit("GUARDRAIL_HIT")),
        "responseCacheHit": pl.when(denied.str.contains(_CACHES)).then(pl.lit(value=True)),
        # not one that redirects, answers a preflight or from a cache
        "customProperties": pl.when(denied.str.contains(f"{_THROTTLES}|{_GUARDS}|{_AUTHENTICATES}")).then(
            pl.format('{{"blocked_by":{}}}', json_value(denied))
        ),
    }


def is_detail(_: Lookup) -> pl.Expr:
    """The policy engine's spans."""
    return _of_engine()


def _detect(source: Source, keys: frozenset[str]) -> bool:
    if source.resource.get("service.name") == _POLICY_ENGINE or "terminal.reason" in keys:
        return not keys.isdisjoint({"terminal.reason", "api_name", "policy.name", "policy_count"})
    router = source.resource.get("service.name") == _ROUTER or {"http.route", "peer.service"} <= keys
    return router and envoy.speaks_envoy(source, keys)


WSO2_API_PLATFORM = Dialect(
    name="wso2_api_platform",
    gateway_type="WSO2_API_PLATFORM",
    detect=_detect,
    # The policy engine sends its spans once a second (its tracing.batch_timeout), the router its own every
    # five (Envoy's tracing.opentelemetry.flush_interval_ms) or five spans.
    spans=SpanTable(
        call,
        backend,
        envoy.is_backend,
        is_call,
        detail,
        is_detail,
        otherwise,
        awaits_detail=True,
        wait=3,
    ),
)
