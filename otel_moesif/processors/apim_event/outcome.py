"""Response or fault, error type, latencies: the rules that all dialects share.

Sources: WSO2's fault classification (`faults`), its latencies (``AnalyticsMetricsHandler``), and for gateways
without WSO2's codes the rule "a backend's error is a response, the gateway's own error is a fault".
"""

from __future__ import annotations

from functools import cache

import polars as pl

from otel_moesif.processors.apim_event.faults import (
    OTHER,
    TARGET,
    inferred_code,
    sub_type_of_code,
    sub_type_of_status,
    type_of_code,
    type_of_status,
)

_NS_PER_MS = 1_000_000
_CLIENT_GONE = 499  # NGINX's and Traefik's word for a caller that left before the answer: nobody's failure
_CLIENT_ERROR = 400  # RFC 9110 15.5: from here on a status is an error

_code = pl.col("proxyResponseCode")
_called = pl.col("backend_end").is_not_null()
_failed = pl.col("failed").fill_null(value=False)
# A websocket lasts as long as somebody listens: that says nothing of the gateway or the backend. WSO2's
# provider for such APIs leaves its latencies empty, too.
_lasting = (pl.col("apiType") == "WS").fill_null(value=False)
_no_success = (_code >= _CLIENT_ERROR) | (_code == 0)


@cache
def plausible() -> list[pl.Expr]:
    """Columns ``proxyResponseCode``, null unless it is a status (RFC 9110 15) or 0, and times in their order.

    A gateway that lost a time sends 0; one whose clock was set back ends before it began. What answers a
    websocket's handshake is there at once.
    """
    start = pl.when(pl.col("start") > 0).then(pl.col("start")).otherwise(pl.col("end"))
    return [
        pl.when(_code.is_between(100, 999) | (_code == 0)).then(_code),
        start.alias("start"),
        pl.when(_lasting).then(start).otherwise(pl.max_horizontal(start, "end")).alias("end"),
    ]


@cache
def is_fault() -> pl.Expr:
    """Whether the gateway made the answer itself.

    What the dialect says counts. Else, with a backend span: an error although the backend did not answer or
    answered well. Without one: any error, if the sender is known to report its backend calls.
    """
    # A call that ended without any status was not answered.
    with_backend = (_no_success | (_code.is_null() & _failed)) & (
        _failed | (pl.col("status") < _CLIENT_ERROR).fill_null(value=False)
    )
    rule = (
        pl.when(_called).then(with_backend).otherwise((_code >= _CLIENT_ERROR) & pl.col("reports_backends"))
    )
    return pl.coalesce(pl.col("fault"), rule).fill_null(value=False)


@cache
def outcome() -> list[pl.Expr]:
    """Columns ``eventType`` and ``targetResponseCode``."""
    fault = pl.col("is_fault")
    # The gateway does not report its backend calls, or not what they were answered (a backend that did not
    # answer made it a fault): a response then came from there.
    unsaid = _called & ~_failed & pl.col("status").is_null()
    unknown = (unsaid | (~_called & ~pl.col("reports_backends"))) & ~fault
    target = pl.coalesce(
        pl.col("targetResponseCode"),
        pl.when(_called & ~_failed).then(pl.col("status")),
        pl.when(unknown & (_code != _CLIENT_GONE)).then(_code),
        pl.lit(-1),
    )
    return [
        pl.when(fault).then(pl.lit("fault")).otherwise(pl.lit("response")).alias("eventType"),
        pl.when(target > 0).then(target).otherwise(-1).alias("targetResponseCode"),
    ]


@cache
def no_error() -> list[pl.Expr]:
    """The columns of a fault where there is none, which is most of the time."""
    names = {"errorType": pl.String, "errorMessage": pl.String, "errorCode": pl.Int32}
    return [pl.lit(None, dtype).alias(name) for name, dtype in names.items()]


@cache
def error_type() -> pl.Expr:
    """Column ``errorType`` of a fault.

    It is what the gateway or the configuration says, else that of the code which the gateway reports, else
    what the dialect says, else what backend and status tell.
    """
    by_backend = pl.when(_called & _failed & (_code != _CLIENT_GONE).fill_null(value=True)).then(
        pl.lit(TARGET)
    )
    found = pl.coalesce(
        pl.col("errorType"),
        type_of_code(),
        pl.col("faultType"),
        by_backend,
        type_of_status(),
        pl.lit(OTHER),
    )
    return pl.when(pl.col("is_fault")).then(found).alias("errorType")


@cache
def sub_type() -> pl.Expr:
    """Column ``errorMessage`` of a fault: WSO2's sub type; needs ``errorType``."""
    other = pl.when(pl.col("errorType") == OTHER).then(pl.lit("UNCLASSIFIED")).otherwise(pl.lit("OTHER"))
    found = pl.coalesce(
        pl.col("errorMessage"),
        sub_type_of_code(),
        pl.col("faultReason"),
        sub_type_of_status("errorType"),
        other,
    )
    return pl.when(pl.col("is_fault")).then(found).alias("errorMessage")


@cache
def error_code() -> list[pl.Expr]:
    """Columns ``errorCode`` and ``errorCodeInferred`` of a fault; need ``errorType`` and ``errorMessage``."""
    known = pl.col("errorCode")
    code = pl.coalesce(known, inferred_code("errorType", "errorMessage"), pl.lit(0))
    fault = pl.col("is_fault")
    return [
        pl.when(fault).then(code).alias("errorCode"),
        pl.when(fault & known.is_null()).then(pl.lit(value=True)).alias("errorCodeInferred"),
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
    return [
        pl.when(_lasting).then(pl.lit(0)).otherwise(_milliseconds(name, duration)).alias(name)
        for name, duration in spans.items()
    ]


def _milliseconds(name: str, duration: pl.Expr) -> pl.Expr:
    given = (
        pl.col(name).round().cast(pl.Int64, strict=False)
        if name != "responseLatency"
        else pl.lit(None, pl.Int64)
    )
    return pl.coalesce(given, duration // _NS_PER_MS, pl.lit(0)).clip(lower_bound=0).alias(name)
