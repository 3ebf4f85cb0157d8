"""Istio: Envoy as gateway, sidecar or waypoint, with the tags and the access log that istiod configures.

Sources: istio pilot/pkg/networking/core/tracing.go (tags ``istio.*``, set on upstream spans too) and
pilot/pkg/model/telemetry_logging.go; shared tables: `otel_moesif.dialects.envoy`. The log comes without
resource and scope, its body is a line in ``EnvoyTextLogFormat``; with labels it has the names of
``EnvoyJSONLogFormatIstio``. Each proxy on the way of a request reports it: gateway, sidecar of the caller,
sidecar of the service. Each of these is a call of its own.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects.dialect import Dialect, Fields, LogTable, Lookup, SpanTable
from otel_moesif.dialects.envoy import backend, call, is_backend, is_call, speaks_envoy
from otel_moesif.dialects.envoy_answers import service_of
from otel_moesif.dialects.envoy_log import ISTIO_LINE, is_log_call, log_call

_LABELS = frozenset(
    {"x_forwarded_for", "upstream_service_time", "request_id", "upstream_transport_failure_reason"}
)


def span_call(a: Lookup) -> Fields:
    """The call, from the downstream span, with the names that the mesh has for its two ends.

    ``istio.canonical_service`` is the proxy's own workload: the service that is called only where the request
    goes to the workload beside it. Waypoints know both ends.
    """
    cluster = service_of(a.text("upstream_cluster.name", "upstream_cluster"))
    return {
        **call(a),
        "apiName": pl.coalesce(
            _in_namespace(a, "istio.destination_canonical_service", "istio.destination_namespace"),
            cluster,
            _in_namespace(a, "istio.canonical_service", "istio.namespace"),
            a.resource("service.name"),
        ),
        "applicationName": _in_namespace(a, "istio.source_canonical_service", "istio.source_namespace"),
    }


def _in_namespace(a: Lookup, service: str, namespace: str) -> pl.Expr:
    """``reviews.default``, as in Istio's own ``service.name``; ``unknown`` is its word for no service."""
    name = a.text(service)
    name = pl.when(name != "unknown").then(name)
    return pl.coalesce(pl.concat_str(name, pl.lit("."), a.text(namespace)), name)


def _detect(source: Source, keys: frozenset[str]) -> bool:
    tagged = any(key.startswith("istio.") for key in keys)
    labelled = not source.resource and not source.scope_name and len(_LABELS & keys) > 1
    return speaks_envoy(source, keys) and (tagged or labelled)


ISTIO = Dialect(
    name="istio",
    gateway_type="ISTIO",
    detect=_detect,
    spans=SpanTable(span_call, backend, is_backend, is_call, absence_proves=False, wait=0),
    logs=LogTable(log_call, is_log_call),
    body=ISTIO_LINE,
)
