"""How many calls a sampled one stands for, as whoever sampled it has written down.

Sources: opentelemetry-specification trace/tracestate-probability-sampling.md (a span's ``tracestate`` has the
rejection threshold, ``ot=th:c``: up to 14 hex digits of a fraction of 2^56, trailing zeros left out); the
Collector's probabilistic_sampler, README "Sampling threshold information" (a log record has the same as an
attribute) and "Sampling priority": a span with ``sampling.priority`` above 0 is kept whatever the rate, so it
stands for itself alone. With 0 a sampler would have dropped it; that is a sampler's business, and a call that
came nevertheless is an event like any other.
"""

from __future__ import annotations

import polars as pl

from otel_moesif.dialects.dialect import Lookup

_THRESHOLDS = 2**56
_MAX_WEIGHT = 2**31 - 1
_DIGITS = r"[0-9a-f]{1,14}"


def of_spans(lookup: Lookup, spans: pl.DataFrame) -> list[pl.Expr]:
    """Column ``weight``, if any of the spans was sampled.

    Args:
        lookup: Over the spans.
        spans: With ``trace_state``.
    """
    if not spans["trace_state"].str.contains("th:", literal=True).any():
        return []
    threshold = pl.col("trace_state").str.extract(rf"(?:^|,)\s*ot=(?:[^,]*;)?th:({_DIGITS})(?:;|,|$)")
    forced = lookup.number("sampling.priority") > 0
    return [_weight(pl.when(~forced.fill_null(value=False)).then(threshold))]


def of_logs(lookup: Lookup) -> list[pl.Expr]:
    """Column ``weight``, if any of the records was sampled."""
    key = "sampling.threshold"
    return [_weight(lookup.text(key).str.extract(rf"^({_DIGITS})$"))] if key in lookup.keys[0] else []


def _weight(digits: pl.Expr) -> pl.Expr:
    threshold = digits.str.pad_end(14, "0").str.to_integer(base=16, strict=False)
    weight = _THRESHOLDS / (_THRESHOLDS - threshold)
    return weight.round().clip(1, _MAX_WEIGHT).cast(pl.Int32).alias("weight")
