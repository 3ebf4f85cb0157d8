"""Envoy Gateway: Envoy as envoyproxy/gateway (1.9) configures it.

Sources: internal/xds/translator/{accesslog,tracing}.go; shared tables: `otel_moesif.dialects.envoy`. Its log
has the names of ``EnvoyTextLogFormat`` as attributes, in older releases as one JSON text in the body, and the
pod's name and namespace always. Its spans carry nothing that tells them from any other Envoy's, so they are
taken for ``envoy`` unless ``gateway: envoy_gateway`` is configured; the tables are the same.
"""

from __future__ import annotations

from functools import partial

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects.dialect import Dialect, Fields, LogTable, Lookup, SpanTable
from otel_moesif.dialects.envoy import backend, call, is_backend, is_call
from otel_moesif.dialects.envoy_log import attribute_or_line, fields, is_http

_LOG_NAME = "otel_envoy_accesslog"
_POD = "k8s.pod.name"


def log_call(a: Lookup) -> Fields:
    """The call, from a record with attributes, a JSON text or a line of text."""
    return fields(a, partial(_read, a))


def is_log_call(a: Lookup) -> pl.Expr:
    """Records of requests."""
    return is_http(partial(_read, a))


def _read(a: Lookup, *names: str) -> pl.Expr:
    body = pl.col("body")
    document = pl.when(body.str.starts_with("{")).then(body)
    members = [document.str.json_path_match(f"$['{name}']") for name in names]
    there = [pl.when((text != "") & (text != "-")).then(text) for text in members]
    return pl.coalesce(attribute_or_line(a, *names), *there)


def _detect(source: Source, keys: frozenset[str]) -> bool:
    pod = _POD in keys or _POD in source.resource
    return pod and source.resource.get("log_name") == _LOG_NAME


ENVOY_GATEWAY = Dialect(
    name="envoy_gateway",
    gateway_type="ENVOY_GATEWAY",
    detect=_detect,
    # spawn_upstream_span is always set; but a call may be answered without any upstream.
    spans=SpanTable(call, backend, is_backend, is_call, wait=0),
    logs=LogTable(log_call, is_log_call),
)
