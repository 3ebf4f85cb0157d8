"""Response or fault, error type, latencies: the rules that all dialects share.

Sources: WSO2's fault classification (error types and sub types: carbon-apimgt ``FaultCodeClassifier``,
``FaultSubCategories``), its latencies (``AnalyticsMetricsHandler``), and for gateways without WSO2's codes
the rule "a backend's error is a response, the gateway's own error is a fault".
"""

from __future__ import annotations

from functools import cache

import polars as pl

_NS_PER_MS = 1_000_000
_CLIENT_ERROR = 400  # RFC 9110 15.5: from here on a status is an error

_ERROR_TYPES = {
    401: "AUTH",
    403: "AUTH",
    429: "THROTTLED",
    502: "TARGET_CONNECTIVITY",
    503: "TARGET_CONNECTIVITY",
    504: "TARGET_CONNECTIVITY",
}
_SUB_TYPES = {
    401: "AUTHENTICATION_FAILURE",
    403: "AUTHORIZATION_FAILURE",
    404: "RESOURCE_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    504: "CONNECTION_TIMEOUT",
}

_code = pl.col("proxyResponseCode")
_called = pl.col("backend_end").is_not_null()
_failed = pl.col("failed").fill_null(value=False)
_no_success = (_code >= _CLIENT_ERROR) | (_code == 0)


@cache
def is_fault() -> pl.Expr:
    """Whether the gateway made the answer itself.

    What the dialect says counts. Else, with a backend span: an error although the backend did not answer or
    answered well. Without one: any error, if the sender is known to report its backend calls.
    """
    with_backend = _no_success & (_failed | (pl.col("status") < _CLIENT_ERROR).fill_null(value=False))
    rule = (
        pl.when(_called).then(with_backend).otherwise((_code >= _CLIENT_ERROR) & pl.col("reports_backends"))
    )
    return pl.coalesce(pl.col("fault"), rule).fill_null(value=False)


@cache
def outcome() -> list[pl.Expr]:
    """Columns ``eventType``, ``targetResponseCode`` and, of a fault, ``errorType`` and its companions.

    ``errorCode`` is the HTTP status where the gateway has no code of its own.
    """
    fault = pl.col("is_fault")
    by_status = _code.replace_strict(_ERROR_TYPES, default=None, return_dtype=pl.String)
    by_backend = pl.when(_called & _failed).then(pl.lit("TARGET_CONNECTIVITY"))
    error_type = pl.coalesce(pl.col("faultType"), by_backend, by_status, pl.lit("OTHER"))
    sub_type = _code.replace_strict(_SUB_TYPES, default=None, return_dtype=pl.String)
    other = pl.when(error_type == "OTHER").then(pl.lit("UNCLASSIFIED")).otherwise(pl.lit("OTHER"))
    # No backend span proves nothing here: the gateway does not report them. A response then came from there.
    unknown = ~_called & ~pl.col("reports_backends") & ~fault
    target = pl.coalesce(
        pl.col("targetResponseCode"),
        pl.when(_called).then(pl.col("status")),
        pl.when(unknown).then(_code),
        pl.lit(-1),
    )
    return [
        pl.when(fault).then(pl.lit("fault")).otherwise(pl.lit("response")).alias("eventType"),
        pl.when(target > 0).then(target).otherwise(-1).alias("targetResponseCode"),
        pl.when(fault).then(_code.fill_null(0)).alias("errorCode"),
        pl.when(fault).then(error_type).alias("errorType"),
        pl.when(fault).then(pl.coalesce(pl.col("faultReason"), sub_type, other)).alias("errorMessage"),
    ]


@cache
def latencies() -> list[pl.Expr]:
    """The four latencies in milliseconds; never negative, since two clocks may round differently.

    Without a backend call all time is the request's mediation (``AnalyticsMetricsHandler``: no T1, no T2).
    """
    total = pl.col("end") - pl.col("start")
    backend = pl.col("backend_end") - pl.col("backend_start")
    before = pl.when(_called).then(pl.col("backend_start") - pl.col("start")).otherwise(total)
    after = pl.when(_called).then(pl.col("end") - pl.col("backend_end")).otherwise(0)
    spans = {
        "responseLatency": total,
        "backendLatency": backend,
        "requestMediationLatency": before,
        "responseMediationLatency": after,
    }
    return [_milliseconds(name, duration) for name, duration in spans.items()]


def _milliseconds(name: str, duration: pl.Expr) -> pl.Expr:
    given = pl.col(name).round().cast(pl.Int64) if name != "responseLatency" else pl.lit(None, pl.Int64)
    return pl.coalesce(given, duration // _NS_PER_MS, pl.lit(0)).clip(lower_bound=0).alias(name)
