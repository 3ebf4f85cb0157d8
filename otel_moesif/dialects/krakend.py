"""KrakenD: spans of krakend-otel (0.14), which spell a call by the stable semantic conventions.

Sources: krakend-otel http/server/{server,traces,tracking}.go and http/attributes.go (the call),
http/client/transport_traces.go and lura/{backend,attributes}.go (its backends). What differs from `semconv`:

- the SERVER span has stage ``global`` and, in ``url.full``, only path and query; its status is Ok whatever
  was answered, so it counts for nothing here;
- ``http.route`` is the endpoint's pattern, or one of two phrases where no endpoint was found;
- one endpoint calls several backends side by side: CLIENT spans of stage ``backend-request``, whose
  ``http.route`` is the backend's own pattern. They can be switched off
  (``layers.backend.traces.round_trip``), so their absence proves nothing by itself;
- it has no access log over OTLP.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Source
from otel_moesif.dialects import semconv
from otel_moesif.dialects.dialect import Dialect, Fields, Lookup, SpanTable
from otel_moesif.dialects.uri import first_segment, path_of
from otel_moesif.spans import SpanKind

_SCOPE = "io.krakend.krakend-otel"  # state/state.go, providerName
_STAGE = "krakend.stage"
# What stands for a route where there is none (http/server/tracking.go, EndpointPattern).
_NOT_FOUND = "404 Not Found"
_NO_ROUTES = (_NOT_FOUND, "Upgraded Connection")


def call(a: Lookup) -> Fields:
    """The call, from its SERVER span."""
    route = a.text("http.route")
    endpoint = pl.when(~route.is_in(_NO_ROUTES)).then(route)
    path = path_of(a.text("url.full"))
    status = a.integer("http.response.status_code")
    return {
        **semconv.call(a),
        "apiResourceTemplate": pl.coalesce(endpoint, path),
        "apiContext": first_segment(pl.coalesce(endpoint, path)),
        # Without an endpoint nobody else can have answered; else the backends' spans decide.
        "fault": pl.when(route == _NOT_FOUND).then(status >= 400),
    }


def is_call(a: Lookup) -> pl.Expr:
    """The span of the whole request."""
    return (pl.col("kind") == SpanKind.SERVER) & (a.text(_STAGE) == "global").fill_null(semconv.is_call(a))


def is_backend(a: Lookup) -> pl.Expr:
    """Requests to backends; KrakenD's own requests (keys of a JWT validator) have no stage."""
    stage = (a.text(_STAGE) == "backend-request").fill_null(value=False)
    return (pl.col("kind") == SpanKind.CLIENT) & stage


def _detect(source: Source, keys: frozenset[str]) -> bool:
    return source.scope_name == _SCOPE or _STAGE in keys


KRAKEND = Dialect(
    name="krakend",
    gateway_type="KRAKEND",
    detect=_detect,
    spans=SpanTable(call, semconv.backend, is_backend, is_call, parallel=True, absence_proves=False),
)
