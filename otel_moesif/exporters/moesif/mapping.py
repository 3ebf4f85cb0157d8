"""How an event becomes a Moesif event: a table to be read beside Moesif's event model.

Keys and their meaning: apidocs ``_events-api.md``; metadata has the names that WSO2's own reporter uses
(``SimpleMoesifClient.java``), but with native types, so that latencies can be aggregated.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import polars as pl

from otel_moesif import Events
from otel_moesif.events import Always, Shape, Verbatim, documented, json_text
from otel_moesif.exporters.moesif.content import body, has_header, headers
from otel_moesif.schema import FIELDS, TIMESTAMP, UNKNOWN, Place

# Without an address Moesif takes that of whoever delivers, which would be ours (apidocs _events-api.md);
# RFC 6890 reserves this one for "this host on this network", so it is nobody's.
_NO_ADDRESS = "0.0.0.0"  # noqa: S104 - not bound to

_ABSOLUTE = r"^[A-Za-z][A-Za-z0-9+.-]*://"  # RFC 3986 section 4.3


def to_moesif(events: Events) -> pl.Series:
    """Encode each event as one Moesif event.

    Args:
        events: A batch.

    Returns:
        One JSON object per event, as text.
    """
    frame = events.frame
    request_body, request_encoding = body(frame, "requestBody", "requestBodyEncoding")
    response_body, response_encoding = body(frame, "responseBody", "responseBodyEncoding")
    # Moesif requires a time; every span and every access log record has one, so the clock is the last resort
    arrival = pl.coalesce("requestTimestamp", "responseTimestamp", pl.lit(datetime.now(UTC), TIMESTAMP))
    answered = pl.col("proxyResponseCode") != 0  # 0: nobody was left to answer; then there is no response
    shape: Shape = {
        "request": {
            "time": _iso(arrival),
            "uri": _uri(frame),
            "verb": pl.col("apiMethod"),
            "headers": _request_headers(frame),
            "api_version": _known("apiVersion"),
            "ip_address": _known("userIp").fill_null(_NO_ADDRESS),
            "body": Verbatim(request_body),
            "transfer_encoding": request_encoding,
        },
        "response": {
            "time": pl.when(answered).then(_iso(_end(arrival))),
            "status": pl.when(answered).then("proxyResponseCode"),
            "headers": Verbatim(pl.when(answered).then(_response_headers(frame))),
            "body": Verbatim(pl.when(answered).then(response_body)),
            "transfer_encoding": pl.when(answered).then(response_encoding),
        },
        "user_id": _known("userName"),
        "company_id": pl.col("companyId"),
        "session_token": pl.col("sessionToken"),
        "transaction_id": pl.col("transactionId"),
        "trace_id": pl.col("traceId"),
        # the documented example has parent_span_id, the documented table and stored events parent_id
        "span": {"id": pl.col("spanId"), "parent_id": pl.col("parentSpanId")},
        "direction": Verbatim(pl.lit('"Incoming"')),
        "weight": pl.max_horizontal("weight", 1),
        "metadata": _metadata(),
    }
    return json_text(frame, shape)


@cache
def _metadata() -> Shape:
    documented_ones = {field.name: documented(field) for field in FIELDS if field.place is not Place.BACKEND}
    custom = Verbatim(pl.col("customProperties"), spread=True)
    # the guide has the user's name of a fault event among its properties, so faults carry it here as well
    return {**documented_ones, "userName": pl.col("userName"), "customProperties": custom}


def _request_headers(frame: pl.DataFrame) -> Always:
    user_agent, captured = _known("userAgent"), headers(frame, "requestHeaders")
    if captured is None:
        return Always({"User-Agent": user_agent})
    user_agent = pl.when(~has_header("requestHeaders", "user-agent")).then(user_agent)
    return Always({"User-Agent": user_agent, "captured": Verbatim(captured, spread=True)})


def _response_headers(frame: pl.DataFrame) -> pl.Expr:
    captured = headers(frame, "responseHeaders")
    return pl.lit("{}") if captured is None else captured.fill_null("{}")


def _iso(time: pl.Expr) -> pl.Expr:
    return time.dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")


def _known(column: str) -> pl.Expr:
    """The column's values, null where they only say that there is none."""
    return pl.when((pl.col(column) != UNKNOWN) & (pl.col(column) != "")).then(column)


def _end(arrival: pl.Expr) -> pl.Expr:
    latency = pl.duration(milliseconds=pl.col("responseLatency").fill_null(0), time_unit="ms")
    return pl.coalesce("responseTimestamp", arrival + latency)


def _uri(frame: pl.DataFrame) -> pl.Expr:
    """Full URI of the request; where no host is known it is ``UNKNOWN``, and the path the template's.

    WSO2's own reporter sends the context and the template of the resource, without a host.
    """
    uri = pl.col("requestUri")
    absolute = uri.str.contains(_ABSOLUTE).fill_null(value=False)
    if frame.select(absolute.all()).item():
        return uri
    context, template = _known("apiContext").fill_null(""), _known("apiResourceTemplate").fill_null("")
    context = context.str.strip_chars_end("/")
    whole = pl.when(template.str.starts_with(context)).then(template).otherwise(context + template)
    path = (
        pl.when(uri.str.starts_with("/")).then(uri).otherwise(pl.format("/{}", whole.str.strip_prefix("/")))
    )
    return pl.when(absolute).then(uri).otherwise(pl.format("http://{}{}", pl.lit(UNKNOWN), path))
