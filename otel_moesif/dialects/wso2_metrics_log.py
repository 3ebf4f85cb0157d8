"""WSO2 API Manager's analytics log: whole analytics events, as lines of text or as maps.

With ``type = "elk"`` the gateway writes one line per event to ``apim_metrics.log``
(apim-analytics-publisher ``ELKCounterMetric``)::

    … apimMetrics: apim:response, properties :{"apiName": …}

An OpenTelemetry Collector reads it (``filelog`` receiver) and sends it on, as a text or, if it was parsed on
the way, as a map: the event itself, or ``apimMetrics`` and ``properties`` as Logstash's pattern of the ELK
guide cuts them. Nothing in it is guessed or computed: fields keep their values, and what the event has no
column for goes on as a property in its own type.

Sources: docs-apim Moesif and ELK integration guides (the events), apim-analytics-publisher 951e75c9 (which
keys each reporter's schema has), carbon-apimgt ``SynapseAnalyticsDataProvider`` (``properties``).
"""

from __future__ import annotations

import polars as pl

from otel_moesif.attributes import Records
from otel_moesif.dialects.dialect import Dialect, Fields, LogTable, Lookup
from otel_moesif.dialects.wso2_event_text import COLUMNS
from otel_moesif.dialects.wso2_events import read_events

# Neither a quote before it nor anything behind it: no header of a call in somebody else's access log can
# pass for an event. Of a map, the one key that every event has; a quote within a value is escaped.
_LINE = r'^[^"]*apimMetrics:\s*apim:(?:response|faulty)\s*,\s*properties\s*:\s*\{(?s:.*)\}\s*$'
_MAP = r'^\s*\{(?s:.*)"(?:proxyResponseCode|apimMetrics)"\s*:'

# OffsetDateTime.toString leaves out what is zero: fraction, then seconds.
_TIMES = ("%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%dT%H:%MZ")
_NS_PER_MS = 1_000_000


def _events(records: Records) -> pl.Series:
    return read_events(records.frame["body"])


def call(a: Lookup) -> Fields:
    """The event, from the record's body."""
    event = a.computed("wso2 event", _events).struct
    start = _time(event.field("requestTimestamp"))
    latency = event.field("responseLatency").fill_null(0)
    kind = event.field("eventType")
    return {
        **{name: event.field(name) for name in COLUMNS if name not in {"requestTimestamp", "eventType"}},
        **{name: _known(event.field(name)) for name in ("requestSize", "responseSize")},
        "gatewayType": pl.coalesce(event.field("gatewayType"), pl.lit("SYNAPSE")),
        "start": start,
        "end": start + latency * _NS_PER_MS,
        "fault": kind == "fault",
    }


def is_call(a: Lookup) -> pl.Expr:
    """Bodies that could be read and tell when the call was."""
    return _time(a.computed("wso2 event", _events).struct.field("requestTimestamp")).is_not_null()


def _known(size: pl.Expr) -> pl.Expr:
    """Content-Length; -1 where there was none."""
    return pl.when(size != -1).then(size)


def _time(text: pl.Expr) -> pl.Expr:
    """Nanoseconds since the epoch."""
    return pl.coalesce(
        *(text.str.to_datetime(form, time_unit="ns", strict=False).cast(pl.Int64) for form in _TIMES)
    )


WSO2_METRICS_LOG = Dialect(
    name="wso2_metrics_log",
    gateway_type="SYNAPSE",
    detect=lambda _source, _keys: False,  # told by the body alone, whoever sends it
    logs=LogTable(call, is_call),
    body=f"{_LINE}|{_MAP}",
)
